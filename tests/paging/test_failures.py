"""Rows that cannot be read: which file and row it was, and nothing still at work when that is said."""

import errno
import os
import threading

import numpy as np
import pytest
from cold import (
    FEATURES,
    HEADER,
    LABELS,
    ROWS,
    SCARCE,
    SPARSE,
    SPLIT,
    WIDTH,
    always,
    eventually,
    fail_reading,
    opened,
    save,
    warm,
)

import feedline
from feedline.contract import ExitCode
from feedline.errors import FileShrankError, StorageError
from feedline.files import file as files
from feedline.files.array import Array
from feedline.files.file import File
from feedline.paging import governor, pagein
from feedline.paging.pagein import PageIn
from feedline.paging.ways import local


@pytest.fixture
def folder(tmp_path):
    """Return a folder of `features` in two files and `labels`, to be spoilt."""
    return save(tmp_path)


@pytest.fixture(params=["fill", "advise", "read"])
def paging(request, folder, monkeypatch):
    """Return the ways of the arrays, one for each strategy that reads, and closes it."""
    monkeypatch.setattr(governor, "choose", always(request.param))
    if request.param == "read":
        monkeypatch.setattr(pagein, "file_system", lambda file: "nfs4")
    arrays = opened(folder)
    paging = PageIn(arrays, SCARCE)
    paging.arrays = arrays
    yield paging
    paging.close()


def taken(paging, rows, name="features"):
    """Take rows of an array."""
    array = paging.arrays[name]
    out = np.zeros((len(rows), array.row_bytes), np.uint8)
    paging.take(array, np.asarray(rows), out)
    return out


def cut_short(folder, name, length):
    path = folder / name
    os.truncate(path, length)
    return path


# --- a file cut short ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [0, 100], ids=["between two rows", "within a row"])
def test_of_a_file_cut_short_the_first_row_that_is_missing_is_named(paging, folder, rest):
    path = cut_short(folder, "features/part-2.npy", HEADER + 1000 * WIDTH + rest)
    last = SPLIT + 999
    assert (taken(paging, [0, last, SPLIT]) == FEATURES[[0, last, SPLIT]]).all()
    paging.ahead(lambda: np.arange(0, ROWS, 40))
    with pytest.raises(FileShrankError, match=f"^{path}: was cut short while it was read, at row 1000$") as error:
        taken(paging, [0, last + 1, 5])
    assert error.value.exit_code == ExitCode.DATA


def test_of_labels_cut_short_the_row_is_named(paging, folder):
    path = cut_short(folder, "labels.npy", HEADER + 4 * 700)
    with pytest.raises(FileShrankError, match=f"^{path}: was cut short while it was read, at row 700$"):
        taken(paging, [3], "labels")


@pytest.mark.parametrize("strategy", ["resident", "fill", "advise"])
def test_a_feed_over_a_file_cut_short_ends_with_that(folder, monkeypatch, strategy):
    monkeypatch.setattr(feedline.feed.gather, "SLOT_BYTES", 1 << 20)
    monkeypatch.setattr(governor, "choose", always(strategy))
    path = folder / "features" / "part-2.npy"
    with feedline.Feed(opened(folder), 100, threads=2) as feed:
        epoch = iter(feed)
        next(epoch)
        # Of what is copied from the mapping at this very moment, the kernel ends the process.
        eventually(lambda: feed.stats().queue_depth == feed.stats().queue_capacity)
        os.truncate(path, HEADER + 17 * WIDTH)
        with pytest.raises(FileShrankError, match=f"^{path}: was cut short while it was read: it now ends in row 17$"):
            list(epoch)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("feedline-gather")]


# --- a disk that fails ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad(monkeypatch):
    """Return a function that has the disk fail wherever a row of a file of `features` is read."""

    def bad(file, row, **how):
        fail_reading(monkeypatch, row, file, **how)
        return f"^{file.path}: row {row} cannot be read \\(Input/output error\\)$"

    return bad


