"""Rows that lie together and come once are read past the page cache, and are the right ones whatever is read meanwhile."""

import errno
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from cold import (
    FEATURES,
    LABELS,
    ROWS,
    SCARCE,
    SPLIT,
    WIDTH,
    eventually,
    forget,
    limited,
    no_direct_reads,
    opened,
    pages,
    save,
    warm,
)
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline import gather, npy, pagein
from feedline.arrays import Array
from feedline.errors import FileShrankError, StorageError
from feedline.order import order
from feedline.pagein import OnePass, PageIn
from feedline.runs import Run, Runs

RUN_ROWS = 100
ONCE = OnePass(RUN_ROWS, rows_in_hand=2000)
COLD = (
    "Read past the page cache ahead of need: 0% of the coming rows are in memory, and rows that lie together come once."
)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of `features` in two files and `labels`, nothing of them in memory."""
    return save(tmp_path)


@pytest.fixture
def features(folder):
    """Return the opened features, cold."""
    return opened(folder)["features"]


@pytest.fixture
def held(features):
    """Return runs of the features, of which 2000 rows can be in hand."""
    held = Runs(features, RUN_ROWS, ONCE.rows_in_hand)
    yield held
    held.close()


def begun(held, rows):
    """Have rows read; return the runs that they were cut to."""
    cut = held.cut(np.asarray(rows))
    held.begin(cut)
    return cut


def taken(held, rows):
    """Return what is given of rows, zeros where nothing is, and the rows that are not given."""
    rows, out = np.asarray(rows), np.zeros((len(rows), WIDTH), np.uint8)
    others = held.take(rows, out)
    return out, rows[others].tolist()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


# --- runs ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_runs(tmp_path_factory):
    """Return runs of the features, 1500 rows of which lie together mostly: they are read in four parts."""
    held = Runs(opened(save(tmp_path_factory.mktemp("rows")))["features"], 1500, 3000)
    yield held
    held.close()


@given(blocks=st.lists(st.tuples(st.integers(0, ROWS - 300), st.integers(1, 300)), min_size=1, max_size=20))
def test_rows_are_cut_to_runs_as_they_follow_each_other(long_runs, blocks):
    rows = np.concatenate([np.arange(first, first + count) for first, count in blocks])
    cut = long_runs.cut(rows)
    assert np.concatenate([np.arange(run.first, run.first + run.rows) for run in cut]).tolist() == rows.tolist()
    assert max(run.rows for run in cut) <= 1500 / 4
    assert len(cut) <= len(blocks)


def test_blocks_that_follow_each_other_in_the_file_are_cut_to_what_is_read_at_once(held):
    assert held.cut(np.arange(50, 350)) == [Run(50, 100), Run(150, 100), Run(250, 100)]


WIDTHS = {"a row of a page": 4096, "a little more": 4097, "a few bytes": 12, "many pages": 300_000, "odd": 2500}


@pytest.mark.parametrize("row_bytes", WIDTHS.values(), ids=WIDTHS)
def test_rows_of_any_width_are_those_of_the_files(tmp_path, row_bytes):
    rows = 40
    values = np.random.default_rng(0).integers(0, 256, (rows, row_bytes), np.uint8)
    (tmp_path / "wide").mkdir()
    np.save(tmp_path / "wide" / "part-1.npy", values[:17])
    np.save(tmp_path / "wide" / "part-2.npy", values[17:])
    array = feedline.open_arrays(tmp_path)["wide"]
    held = Runs(array, 10, rows)
    held.begin(held.cut(np.arange(rows)))
    for wanted in (np.arange(rows), np.random.default_rng(1).permutation(rows)):
        out = np.zeros((rows, row_bytes), np.uint8)
        assert not len(held.take(wanted, out))
        assert (out == values[wanted]).all()
    held.close()


def test_rows_of_a_split_are_those_of_the_split(folder):
    array = opened(folder, rows=(SPLIT - 150, SPLIT + 150))["features"]
    held = Runs(array, RUN_ROWS, 300)
    begun(held, np.arange(300))
    out, others = taken(held, np.arange(300))
    assert others == []
    assert (out == FEATURES[SPLIT - 150 : SPLIT + 150]).all()
    held.close()


def test_nothing_of_it_is_left_in_the_page_cache(held, features, folder):
    forget(folder)
    begun(held, np.arange(SPLIT - 1000, SPLIT + 1000))
    assert taken(held, np.arange(SPLIT - 1000, SPLIT + 1000))[1] == []
    assert sum(pages(part.file.path).sum() for part in features.mapped) <= 4


def test_rows_that_nobody_asked_for_are_given_back(held):
    assert taken(held, [5])[1] == [5], "nothing at all"
    begun(held, np.arange(1000, 1100))
    begun(held, np.arange(3000, 3030))
    wanted = [999, 1000, 1099, 1100, 0, 3029, 3030, ROWS - 1]
    out, others = taken(held, wanted)
    assert others == [999, 1100, 0, 3030, ROWS - 1]
    assert (out[[1, 2, 5]] == FEATURES[[1000, 1099, 3029]]).all()
    assert not out[[0, 3, 4, 6, 7]].any()


def test_before_so_many_others_were_asked_for_no_row_goes(held):
    rows = np.random.default_rng(0).permutation(ROWS // RUN_ROWS)[:, None] * RUN_ROWS + np.arange(RUN_ROWS)
    for last in range(len(rows)):
        begun(held, rows[last])
        in_hand = rows[max(0, last - ONCE.rows_in_hand // RUN_ROWS + 1) : last + 1].ravel()
        out, others = taken(held, in_hand)
        assert others == []
        assert (out == FEATURES[in_hand]).all()


def test_what_is_asked_for_again_is_as_if_it_were_new(held):
    begun(held, np.arange(RUN_ROWS))
    for start in range(1000, 1000 + 50 * RUN_ROWS, RUN_ROWS):
        begun(held, np.arange(start, start + RUN_ROWS))
        begun(held, np.arange(RUN_ROWS // 2))
        assert taken(held, np.arange(start, start + RUN_ROWS))[1] == []
    assert taken(held, np.arange(RUN_ROWS))[1] == []


def test_what_is_asked_for_again_is_not_read_again(held, monkeypatch):
    begun(held, np.arange(200))
    assert taken(held, np.arange(200))[1] == []
    monkeypatch.setattr(os, "preadv", None)
    begun(held, np.arange(200))
    begun(held, np.arange(50))
    out, others = taken(held, np.arange(200))
    assert others == []
    assert (out == FEATURES[:200]).all()


def test_a_longer_run_that_begins_with_the_same_row_takes_the_place_of_a_shorter_one(held):
    begun(held, np.arange(50))
    begun(held, np.arange(100))
    assert taken(held, np.arange(100))[1] == []


def test_rows_are_right_while_others_are_read_in_their_place(features):
    """Far more is asked for than can be in hand, by several threads at once."""
    held = Runs(features, RUN_ROWS, rows_in_hand=500)
    wrong, given = [], []

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(150):
            firsts = random.integers(0, ROWS - RUN_ROWS, 3)
            rows = (firsts[:, None] + np.arange(RUN_ROWS)).ravel()
            if seed == 0:
                begun(held, rows)
            wanted = np.concatenate((random.permutation(rows), random.integers(0, ROWS, 300)))
            out, others = taken(held, wanted)
            is_given = ~np.isin(wanted, others)
            wrong.append((out[is_given] != FEATURES[wanted[is_given]]).any())
            given.append(np.count_nonzero(is_given))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 4 * 150
    assert not any(wrong)
    assert sum(given) > 10_000
    held.close()


def test_a_run_in_use_keeps_its_place(held, monkeypatch):
    """Whoever is told to wait for rows finds them, whatever is asked for meanwhile."""
    real, gate, waiting = os.preadv, threading.Event(), threading.Event()

    def late(descriptor, buffers, offset, *flags):
        if offset < RUN_ROWS * WIDTH:
            waiting.set()
            assert gate.wait(30)
        return real(descriptor, buffers, offset, *flags)

    monkeypatch.setattr(os, "preadv", late)
    begun(held, np.arange(RUN_ROWS))
    found = []
    taker = threading.Thread(target=lambda: found.append(taken(held, np.arange(RUN_ROWS))))
    taker.start()
    assert waiting.wait(30)
    eventually(held._users.any)
    for start in range(400, SPLIT - RUN_ROWS, RUN_ROWS // 2):
        begun(held, np.arange(start, start + RUN_ROWS))
        assert taken(held, [start])[1] == []
    gate.set()
    taker.join()
    ((out, others),) = found
    assert others == []
    assert (out == FEATURES[:RUN_ROWS]).all()


def test_a_file_that_another_one_took_the_name_of_is_read_on(held, folder):
    np.save(folder / "new.npy", np.zeros_like(FEATURES[:SPLIT]))
    (folder / "new.npy").replace(folder / "features" / "part-1.npy")
    begun(held, np.arange(200))
    assert (taken(held, np.arange(200))[0] == FEATURES[:200]).all()


# --- what cannot be read -------------------------------------------------------------------------------------------------------


def test_runs_of_a_file_cut_short_are_given_back(held, folder):
    os.truncate(folder / "features" / "part-2.npy", 128 + 150 * WIDTH)
    begun(held, np.arange(SPLIT - RUN_ROWS, SPLIT + 300))
    out, others = taken(held, np.arange(SPLIT - RUN_ROWS, SPLIT + 300))
    assert others == list(range(SPLIT + RUN_ROWS, SPLIT + 300))
    assert (out[: 2 * RUN_ROWS] == FEATURES[SPLIT - RUN_ROWS : SPLIT + RUN_ROWS]).all()


def test_a_run_of_which_a_byte_is_missing_is_given_back(held, folder):
    os.truncate(folder / "features" / "part-2.npy", 128 + 2 * RUN_ROWS * WIDTH - 1)
    begun(held, np.arange(SPLIT, SPLIT + 2 * RUN_ROWS))
    assert taken(held, np.arange(SPLIT, SPLIT + 2 * RUN_ROWS))[1] == list(range(SPLIT + RUN_ROWS, SPLIT + 2 * RUN_ROWS))


@pytest.fixture
def bad(monkeypatch):
    """Have the disk fail with row 250 of every file, whichever way it is read."""
    real, one = npy.read, os.preadv
    place = 128 + 250 * WIDTH

    def read(descriptor, offsets, length, addresses):
        counts = real(descriptor, offsets, length, addresses)
        counts[offsets == place] = -errno.EIO
        return counts

    def preadv(descriptor, buffers, offset, *flags):
        if offset <= place < offset + sum(len(buffer) for buffer in buffers):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return one(descriptor, buffers, offset, *flags)

    monkeypatch.setattr(npy, "read", read)
    monkeypatch.setattr(os, "preadv", preadv)


@pytest.mark.usefixtures("bad")
def test_runs_that_a_disk_does_not_give_are_given_back(held):
    begun(held, np.arange(600))
    assert taken(held, np.arange(600))[1] == list(range(200, 300))
    begun(held, np.arange(600))
    assert taken(held, np.arange(600))[1] == list(range(200, 300)), "and can be asked for again"


def test_a_file_system_without_such_reads_is_refused_and_nothing_stays_open(features, monkeypatch):
    real, count = os.open, open_files()

    def no_second(path, flags, *mode):
        if flags & os.O_DIRECT and os.path.realpath(path).endswith("part-2.npy"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", no_second)
    with pytest.raises(OSError, match="Invalid argument"):
        Runs(features, RUN_ROWS, 2000)
    assert open_files() == count


def test_a_file_system_that_opens_files_so_and_does_not_read_them_is_refused(features, monkeypatch):
    count = open_files()
    monkeypatch.setattr(os, "preadv", no_direct_reads)
    with pytest.raises(OSError, match="Invalid argument"):
        Runs(features, RUN_ROWS, 2000)
    assert open_files() == count


def test_threads_and_descriptors_end_with_it(features):
    count = open_files()
    held = Runs(features, RUN_ROWS, 2000)
    begun(held, np.arange(200))
    assert taken(held, np.arange(200))[1] == []
    assert open_files() == count + 2
    held.close()
    eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("feedline-run")])
    del held
    assert open_files() == count


# --- the way of an array -------------------------------------------------------------------------------------------------------


@pytest.fixture
def paging(folder):
    """Return the ways of the arrays where rows come once, and none is in memory."""
    arrays = opened(folder)
    paging = PageIn(arrays, SCARCE, ONCE)
    paging.arrays = arrays
    yield paging
    paging.close()


def through(paging, rows):
    """Bring rows in and return them."""
    paging.ahead(lambda: rows)
    out = np.zeros((len(rows), WIDTH), np.uint8)
    paging.take(paging.arrays["features"], rows, out)
    return out


def test_cold_rows_that_lie_together_are_read_past_the_page_cache(paging):
    rows = np.arange(SPLIT - 500, SPLIT + 500)
    assert (through(paging, rows) == FEATURES[rows]).all()
    assert paging.choices["features"].in_words() == COLD
    assert paging.rows_from_disk == len(rows)


def test_rows_that_were_not_brought_in_are_read_all_the_same(paging):
    rows = np.arange(1000)
    through(paging, rows)
    wanted = np.array([3, 5000, 4, 7000])
    for part in (wanted, wanted[1::2]):
        out = np.zeros((len(part), WIDTH), np.uint8)
        paging.take(paging.arrays["features"], part, out)
        assert (out == FEATURES[part]).all()


def test_what_is_in_memory_is_not_read_and_stays(paging, folder):
    warm(folder / "features" / "part-1.npy")
    rows = np.arange(SPLIT - 500, SPLIT + 500)
    assert (through(paging, rows) == FEATURES[rows]).all()
    assert paging.rows_from_disk == 500
    assert paging.choices["features"].reason.startswith("50% of the coming rows are in memory")
    paging.let_go(rows)
    assert pages(folder / "features" / "part-1.npy").mean() > 0.95
    rows = np.arange(1000)
    assert (through(paging, rows) == FEATURES[rows]).all()
    assert paging.choices["features"].strategy == "resident"
    assert paging.rows_from_disk == 500


def test_a_run_of_which_only_some_rows_are_in_memory_is_read(paging, folder):
    with (folder / "features" / "part-1.npy").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 1, 128 + 50 * WIDTH)  # the middle of the first run
    through(paging, np.arange(1000))
    assert paging.rows_from_disk == 1000


def test_a_look_brings_nothing_in(paging):
    paging.look(np.arange(0, ROWS, 100))
    assert paging.choices["features"].in_words() == COLD
    assert paging.rows_from_disk == 0


OTHERWISE = {
    "rows that come one by one": (OnePass(1, 2000), None),
    "a few rows": (OnePass(25, 2000), None),
    "rows that come again": (None, None),
    "a file system without such reads": (ONCE, no_direct_reads),
}


@pytest.mark.parametrize(("one_pass", "refusal"), OTHERWISE.values(), ids=OTHERWISE)
def test_others_go_through_the_page_cache(folder, monkeypatch, one_pass, refusal):
    if refusal:
        monkeypatch.setattr(pagein, "Runs", refusal)
    paging = PageIn(opened(folder), SCARCE, one_pass)
    paging.look(np.arange(1000))
    assert paging.choices["features"].strategy == "advise"
    paging.close()


# --- a feed --------------------------------------------------------------------------------------------------------------------

BATCH, SLOT = 80, 4 * 80
SHUFFLES = {"none": {}, "block": {"block_rows": 100, "window": 8}}


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
            expected = LABELS[order(ROWS, blocks, 3, epoch).rows(0, ROWS)].reshape(-1, world, BATCH // world)
            assert np.concatenate(seen).tolist() == expected[:, world - 1].ravel().tolist()
        assert feed.stats().paging["features"] == COLD
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


@pytest.mark.usefixtures("small", "bad")
def test_a_feed_over_a_disk_that_fails_names_the_row(folder):
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
        os.truncate(path, 128 + 17 * WIDTH)
        with pytest.raises(FileShrankError, match=f"^{re.escape(str(path))}: was cut short .* row 17$"):
            list(epoch)


def test_what_it_takes_of_memory_counts(folder, monkeypatch):
    monkeypatch.setattr(gather, "SLOT_BYTES", SLOT * (WIDTH + 4))
    monkeypatch.setattr(gather, "anonymous_bytes", lambda: 0)
    monkeypatch.setattr(gather, "memory_bytes", lambda: SCARCE)
    with (
        feedline.Feed(opened(folder), BATCH, shuffle="none", threads=1) as feed,
        pytest.raises(
            feedline.errors.EnvironmentInvalidError, match=r"\d MB for rows on their way, .*prefetchBatches$"
        ),
    ):
        next(iter(feed))


def test_large_pages_are_asked_for(features):
    """Of small ones, a virtual disk fills fewer than half as many bytes in the same time."""
    held = Runs(features, RUN_ROWS, rows_in_hand=ROWS)
    begun(held, np.arange(ROWS))
    assert taken(held, np.arange(ROWS))[1] == []
    first = held._stages[0].__array_interface__["data"][0]
    flags = {}
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        start, stop = (int(each, 16) for each in block.split(" ", 1)[0].split("-"))
        flags[range(start, stop)] = "VmFlags" in block and " hg" in block.rsplit("VmFlags:", 1)[1]
    assert [is_huge for where, is_huge in flags.items() if first in where] == [True]
    held.close()
