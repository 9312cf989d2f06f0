"""The way past the page cache is for rows that lie together, come once and are not in memory, and for no others."""

import os

import numpy as np
import pytest
from cold import (
    FEATURES,
    HEADER,
    PAST_THE_CACHE,
    ROWS,
    SCARCE,
    SPLIT,
    WIDTH,
    no_direct_reads,
    opened,
    pages,
    save,
    warm,
)

from feedline.paging.pagein import PageIn
from feedline.paging.ways import direct
from feedline.paging.ways.direct import OnePass

ONCE = OnePass(100, rows_in_hand=2000)


@pytest.fixture
def folder(tmp_path):
    """Return a folder of `features` in two files and `labels`, nothing of them in memory."""
    return save(tmp_path)


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
    assert paging.choices["features"].in_words() == PAST_THE_CACHE
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
        os.pread(file.fileno(), 1, HEADER + 50 * WIDTH)  # the middle of the first run
    through(paging, np.arange(1000))
    assert paging.rows_from_disk == 1000


def test_a_look_brings_nothing_in(paging):
    paging.look(np.arange(0, ROWS, 100))
    assert paging.choices["features"].in_words() == PAST_THE_CACHE
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
        monkeypatch.setattr(direct, "Runs", refusal)
    paging = PageIn(opened(folder), SCARCE, one_pass)
    paging.look(np.arange(1000))
    assert paging.choices["features"].strategy == "advise"
    paging.close()
