"""What a disk and a memory give: reading at random and in order, and copying. Nothing of rows or runs is known here.

A disk is read past the page cache (O_DIRECT), so that what is measured is the disk and nobody's pages are evicted;
requests are the kernel's own asynchronous ones, so that no thread of Python's is measured either.
"""

import errno
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedline.errors import EnvironmentInvalidError, InputMissingError, StorageError
from feedline.files import Queue
from feedline.paging.large_pages import in_large_pages

PAGE = mmap.PAGESIZE
DEPTH = 32
"""Reads under way: what fio's users ask of a disk, and more than one of a cloud has latency for."""
_IN_ORDER_BYTES, _IN_ORDER_DEPTH = 1 << 20, 4
_COPIED_BYTES = 16 << 20
"""More than a core's own caches hold, and little beside the memory of any pod."""
_PLACES = 1 << 16
LEAST_BYTES = 64 << 20
"""Of a file that is worth reading: a smaller one may lie whole in the disk's own cache."""


class DiskLimits(NamedTuple):
    """What a disk gives."""

    reads_per_second: float
    """At random places, with 32 under way, of `read_bytes` each."""
    read_bytes: int
    bytes_per_second: float
    """In order."""

    @property
    def break_even_bytes(self) -> float:
        """Bytes that are read in order in the time of one request: blocks should be some times as long."""
        return self.bytes_per_second / self.reads_per_second


def copied_bytes_per_second(threads: int, seconds: float) -> float:
    """Return how many bytes so many threads copy from memory to memory, all together."""
    # Imported here, with logging behind it: `import feedline` should not wait for them.
    from concurrent.futures import ThreadPoolExecutor

    def copied(_: int) -> float:
        source = np.ones(_COPIED_BYTES, np.uint8)
        target = np.ones_like(source)  # touched, since page faults are not what is asked for
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds or not count:
            np.copyto(target, source)
            count += _COPIED_BYTES
        return count / elapsed

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(copied, range(threads)))


def disk_limits(path: Path, read_bytes: int, seconds: float) -> DiskLimits:
    """Measure the disk under a file, half of the time at random, half in order.

    Parameters
    ----------
    path
        A file of 64 MB or more.
    read_bytes
        Of one read, rounded up to whole pages, such as of a row; at most 1 MiB, as many of which a larger row takes.
    seconds
        To take for it.

    Raises
    ------
    EnvironmentInvalidError
        Its file system cannot be read past the page cache, or the kernel gives no queue.
    InputMissingError, StorageError
        The file cannot be opened or read.
    """
    read_bytes = min(-(-read_bytes // PAGE) * PAGE, _IN_ORDER_BYTES)
    with _opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size < LEAST_BYTES:
            raise InputMissingError(
                f"{path}: is {size} bytes; less than {LEAST_BYTES >> 20} MiB may not reach the disk: take a larger file"
            )
        random = _reads_per_second(path, descriptor, _at_random(size, read_bytes), read_bytes, DEPTH, seconds / 2)
        # From the middle on: at the beginning of a file others may have just read its header.
        in_order = np.roll(np.arange(0, size - _IN_ORDER_BYTES, _IN_ORDER_BYTES), (size // _IN_ORDER_BYTES) // 2)
        sequential = _reads_per_second(path, descriptor, in_order, _IN_ORDER_BYTES, _IN_ORDER_DEPTH, seconds / 2)
    return DiskLimits(random, read_bytes, sequential * _IN_ORDER_BYTES)


def reads_per_second(path: Path, read_bytes: int, depth: int, seconds: float) -> float:
    """Return the reads a second of `read_bytes`, whole pages, at random places of a file with `depth` under way."""
    with _opened(path) as descriptor:
        places = _at_random(os.fstat(descriptor).st_size, read_bytes)
        return _reads_per_second(path, descriptor, places, read_bytes, depth, seconds)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a file to be read past the page cache."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise EnvironmentInvalidError(f"{path}: its file system cannot be read past the page cache") from None
        raise InputMissingError(f"{path}: cannot be opened ({error.strerror})") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _at_random(size: int, read_bytes: int) -> NDArray[np.intp]:
    """Return pages at which to read; others than the last time, which the disk may remember."""
    return np.random.default_rng().integers(0, (size - read_bytes) // PAGE, _PLACES) * PAGE


def _reads_per_second(
    path: Path, descriptor: int, offsets: NDArray[np.intp], length: int, depth: int, seconds: float
) -> float:
    """Read at `offsets`, again from the first after the last, always with `depth` reads under way."""
    try:
        queue = Queue(depth)
    except OSError as error:
        raise EnvironmentInvalidError(f"{path}: the kernel gives no queue to read it ({error.strerror})") from None
    target = in_large_pages(depth * length)
    requests = queue.requests
    requests["file"], requests["length"] = descriptor, length
    requests["address"] = target.__array_interface__["data"][0] + length * np.arange(depth)
    taken, done, under_way, elapsed, free = 0, 0, 0, 0.0, np.arange(depth)
    began = time.perf_counter()
    while under_way or elapsed < seconds:
        elapsed = time.perf_counter() - began
        if elapsed < seconds:
            requests["offset"][free] = offsets[np.arange(taken, taken + len(free)) % len(offsets)]
            taken += len(free)
            begun = queue.submit(free)
            under_way += max(0, begun)
            if begun != len(free):
                raise StorageError(f"{path}: cannot be read past the page cache")
        free, results = queue.wait(min(under_way, max(1, depth // 4)))
        under_way -= len(free)
        if (results < 0).any():
            raise StorageError(f"{path}: cannot be read ({os.strerror(-int(results.min()))})")
        if elapsed < seconds:
            done += len(free)
    return done / max(elapsed, 1e-9)


def largest_file(folder: Path) -> Path:
    """Return the largest file of a folder and those below it.

    Raises
    ------
    InputMissingError
        There is none of 64 MB.
    """
    found = [(path.stat().st_size, path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    size, path = max(found, default=(0, folder))
    if size < LEAST_BYTES:
        raise InputMissingError(
            f"{folder}: holds no file of {LEAST_BYTES >> 20} MiB, and reading less would not reach the disk: "
            "pass the folder of your data"
        )
    return path
