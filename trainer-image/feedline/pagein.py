"""Brings the rows of coming batches into memory before they are gathered: the order is known, so no disk need wait.

Left alone, a mapped file is read a page fault at a time, and the kernel's read-ahead, made for reading in order, brings
in megabytes around each row. Where rows are not in memory, they are sorted, ranges that touch are joined, and the
kernel is told of all of them at once (POSIX_FADV_WILLNEED starts the reads and returns), some slots ahead; the mapping
is marked MADV_RANDOM, so that a fault reads its page alone. Where they are, nothing is done but to look now and then.

What is chosen is decided for each array by `choose`, a pure function of what was seen. Nothing here gathers a row.
"""

import contextlib
import math
import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedline.arrays import Array, Arrays
from feedline.npy import File
from feedline.residency import is_resident

Strategy = Literal["resident", "advise"]

_PAGE = mmap.PAGESIZE
_RANGE_BYTES = 128 << 10
"""The kernel reads no more than a device's read_ahead_kb for one WILLNEED, 128 KiB by default (mm/readahead.c,
force_page_cache_ra), so that longer ranges are told in pieces."""
_PROBES = 64
_RESIDENT = 0.98
_HIT_SECONDS = 30e-6
"""A page in memory is copied in some microseconds; no disk is as fast."""
_LOOK_EVERY = 8
"""Slots between two looks at rows that were in memory: 64 probes cost about 100 µs, a slot of 8 MB some 4 ms."""
_SMALL_ROW_BYTES = 512
_SMALL_BYTES = 64 << 20
_SMALL_SHARE = 1 / 16
_AHEAD_SHARE = 1 / 8
_MOST_SLOTS_AHEAD = 2
"""By the time two slots are gathered, a disk has read some thousand rows."""
_WORDS = {"resident": "Taken as it lies in memory", "advise": "Read ahead of need"}


class Choice(NamedTuple):
    """How the rows of an array come into memory, and why, for people."""

    strategy: Strategy
    reason: str

    def in_words(self) -> str:
        """Return the choice as a sentence."""
        return f"{_WORDS[self.strategy]}: {self.reason}."


@dataclass(frozen=True)
class Evidence:
    """What is known about the rows of an array.

    Attributes
    ----------
    array_bytes, row_bytes
        Of all rows in use, and of one.
    memory_bytes
        What this process may use.
    resident
        Share of a sample of the coming rows that is in memory; None where the file system does not tell.
    """

    array_bytes: int
    row_bytes: int
    memory_bytes: int
    resident: float | None


def choose(evidence: Evidence) -> Choice:
    """Return how to bring in the rows of an array."""
    if is_small(evidence):
        return Choice("resident", "it is small, and is read once, in order")
    if evidence.resident is None:
        if evidence.array_bytes <= evidence.memory_bytes // 2:
            return Choice("resident", "it fits into memory, and the file system does not say what is there")
        return Choice("advise", "it does not fit into memory, and the file system does not say what is there")
    share = f"{evidence.resident:.0%} of the coming rows are in memory"
    return Choice("resident" if evidence.resident >= _RESIDENT else "advise", share)


def is_small(evidence: Evidence) -> bool:
    """Return whether an array is worth keeping whole: many rows share a page, and it takes little of the memory."""
    largest = min(_SMALL_BYTES, _SMALL_SHARE * evidence.memory_bytes)
    return evidence.row_bytes <= _SMALL_ROW_BYTES and evidence.array_bytes <= largest


def slots_ahead(rows: int, arrays: Arrays, memory_bytes: int) -> int:
    """Return how many slots of so many rows to look ahead: 2 at most, 0 where one takes more than an eighth of memory.

    A row that lies anywhere takes the pages that it touches, 1 + (row_bytes - 1) / 4096 of them on average.
    """
    slot_bytes = sum(min(rows * (array.row_bytes + _PAGE - 1), array.bytes) for array in arrays.values())
    return min(_MOST_SLOTS_AHEAD, int(_AHEAD_SHARE * memory_bytes / slot_bytes))


