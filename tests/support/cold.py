"""Files of rows on a disk, the means to drop them from memory, and what of them is there, page by page.

The kernel may take pages at any time, as it does where it reclaims ahead of need: nothing here is ever wholly warm for
sure, and what tests assert of it is "about all" or "about none".
"""

import errno
import gc
import mmap
import os
import time

import numpy as np
import pytest

import feedline
from feedline.feed import gather
from feedline.files import file as one_file
from feedline.files import libc
from feedline.paging.governor import Choice, choose, is_small

PAGE = mmap.PAGESIZE
ROWS, WIDTH = 8000, 2500
AMPLE, SCARCE = 1_000_000_000, 30_000_000
"""Memory in which the rows fit, and in which they do not."""
HEADER = 128
"""Bytes before the first row of each file."""
SPLIT = 3000
"""Row with which the second file of `features` begins."""
SPARSE = np.random.default_rng(0).permutation(np.arange(7, ROWS, 40))
"""Rows far from each other, in no order: of rows in order the kernel would read more than it is asked for."""
FEATURES = np.random.default_rng(1).integers(0, 256, (ROWS, WIDTH), np.uint8)
LABELS = np.arange(ROWS, dtype=np.int32)
PAST_THE_CACHE = (
    "Read past the page cache ahead of need: 0% of the coming rows are in memory, and rows that lie together come once."
)


def save(folder):
    """Save an array `features` of two files, 20 MB in all, and `labels`."""
    (folder / "features").mkdir()
    np.save(folder / "features" / "part-1.npy", FEATURES[:SPLIT])
    np.save(folder / "features" / "part-2.npy", FEATURES[SPLIT:])
    np.save(folder / "labels.npy", LABELS)
    return on_disk(folder)


def on_disk(path):
    """Return a file or folder, nothing of it in memory; skip the test where it is kept there."""
    forget(path)
    if any(pages(each).mean() > 0.1 for each in files(path)):
        assert not os.environ.get("CI"), "temporary files are kept in memory here"
        pytest.skip("temporary files are kept in memory here: set TMPDIR to a folder on a disk")
    return path


def files(path):
    """Return a file, or those of a folder."""
    return [path] if path.is_file() else sorted(path.rglob("*.npy"))


def opened(folder, rows=None, residency="auto"):
    """Open the arrays of a folder, and drop what reading their headers has brought in."""
    arrays = feedline.open_arrays(folder, rows, residency)
    forget(folder)
    return arrays


def forget(path, arrays=()):
    """Take a file, or all of a folder, out of the page cache, also where opened arrays have mapped and touched it."""
    gc.collect()  # what a test before has mapped
    for array in [arrays[name] for name in arrays]:
        for part in array.mapped:
            libc.madvise(part.file.address, part.file._size, mmap.MADV_DONTNEED)
    for each in files(path):
        with each.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(path):
    """Read a file, or all of a folder, into the page cache."""
    for each in files(path):
        each.read_bytes()


def pages(path):
    """Return for each page of a file whether it is in memory, ``[pages]`` bool."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        told = np.empty(-(-len(mapping) // PAGE), np.uint8)
        view = np.frombuffer(mapping, np.uint8)
        refused = libc.mincore(view.ctypes.data, len(mapping), told.ctypes.data)
        del view  # or the mapping could not be closed
    assert not refused
    return told % 2 == 1


def touched(first_bytes, length, page_count):
    """Return which of a file's pages hold a byte of the pieces that begin at `first_bytes`, ``[pages]`` bool."""
    held = np.zeros(page_count, bool)
    for first in np.asarray(first_bytes).tolist():
        held[first // PAGE : (first + length - 1) // PAGE + 1] = True
    return held


def of_rows(file, rows):
    """Return which pages of an opened `.npy` file hold bytes of these of its rows, ``[pages]`` bool."""
    header = file.header
    page_count = -(-os.fstat(file.fileno()).st_size // PAGE)
    return touched(header.offset + np.asarray(rows) * header.row_bytes, header.row_bytes, page_count)


def in_memory(array, rows):
    """Return which share of the pages of these rows of an array is in memory, and which of all others."""
    theirs, others = [], []
    for file, local, _ in array.in_files(rows):
        held, there = of_rows(file, local), pages(file.path)
        theirs.append(there[held])
        others.append(there[~held])
    return np.concatenate(theirs).mean(), np.concatenate(others).mean()


def eventually(holds, seconds=120):
    """Wait until a condition holds; fail where it does not come true."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"the condition did not come true within {seconds} s"
        time.sleep(0.005)


def always(strategy):
    """Return what may stand for `choose`: the same strategy for all arrays but the small ones."""
    return lambda evidence: choose(evidence) if is_small(evidence) else Choice(strategy, "so it was asked")


def no_direct_reads(*_):
    """Stand for `Runs` on a file system that cannot be read past the page cache."""
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def fail_reading(monkeypatch, row, file=None, first_error=errno.EIO, *, then=True):
    """Have the disk fail with a row of an opened file of `features`, or of each of them, whichever way it is read.

    Where it is one of many that are read at once, it is `first_error`; where it is read by itself, only if `then`.
    """
    many, one = one_file.read, os.preadv
    start, stop = HEADER + row * WIDTH, HEADER + (row + 1) * WIDTH

    def is_meant(descriptor):
        return file is None or descriptor == file.fileno()

    def read(descriptor, offsets, length, addresses):
        counts = many(descriptor, offsets, length, addresses)
        if is_meant(descriptor):
            counts[offsets == start] = -first_error
        return counts

    def preadv(descriptor, buffers, offset, *flags):
        length = sum(len(buffer) for buffer in buffers)
        if then and is_meant(descriptor) and offset < stop and start < offset + length:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return one(descriptor, buffers, offset, *flags)

    monkeypatch.setattr(one_file, "read", read)
    monkeypatch.setattr(os, "preadv", preadv)


def limited(monkeypatch, memory):
    """Have so much memory for pages; the process itself has what it takes."""
    monkeypatch.setattr(gather, "memory_bytes", lambda: memory)
    monkeypatch.setattr(gather, "require_room", lambda *arguments: None)