def test_of_a_disk_that_fails_file_and_row_are_named(paging, bad):
    told = bad(paging.arrays["features"].mapped[1].file, 17)
    with pytest.raises(StorageError, match=told) as error:
        taken(paging, [3, SPLIT + 17, SPLIT + 18])
    assert error.value.exit_code == ExitCode.IO_ERROR
    assert (taken(paging, [SPLIT + 16, 17]) == FEATURES[[SPLIT + 16, 17]]).all()


def test_what_fails_once_is_read_again(paging, bad):
    bad(paging.arrays["features"].mapped[0].file, 17, first_error=errno.EINTR, then=False)
    assert (taken(paging, [17, 18]) == FEATURES[[17, 18]]).all()


def test_a_row_of_which_a_part_came_is_completed(paging, monkeypatch):
    real = files.read

    def in_part(descriptor, offsets, length, addresses):
        counts = real(descriptor, offsets, length, addresses)
        counts[::2] //= 3
        return counts

    monkeypatch.setattr(files, "read", in_part)
    rows = np.random.default_rng(0).integers(0, ROWS, 100)
    assert (taken(paging, rows) == FEATURES[rows]).all()


@pytest.mark.parametrize("strategy", ["fill", "advise"])
def test_a_feed_over_a_disk_that_fails_ends_with_that(folder, monkeypatch, bad, strategy):
    monkeypatch.setattr(governor, "choose", always(strategy))
    arrays = opened(folder)
    told = bad(arrays["features"].mapped[0].file, 2000)
    with feedline.Feed(arrays, 100, shuffle="none", threads=2) as feed:
        with pytest.raises(StorageError, match=told):
            list(feed)
        with pytest.raises(StorageError, match=told):
            list(feed)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("feedline-gather")]


def test_batches_before_the_bad_row_are_handed_out(folder, monkeypatch, bad):
    monkeypatch.setattr(governor, "choose", always("advise"))
    monkeypatch.setattr(feedline.feed.gather, "SLOT_BYTES", 250_000)
    arrays, seen = opened(folder), []
    bad(arrays["features"].mapped[0].file, 2050)
    with feedline.Feed(arrays, 100, shuffle="none", threads=1) as feed, pytest.raises(StorageError):
        seen.extend(batch["labels"].copy() for batch in feed)
    assert np.concatenate(seen).tolist() == LABELS[:2000].tolist()


def test_rows_are_copied_from_the_mapping_only_once_each_page_of_it_can_be_touched(folder, monkeypatch):
    """A page of it that cannot be read would end the process."""
    size, asked, bad, copied = 8 << 20, set(), [True], []
    populate, take = File.populate, Array.take

    def populating(file, start, stop):
        asked.add((file, start, stop))
        return not (bad and start > 0) and populate(file, start, stop)

    def copying(array, rows, out):
        copied.append(array.name)
        take(array, rows, out)

    monkeypatch.setattr(local, "_POPULATED_BYTES", size)
    monkeypatch.setattr(File, "populate", populating)
    monkeypatch.setattr(Array, "take", copying)
    arrays = opened(folder)
    warm(folder)
    paging = PageIn(arrays, SCARCE)
    paging.arrays = arrays
    for _ in range(6):
        paging.ahead(lambda: SPARSE)
        assert (taken(paging, SPARSE) == FEATURES[SPARSE]).all()
    assert copied == []
    bad.clear()
    for _ in range(3):
        paging.ahead(lambda: SPARSE)
        assert (taken(paging, SPARSE) == FEATURES[SPARSE]).all()
    assert copied == ["features"] * 2
    ends = [(part.file, HEADER + part.bytes) for part in arrays["features"].mapped]
    assert asked == {(file, start, min(start + size, end)) for file, end in ends for start in range(0, end, size)}


def test_the_kernel_says_which_part_of_a_mapping_can_be_touched(folder, monkeypatch):
    file = File(folder / "labels.npy")
    length = HEADER + file.rows.nbytes
    assert file.populate(0, length)
    assert file.populate(0, length + 5000), "no more than there is, is asked for"
    os.truncate(file.path, 5000)
    assert file.populate(0, 8192)
    assert not file.populate(0, length)
    monkeypatch.setattr(files, "_MADV_POPULATE_READ", 9999)
    assert file.populate(0, length), "a kernel that does not know the question is not asked"