def ranges(rows: NDArray[np.intp], offset: int, row_bytes: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the bytes of a file to read for some of its rows, whole pages, sorted; ranges that touch are one.

    Parameters
    ----------
    rows
        Rows of the file, ``[n]``, in any order, at least one.
    offset, row_bytes
        Byte of row 0, and bytes of a row.

    Returns
    -------
    starts, stops
        Of each range, in bytes.
    """
    first = offset + np.sort(rows) * row_bytes
    starts = first & -_PAGE
    stops = (first + row_bytes + _PAGE - 1) & -_PAGE
    new = np.empty(len(rows), np.bool_)
    new[0] = True
    np.greater(starts[1:], stops[:-1], out=new[1:])
    begins = np.flatnonzero(new)
    return starts[begins], np.append(stops[begins[1:] - 1], stops[-1])


class PageIn:
    """Brings in the rows of all arrays of a feed; called by one thread at a time.

    Parameters
    ----------
    arrays
        What is fed.
    memory_bytes
        What this process may use.
    """

    def __init__(self, arrays: Arrays, memory_bytes: int) -> None:
        self._ways = [_Way(array, memory_bytes) for array in arrays.values() if array.mapped]

    def ahead(self, rows: Callable[[], NDArray[np.intp]]) -> None:
        """See to it that the rows of a slot, ``[n]``, will be in memory; they are asked for only if it takes them."""
        due = [way for way in self._ways if not way.passes_over()]
        if due:
            coming = rows()
            for way in due:
                way.ahead(coming)

    def look(self, rows: NDArray[np.intp]) -> None:
        """Choose by a look at some rows, ``[n]``, and bring nothing in."""
        for way in self._ways:
            way.look(rows)

    @property
    def choices(self) -> dict[str, Choice]:
        """What is chosen now for each mapped array, by its name."""
        return {way.array.name: way.choice for way in self._ways}


def survey(arrays: Arrays, memory_bytes: int) -> dict[str, Choice]:
    """Return what a feed would do now for each mapped array, by a look at some of its rows."""
    paging = PageIn(arrays, memory_bytes)
    paging.look(np.linspace(0, arrays.rows - 1, min(_PROBES, arrays.rows)).astype(np.intp))
    return paging.choices


class _Way:
    """The way of one array."""

    def __init__(self, array: Array, memory_bytes: int) -> None:
        self.array = array
        self.choice = Choice("resident", "nothing was read yet")
        self._unseen = Evidence(array.bytes, array.row_bytes, memory_bytes, resident=None)
        self._slots_to_pass: float = 0

    def passes_over(self) -> bool:
        """Return whether the rows of the next slot are taken to be in memory; called once for each slot."""
        if self._slots_to_pass == 0:
            return False
        self._slots_to_pass -= 1
        return True

    def ahead(self, rows: NDArray[np.intp]) -> None:
        self.look(rows)
        with contextlib.suppress(OSError):  # advice that is not taken costs time and nothing else
            if is_small(self._unseen):
                self._slots_to_pass = math.inf
                for part in self.array.mapped:
                    _will_need(part.file, 0, part.file.header.offset + part.file.rows.nbytes)
            elif self.choice.strategy == "advise":
                for file, local in self.array.in_files(rows):
                    starts, stops = ranges(local, file.header.offset, file.header.row_bytes)
                    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                        _will_need(file, start, stop)

    def look(self, rows: NDArray[np.intp]) -> None:
        before = self.choice.strategy
        unseen = self._unseen
        self.choice = choose(unseen if is_small(unseen) else replace(unseen, resident=self._resident(rows)))
        # Rows that come from the disk are looked at each time: whether they still do costs little beside reading them.
        self._slots_to_pass = _LOOK_EVERY - 1 if self.choice.strategy == "resident" else 0
        if self.choice.strategy == "advise" and before != "advise":
            for part in self.array.mapped:
                part.file.expect_random_access()

    def _resident(self, rows: NDArray[np.intp]) -> float | None:
        """Return the share of a sample of rows whose first byte is in memory."""
        sample = rows[np.linspace(0, len(rows) - 1, min(_PROBES, len(rows))).astype(np.intp)]
        seen = [
            is_in_memory(file, file.header.offset + row * file.header.row_bytes)
            for file, local in self.array.in_files(sample)
            for row in local.tolist()
        ]
        known = [each for each in seen if each is not None]
        return sum(known) / len(known) if known else None


def is_in_memory(file: File, byte: int) -> bool | None:
    """Return whether a byte of a file is in memory; None where neither kernel nor file system tells.

    mincore(2) is exact, and tells a process nothing of files that are not its own, as those of a pod often are. There,
    RWF_NOWAIT refuses to wait for a page that is missing. But it begins to read that page first, and says that it is
    there if the disk was done before it looked again, so that only a quick answer counts.
    """
    if (known := is_resident(file, byte)) is not None:
        return known
    began = time.perf_counter()
    try:
        os.preadv(file.fileno(), [bytearray(1)], byte, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return time.perf_counter() - began < _HIT_SECONDS


def _will_need(file: File, start: int, stop: int) -> None:
    """Have the bytes of a file read, behind."""
    for piece in range(start, stop, _RANGE_BYTES):
        os.posix_fadvise(file.fileno(), piece, min(_RANGE_BYTES, stop - piece), os.POSIX_FADV_WILLNEED)
