"""A feed that takes each row once, from a disk: all are read past the page cache before they are taken, or named."""

import os
import re
import threading

import numpy as np
import pytest
from cold import (
    FEATURES,
    HEADER,
    LABELS,
    PAST_THE_CACHE,
    ROWS,
    SCARCE,
    WIDTH,
    eventually,
    fail_reading,
    limited,
    opened,
    save,
)

import feedline
from feedline.errors import FileShrankError, StorageError
from feedline.feed import gather, room
from feedline.files.array import Array
from feedline.order.shuffle import order
from feedline.paging.pagein import PageIn

BATCH, SLOT = 80, 4 * 80
SHUFFLES = {"none": {}, "block": {"block_rows": 100, "window": 8}}


@pytest.fixture
def folder(tmp_path):
    """Return a folder of `features` in two files and `labels`, nothing of them in memory."""
    return save(tmp_path)


@pytest.fixture
def small(monkeypatch):
    """Make slots of four batches, and little memory, of which the process itself takes nothing."""
    monkeypatch.setattr(gather, "SLOT_BYTES", SLOT * (WIDTH + 4))
    limited(monkeypatch, SCARCE)


@pytest.fixture
def one_by_one(monkeypatch):
    """Return the numbers of rows of features that are read by themselves, at each take."""
    real, seen = Array.take_past_mapping, []

    def counted(array, rows, out):
        if array.name == "features":
            seen.append(len(rows))
        real(array, rows, out)

    monkeypatch.setattr(Array, "take_past_mapping", counted)
    return seen


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_every_row_is_brought_in_before_it_is_taken(folder, one_by_one, shuffle, threads, world):
    arguments = {"shuffle": shuffle, "seed": 3, "threads": threads, "rank": world - 1, "world": world}
    with feedline.Feed(opened(folder), BATCH, epochs=3, **SHUFFLES[shuffle], **arguments) as feed:
        for epoch in range(3):
            seen = []
            for batch in feed:
                assert (batch["features"] == FEATURES[batch["labels"]]).all()
                seen.append(batch["labels"].copy())
            blocks = gather.Blocks(100, 8) if shuffle == "block" else "none"
            expected = LABELS[order(ROWS, blocks, 3, epoch).rows(0, ROWS)]
            if shuffle == "block":
                own = expected[world - 1 :: world]
            else:
                own = expected.reshape(-1, world, BATCH // world)[:, world - 1].ravel()
            assert np.concatenate(seen).tolist() == own.tolist()
        assert feed.stats().paging["features"] == PAST_THE_CACHE
        assert 3 * ROWS / world <= feed.stats().rows_from_disk <= 3.1 * ROWS
    assert one_by_one == []


@pytest.mark.usefixtures("small")
def test_a_thread_waits_for_the_one_that_brings_its_rows_in(folder, one_by_one, monkeypatch):
    """A scheduler may let it overtake the other by any number of slots."""
    real, held_up = PageIn.ahead, threading.Event()

    def slow(paging, rows):
        held_up.wait(0.02)
        real(paging, rows)

    monkeypatch.setattr(PageIn, "ahead", slow)
    with feedline.Feed(opened(folder), BATCH, shuffle="none", epochs=1, threads=4) as feed:
        assert np.concatenate([batch["labels"].copy() for batch in feed]).tolist() == LABELS.tolist()
    assert one_by_one == []


@pytest.mark.usefixtures("small")
def test_a_feed_over_a_disk_that_fails_names_the_row(folder, monkeypatch):
    fail_reading(monkeypatch, row=250)
    with feedline.Feed(opened(folder), BATCH, shuffle="none", threads=2) as feed:
        part = feed.arrays["features"].mapped[0].file.path
        with pytest.raises(StorageError, match=re.escape(f"{part}: row 250 cannot be read (Input/output error)")):
            list(feed)
    eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("feedline")])


@pytest.mark.usefixtures("small")
def test_a_feed_over_a_file_cut_short_names_the_row(folder):
    path = folder / "features" / "part-2.npy"
    with feedline.Feed(opened(folder), BATCH, shuffle="none", threads=2) as feed:
        epoch = iter(feed)
        next(epoch)
        os.truncate(path, HEADER + 17 * WIDTH)
        with pytest.raises(FileShrankError, match=f"^{re.escape(str(path))}: was cut short .* row 17$"):
            list(epoch)


def test_what_it_takes_of_memory_counts(folder, monkeypatch):
    monkeypatch.setattr(gather, "SLOT_BYTES", SLOT * (WIDTH + 4))
    monkeypatch.setattr(room, "anonymous_bytes", lambda: 0)
    monkeypatch.setattr(gather, "memory_bytes", lambda: SCARCE)
    with (
        feedline.Feed(opened(folder), BATCH, shuffle="none", threads=1) as feed,
        pytest.raises(
            feedline.errors.EnvironmentInvalidError, match=r"\d MB for rows on their way, .*prefetchBatches$"
        ),
    ):
        next(iter(feed))
