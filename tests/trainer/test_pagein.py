"""Rows come into memory before they are gathered; whatever way is taken, the batches are the same."""

import mmap
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline import pagein
from feedline.pagein import Evidence, PageIn, choose, is_in_memory, ranges, slots_ahead, survey
from feedline.residency import resident_bytes

GB = 1_000_000_000
ROWS, WIDTH = 20_000, 2500
SOME = np.random.default_rng(0).permutation(ROWS)[:200]
"""In no order: of rows in order the kernel would read more than it is asked for."""


def evidence(**changes):
    return Evidence(**{"array_bytes": 8 * GB, "row_bytes": WIDTH, "memory_bytes": GB, "resident": 0.1} | changes)


CHOICES = {
    "what is not in memory is read ahead": (evidence(), "advise", "10% of the coming rows"),
    "what is in memory is left alone": (evidence(resident=1.0), "resident", "100% of the coming rows"),
    "a row in a hundred may be missing": (evidence(resident=0.99), "resident", "99%"),
    "one in twenty may not": (evidence(resident=0.95), "advise", "95%"),
    "many small rows are kept": (evidence(row_bytes=4, array_bytes=60_000_000), "resident", "small"),
    "too many of them are not": (evidence(row_bytes=4, array_bytes=GB), "advise", "10%"),
    "large rows are not small, though they are few": (evidence(row_bytes=4096, array_bytes=8192), "advise", "10%"),
    "what nobody knows and fits": (evidence(resident=None, array_bytes=GB // 2), "resident", "does not say"),
    "what nobody knows and does not fit": (evidence(resident=None), "advise", "does not say"),
}


@pytest.mark.parametrize(("seen", "strategy", "reason"), CHOICES.values(), ids=CHOICES)
def test_the_way_follows_from_what_is_seen(seen, strategy, reason):
    choice = choose(seen)
    assert choice.strategy == strategy
    assert reason in choice.reason
    assert choice.in_words().endswith(".")


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=200),
    st.integers(64, 300),
    st.integers(1, 20_000),
)
def test_ranges_hold_every_row_once_in_whole_pages(rows, offset, row_bytes):
    starts, stops = ranges(np.array(rows), offset, row_bytes)
    assert (starts % pagein._PAGE == 0).all()
    assert (stops % pagein._PAGE == 0).all()
    assert (starts[1:] > stops[:-1]).all(), "ranges that touch are one"
    for row in rows:
        first = offset + row * row_bytes
        (inside,) = np.flatnonzero((starts <= first) & (stops >= first + row_bytes))
        assert stops[inside] - starts[inside] <= len(rows) * (row_bytes + 2 * pagein._PAGE)


@pytest.mark.parametrize(
    ("rows", "memory", "slots"),
    [(3200, GB, 2), (3200, 200_000_000, 1), (3200, 50_000_000, 0)],
    ids=["enough", "little", "least"],
)
def test_the_look_ahead_takes_an_eighth_of_the_memory_at_most(data, rows, memory, slots):
    assert slots_ahead(rows, feedline.open_arrays(data), memory) == slots


