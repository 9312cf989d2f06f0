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
    HEADER,
    ROWS,
    SPLIT,
    WIDTH,
    eventually,
    fail_reading,
    forget,
    no_direct_reads,
    opened,
    pages,
    save,
)
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline.paging.runs import Run, Runs

RUN_ROWS, IN_HAND = 100, 2000


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
    held = Runs(features, RUN_ROWS, IN_HAND)
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


def test_a_shorter_run_of_another_epoch_does_not_hide_a_longer_one(held):
    begun(held, np.arange(100, 200))
    for start in (120, 140, 160):
        begun(held, np.arange(start, start + 5))
    out, others = taken(held, np.arange(100, 200))
    assert others == []
    assert (out == FEATURES[100:200]).all()


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
        in_hand = rows[max(0, last - IN_HAND // RUN_ROWS + 1) : last + 1].ravel()
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


# --- what cannot be read -------------------------------------------------------------------------------------------------------


def test_runs_of_a_file_cut_short_are_given_back(held, folder):
    os.truncate(folder / "features" / "part-2.npy", HEADER + 150 * WIDTH)
    begun(held, np.arange(SPLIT - RUN_ROWS, SPLIT + 300))
    out, others = taken(held, np.arange(SPLIT - RUN_ROWS, SPLIT + 300))
    assert others == list(range(SPLIT + RUN_ROWS, SPLIT + 300))
    assert (out[: 2 * RUN_ROWS] == FEATURES[SPLIT - RUN_ROWS : SPLIT + RUN_ROWS]).all()


def test_a_run_of_which_a_byte_is_missing_is_given_back(held, folder):
    os.truncate(folder / "features" / "part-2.npy", HEADER + 2 * RUN_ROWS * WIDTH - 1)
    begun(held, np.arange(SPLIT, SPLIT + 2 * RUN_ROWS))
    assert taken(held, np.arange(SPLIT, SPLIT + 2 * RUN_ROWS))[1] == list(range(SPLIT + RUN_ROWS, SPLIT + 2 * RUN_ROWS))


def test_runs_that_a_disk_does_not_give_are_given_back(held, monkeypatch):
    fail_reading(monkeypatch, row=250)
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
        Runs(features, RUN_ROWS, IN_HAND)
    assert open_files() == count


def test_a_file_system_that_opens_files_so_and_does_not_read_them_is_refused(features, monkeypatch):
    count = open_files()
    monkeypatch.setattr(os, "preadv", no_direct_reads)
    with pytest.raises(OSError, match="Invalid argument"):
        Runs(features, RUN_ROWS, IN_HAND)
    assert open_files() == count


def test_threads_and_descriptors_end_with_it(features):
    count = open_files()
    held = Runs(features, RUN_ROWS, IN_HAND)
    begun(held, np.arange(200))
    assert taken(held, np.arange(200))[1] == []
    assert open_files() == count + 2
    held.close()
    eventually(lambda: not [each for each in threading.enumerate() if each.name.startswith("feedline-run")])
    del held
    assert open_files() == count
