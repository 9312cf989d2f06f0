"""How many bytes of mapped rows are in memory: the kernel's own answer, by mincore(2), for a sample of their pages.

Asking touches no page, so it changes nothing, is safe where a file has shrunk, and costs the same for 1 GB and 100 GB:
at most 256 windows of 128 KiB, evenly spaced. Nothing here knows a feed or a metric.

The kernel tells the truth only about files that this process owns or may write to. Of others it says that every page
is in memory, lest one process learns what another one reads (Linux 5.2,
https://git.kernel.org/torvalds/c/134fca9063ad; mincore(2)). In a pod that is the usual case where the files belong to
another user and the volume's group may only read. So each file is first asked about a page far behind its end, which
cannot be in memory: where the kernel says that it is, nothing is known.
"""

import mmap
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from feedline.files import MAP_FAILED, Arrays, File, libc

_WINDOWS = 256
_WINDOW_BYTES = 128 << 10
"""What the kernel reads ahead by default (read_ahead_kb): pages come and go in about this size. 256 of them cost 4 ms
of CPU, at 100 GB (2026-11)."""
_FAR_BYTES = 1 << 30
"""Larger than any folio of the page cache, which may reach beyond the end of its file."""

_PAGE = mmap.PAGESIZE
_TOLD: WeakKeyDictionary[File, bool] = WeakKeyDictionary()


class Window(NamedTuple):
    """Bytes `start` to `stop` of part number `part`, which stand for `weight` of all places that are looked at."""

    part: int
    start: int
    stop: int
    weight: int


def resident_bytes(arrays: Arrays) -> int | None:
    """Return how many bytes of the rows are in memory, by whichever process they came there; rows in RAM all are.

    Returns
    -------
    int or None
        Exact to about 3 % where rows are read at random, better where they are read in order; None where the kernel
        does not tell.
    """
    mapped = [part for array in arrays.values() for part in array.mapped]
    looked_at = windows([part.bytes for part in mapped])
    if not all(is_told(mapped[part].file) for part in {window.part for window in looked_at}):
        return None
    shares = 0.0
    for window in looked_at:
        first = mapped[window.part].file.address + mapped[window.part].offset
        share = _resident_share(first + window.start, first + window.stop)
        if share is None:
            return None
        shares += window.weight * share
    places = sum(window.weight for window in looked_at)
    in_memory = sum(array.bytes for array in arrays.values() if not array.mapped)
    return in_memory + (round((arrays.bytes - in_memory) * shares / places) if places else 0)


def windows(sizes: Sequence[int]) -> list[Window]:
    """Return where to look at parts of these sizes in bytes: evenly over all of them, at a small part as a whole."""
    ends = list(accumulate(sizes))
    places: dict[int, list[int]] = {}
    for number in range(_WINDOWS if ends else 0):
        place = (2 * number + 1) * ends[-1] // (2 * _WINDOWS)
        part = bisect_right(ends, place)
        places.setdefault(part, []).append(place - ends[part] + sizes[part])
    found = []
    for part, middles in places.items():
        if sizes[part] <= len(middles) * _WINDOW_BYTES:
            found.append(Window(part, 0, sizes[part], len(middles)))
            continue
        for middle in middles:
            start = min(max(middle - _WINDOW_BYTES // 2, 0), sizes[part] - _WINDOW_BYTES)
            found.append(Window(part, start, start + _WINDOW_BYTES, 1))
    return found


def is_resident(file: File, byte: int) -> bool | None:
    """Return whether a byte of a file is in memory; None where the kernel does not tell."""
    if not is_told(file):
        return None
    share = _resident_share(file.address + byte, file.address + byte + 1)
    return None if share is None else share == 1


def is_told(file: File) -> bool:
    """Return whether the kernel tells this process which pages of `file` are in memory; asked once for each file."""
    if file not in _TOLD:
        _TOLD[file] = _tells_truth(file.fileno())
    return _TOLD[file]


def _tells_truth(descriptor: int) -> bool:
    """Ask about a page that cannot be in memory, far behind the end of the file."""
    offset = (os.fstat(descriptor).st_size // _FAR_BYTES + 2) * _FAR_BYTES
    address = libc.mmap(None, _PAGE, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, offset)
    if address == MAP_FAILED:
        return False
    try:
        return _resident_share(address, address + _PAGE) == 0
    finally:
        libc.munmap(address, _PAGE)


def _resident_share(start: int, stop: int) -> float | None:
    """Return which share of the pages from address `start` to `stop` is in memory; None where that is refused."""
    start -= start % _PAGE
    pages = np.empty(-(-(stop - start) // _PAGE), np.uint8)
    if libc.mincore(start, stop - start, pages.ctypes.data) != 0:
        return None
    return int(np.count_nonzero(pages & 1)) / len(pages)