@pytest.fixture
def data(tmp_path):
    """Return a folder of two files of one array, and labels, none of it in memory."""
    numbers = np.arange(ROWS * WIDTH, dtype=np.uint32).astype(np.uint8).reshape(ROWS, WIDTH)
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features" / "part-1.npy", numbers[: ROWS // 3])
    np.save(tmp_path / "features" / "part-2.npy", numbers[ROWS // 3 :])
    np.save(tmp_path / "labels.npy", np.arange(ROWS, dtype=np.int32))
    forget(tmp_path)
    if resident_bytes(feedline.open_arrays(tmp_path)) > ROWS * WIDTH // 2:
        pytest.skip("temporary files are kept in memory here: set TMPDIR to a folder on a disk")
    return tmp_path


def forget(folder):
    """Take the files out of the page cache."""
    for path in folder.rglob("*.npy"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def eventually(ask, seconds=20):
    deadline = time.monotonic() + seconds
    while not ask():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_kernel_tells_what_is_in_memory(data):
    arrays = feedline.open_arrays(data)
    part = arrays["features"].mapped[0]
    last = part.file.header.offset + part.rows.nbytes - 1
    assert is_in_memory(part.file, last) is False
    part.rows[-1].sum()
    assert is_in_memory(part.file, last) is True


def test_of_anothers_files_a_quick_answer_tells(data, monkeypatch):
    monkeypatch.setattr(pagein, "is_resident", lambda file, byte: None)
    part = feedline.open_arrays(data)["features"].mapped[1]

    def share():
        """Return the share of some rows that are taken to be in memory; a busy machine may be wrong about a few."""
        bytes_ = part.file.header.offset + SOME[len(part.rows) > SOME][:50] * WIDTH
        return np.mean([is_in_memory(part.file, byte) for byte in bytes_.tolist()])

    assert share() < 0.5
    part.rows.sum()
    assert share() > 0.5


def test_rows_that_were_told_of_come_into_memory_and_others_do_not(data):
    arrays = feedline.open_arrays(data)
    features = arrays["features"]
    wanted = np.arange(5, ROWS, 500)
    PageIn(arrays, memory_bytes=GB).ahead(lambda: wanted)
    first = set(wanted[wanted < ROWS // 3].tolist())
    part = features.mapped[0]
    before = resident_bytes(arrays)
    eventually(lambda: all(is_in_memory(part.file, part.file.header.offset + row * WIDTH) for row in first))
    assert before < arrays.bytes // 2, "the kernel's read-ahead was let loose"


def test_labels_are_read_whole_at_the_first_rows(data):
    arrays = feedline.open_arrays(data)
    paging = PageIn(arrays, memory_bytes=GB)
    paging.ahead(lambda: np.array([1, ROWS // 2, ROWS - 2]))
    part = arrays["labels"].mapped[0]
    eventually(lambda: all(is_in_memory(part.file, byte) for byte in range(128, part.rows.nbytes, 4096)))
    assert paging.choices["labels"].strategy == "resident"
    assert paging.choices["features"].strategy == "advise"


def test_what_has_come_into_memory_is_left_alone(data):
    arrays = feedline.open_arrays(data)
    paging = PageIn(arrays, memory_bytes=GB)
    paging.ahead(lambda: SOME)
    assert paging.choices["features"].strategy == "advise"
    for part in arrays["features"].mapped:
        part.rows.sum()
    paging.ahead(lambda: SOME)
    assert paging.choices["features"].strategy == "resident"
    for part in arrays["features"].mapped:
        part.file._mapping.madvise(mmap.MADV_DONTNEED)  # or the page cache keeps them
    forget(data)
    for _ in range(pagein._LOOK_EVERY):
        paging.ahead(lambda: SOME)
    assert paging.choices["features"].strategy == "advise"


@pytest.mark.parametrize("rows", [None, (100, ROWS - 50)], ids=["all", "some"])
def test_the_batches_are_the_same_by_every_way(data, rows):
    def batches(residency, **options):
        forget(data)
        arrays = feedline.open_arrays(data, rows, residency)
        with feedline.Feed(arrays, 32, seed=3, epochs=2, **options) as feed:
            for _ in range(2):
                for batch in feed:
                    yield batch["labels"].copy(), batch["features"].copy()

    for (labels, features), (others, theirs), (more, again) in zip(
        batches("auto", threads=2), batches("mapped"), batches("memory"), strict=True
    ):
        assert (labels == others).all()
        assert (labels == more).all()
        assert (features == theirs).all()
        assert (features == again).all()


def test_a_feed_says_how_its_rows_come_in(data):
    arrays = feedline.open_arrays(data)
    with feedline.Feed(arrays, 32, seed=3) as feed:
        next(iter(feed))
        paging = feed.stats().paging
    assert paging["features"].startswith("Read ahead of need: ")
    assert paging["labels"] == "Taken as it lies in memory: it is small, and is read once, in order."
    with feedline.Feed(feedline.open_arrays(data, residency="mapped"), 32) as feed:
        next(iter(feed))
        assert feed.stats().paging == {}


def test_a_survey_says_what_would_be_done(data):
    found = survey(feedline.open_arrays(data), memory_bytes=GB)
    assert found["labels"].strategy == "resident"
    assert found["features"].strategy == "advise"
    assert found["features"].reason.endswith("% of the coming rows are in memory")


def test_a_file_cut_short_ahead_of_need_is_the_usual_error(data):
    arrays = feedline.open_arrays(data)
    path = data / "features" / "part-2.npy"
    os.truncate(path, path.stat().st_size // 2)
    PageIn(arrays, memory_bytes=GB).ahead(lambda: np.arange(0, ROWS, 100))
    with feedline.Feed(arrays, 32) as feed, pytest.raises(feedline.errors.DataError, match="cut short"):
        list(feed)


def test_rows_of_the_next_epoch_are_brought_in_before_this_one_ends(data):
    arrays = feedline.open_arrays(data)
    told = []
    with feedline.Feed(arrays, 100, seed=5, epochs=2) as feed:
        iterator = iter(feed)
        next(iterator)
        ahead = feed._gatherer._pagein.ahead
        feed._gatherer._pagein.ahead = lambda rows: (told.append(rows()), ahead(rows))
        for _ in iterator:
            pass
        steps = sum(map(len, told))
        assert steps > 0
        assert feed._gatherer._next_look.position.epoch == 1
