"""Brings the rows of coming batches into memory and from there into slots: the order is known, so no disk need wait.

Left alone, a mapped file is read a page fault at a time, and the kernel's read-ahead, made for reading in order, brings
in megabytes around each row. Here, by what `feedline.governor` chooses for each array:

- **resident**: rows that are in memory are copied from the mapping;
- **advise**: rows that are not are sorted, those that touch are joined, and the kernel is told of all of them some
  slots ahead; when they are due, they are read past the mapping;
- **fill**: the same, and where all rows will fit, the files are read in order meanwhile;
- **direct**: rows that lie together and come once are read past the page cache, into memory of their own;
- **read**: from a file system on a network, rows are read when they are due, by as many threads as keep it busy.

Only rows in memory are ever copied from a mapping: where a disk fails or a file was cut short, reading says so, and
touching a page would end the process.
"""

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from feedline.arrays import Array, Arrays
from feedline.governor import (
    Choice,
    Evidence,
    choose,
    file_system,
    fits,
    is_in_memory,
    is_on_network,
    is_small,
)
from feedline.npy import File
from feedline.readers import Readers
from feedline.reads import advise, begin
from feedline.runs import Run, Runs

_PAGE = mmap.PAGESIZE
_RANGE_BYTES = 128 << 10
"""The kernel reads no more than a device's read_ahead_kb at one request, 128 KiB by default (mm/readahead.c,
force_page_cache_ra), so that longer ranges are told in pieces."""
_LONG_BYTES = 32 << 10
_PROBES = 64
_RUN_PROBES = 8
_LOOK_EVERY = 64
"""Slots between two looks at rows that were in memory: 64 probes take as long as half a slot, and a slot whose rows
were not there after all says so by its page faults."""
_FAULTS = 0.002
"""A fault that waits for the disk takes as long as copying a hundred rows."""
_FILL_BYTES = 32 << 20
"""Read in order for each slot: four times what a slot takes, so that most of a file is there after a quarter of it."""
_POPULATED_BYTES = 256 << 20
"""Of a mapping, for each slot: some 10 ms, which page faults would take later."""


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


def pieces(starts: NDArray[np.intp], stops: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return ranges of bytes cut into pieces of 128 KiB at most: where each begins, and how long it is.

    Of a long range the first page is a piece of its own. It may be on its way already, for a range that ends there; the
    kernel would then say so at once and not begin with the rest (filemap_get_pages in mm/filemap.c, Linux 6.18).
    """
    long = stops - starts > _LONG_BYTES
    starts, stops = (
        np.concatenate((starts, starts[long] + _PAGE)),
        np.concatenate((np.where(long, starts + _PAGE, stops), stops[long])),
    )
    counts = -(-(stops - starts) // _RANGE_BYTES)
    ends = np.cumsum(counts)
    number = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    offsets = np.repeat(starts, counts) + number * _RANGE_BYTES
    return offsets, np.minimum(_RANGE_BYTES, np.repeat(stops, counts) - offsets)


@dataclass(frozen=True)
class OnePass:
    """Rows come once, and are let go when they were taken, so that none is left in memory for long.

    Attributes
    ----------
    run_rows
        Rows that lie together.
    rows_in_hand
        From the time that rows are brought in until they are let go, so many others are.
    """

    run_rows: int
    rows_in_hand: int


class PageIn:
    """The way of all mapped arrays of a feed from their files to its slots.

    Parameters
    ----------
    arrays
        What is fed, mapped.
    memory_bytes
        What this process may use.
    one_pass
        How rows come once; None where they may come again while they are still in memory.
    """

    def __init__(self, arrays: Arrays, memory_bytes: int, one_pass: OnePass | None = None) -> None:
        self._readers = Readers()
        self._one_pass = one_pass
        self._ways = {name: self._way(array, arrays, memory_bytes) for name, array in arrays.items()}

    def _way(self, array: Array, arrays: Arrays, memory_bytes: int) -> "_Way":
        kind = file_system(array.mapped[0].file)
        unseen = Evidence(array.bytes, array.row_bytes, arrays.bytes, memory_bytes, kind)
        if is_small(unseen):
            return _Kept(array, choose(unseen))
        if arrays.residency == "read":
            return _Remote(array, Choice("read", "loader.residency is Read"), self._readers)
        if is_on_network(unseen):
            return _Remote(array, choose(unseen), self._readers)
        if self._one_pass is not None:
            once = replace(unseen, run_bytes=self._one_pass.run_rows * array.row_bytes)
            with contextlib.suppress(OSError):  # its file system has no such reads
                if choose(once).strategy == "direct":
                    return _Direct(array, once, self._one_pass)
        return _Local(array, unseen, one_pass=self._one_pass is not None)

    def ahead(self, rows: Callable[[], NDArray[np.intp]]) -> None:
        """See to it that the rows of a slot, ``[n]``, will be in memory; they are asked for only if it takes them.

        Called by one thread at a time.
        """
        due = [way for way in self._ways.values() if not way.passes_over()]
        if due and len(coming := rows()):
            for way in due:
                way.ahead(coming)

    def take(self, array: Array, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy `rows` of an array to `out`, ``[len(rows), row_bytes]`` uint8; called by any thread."""
        self._ways[array.name].take(rows, out)

    def let_go(self, rows: NDArray[np.intp]) -> None:
        """Give back the memory of whole pages of rows, ``[n]``, that will not be needed before all others were."""
        for way in self._ways.values():
            way.let_go(rows)

    def look(self, rows: NDArray[np.intp]) -> None:
        """Choose by a look at some rows, ``[n]``, and bring nothing in."""
        for way in self._ways.values():
            way.look(rows)

    def faulted(self, faults: int, rows: int) -> None:
        """Look again soon if so many of the rows that were gathered last waited for the disk."""
        if faults > _FAULTS * rows:
            for way in self._ways.values():
                way.look_soon(faults / rows)

    @property
    def choices(self) -> dict[str, Choice]:
        """What is chosen now for each array, by its name."""
        return {name: way.told() for name, way in self._ways.items()}

    @property
    def rows_from_disk(self) -> int:
        """Rows that were not in memory when they came to be due, of the array for which they were most."""
        return round(max(way.rows_from_disk for way in self._ways.values()))

    @property
    def kept_bytes(self) -> int:
        """Bytes of the small arrays, which are read into memory."""
        return sum(way.array.bytes for way in self._ways.values() if isinstance(way, _Kept))

    def bytes_on_the_way(self, rows: int) -> int:
        """Return the bytes between files and slots where so many rows must be in memory before the first is taken."""
        return sum(way.bytes_on_the_way(rows) for way in self._ways.values())

    def close(self) -> None:
        """End the threads that read."""
        self._readers.close()
        for way in self._ways.values():
            way.close()


def survey(arrays: Arrays, memory_bytes: int, run_rows: int = 1) -> dict[str, Choice]:
    """Return what a feed would do now for each mapped array, by a look at some of its rows.

    Parameters
    ----------
    arrays, memory_bytes
        As of `PageIn`.
    run_rows
        Rows that lie together in the order; 1 in a full shuffle.
    """
    is_once = run_rows > 1 and not fits(arrays.bytes, memory_bytes)
    paging = PageIn(arrays, memory_bytes, OnePass(run_rows, rows_in_hand=1) if is_once else None)
    paging.look(np.linspace(0, arrays.rows - 1, min(_PROBES, arrays.rows)).astype(np.intp))
    return paging.choices


class _Way:
    """The way of one array; what does not depend on what is in memory has nothing to do ahead."""

    def __init__(self, array: Array, choice: Choice) -> None:
        self.array, self.choice = array, choice
        self.rows_from_disk = 0.0

    def passes_over(self) -> bool:
        """Return whether the rows of the next slot need no look; called once for each slot."""
        return True

    def look_soon(self, faulted: float) -> None:
        """Look again at the next slot, of whose rows such a share may be missing."""

    def look(self, rows: NDArray[np.intp]) -> None:
        """Choose by a sample of rows."""

    def ahead(self, rows: NDArray[np.intp]) -> None:
        """Have rows brought in."""

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy rows."""
        raise NotImplementedError

    def let_go(self, rows: NDArray[np.intp]) -> None:
        """Give back the memory of the pages of rows, but of those they share with others."""
        for file, local, _ in self.array.in_files(rows):
            starts, stops = ranges(local, file.header.offset, file.header.row_bytes)
            for start, stop in zip((starts + _PAGE).tolist(), (stops - _PAGE).tolist(), strict=True):
                if start < stop:
                    with contextlib.suppress(OSError):  # advice that is not taken costs time and nothing else
                        os.posix_fadvise(file.fileno(), start, stop - start, os.POSIX_FADV_DONTNEED)

    def told(self) -> Choice:
        """Return the choice with what was measured meanwhile."""
        return self.choice

    def _are_in_memory(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return for each of some rows whether its first byte is in memory."""
        seen = np.empty(len(rows), np.bool_)
        for file, local, places in self.array.in_files(rows):
            first_bytes = file.header.offset + local * file.header.row_bytes
            seen[places] = [is_in_memory(file, byte) for byte in first_bytes.tolist()]
        return seen

    def _resident(self, rows: NDArray[np.intp], probes: int = _PROBES) -> float:
        """Return the share of a sample of rows whose first byte is in memory."""
        sample = rows[np.linspace(0, len(rows) - 1, min(probes, len(rows))).astype(np.intp)]
        return float(self._are_in_memory(sample).mean())

    def bytes_on_the_way(self, rows: int) -> int:
        """Return the bytes of rows between file and slot, so many of which must be there before one is taken."""
        return min(rows * self.array.row_bytes, self.array.bytes)

    def close(self) -> None:
        """End the threads that read."""


class _Kept(_Way):
    """A small array: read in order when its first rows are due, and kept."""

    def __init__(self, array: Array, choice: Choice) -> None:
        super().__init__(array, choice)
        self._loading = threading.Lock()
        self._loaded: Array | None = None

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        with self._loading:
            loaded = self._loaded = self._loaded or self.array.loaded()
        loaded.take(rows, out)

    def let_go(self, rows: NDArray[np.intp]) -> None:
        pass

    def bytes_on_the_way(self, rows: int) -> int:  # noqa: ARG002
        return 0


class _Remote(_Way):
    """An array on a network: read when it is due, and where rows lie together, told of ahead."""

    def __init__(self, array: Array, choice: Choice, readers: Readers) -> None:
        super().__init__(array, choice)
        self._readers = readers
        self._single = False  # whether the order is one of single rows

    def passes_over(self) -> bool:
        return self._single

    def ahead(self, rows: NDArray[np.intp]) -> None:
        for file, local, _ in self.array.in_files(rows):
            starts, stops = ranges(local, file.header.offset, file.header.row_bytes)
            if (stops - starts).mean() < _RANGE_BYTES:
                self._single = True
                for part in self.array.mapped:
                    part.file.expect_random_access()
                return
            with contextlib.suppress(OSError):
                advise(file.fileno(), *pieces(starts, stops))

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        self.rows_from_disk += self._readers.take(self.array, rows, out)

    def told(self) -> Choice:
        strategy, reason = self.choice
        if self._readers.latency:
            reason = f"{reason}; {self._readers.latency * 1e3:.2g} ms a row, {self._readers.wanted} at a time"
        return Choice(strategy, reason)


class _Local(_Way):
    """An array on a disk of this machine: what is done depends on what is in memory, and is looked at again."""

    def __init__(self, array: Array, unseen: Evidence, *, one_pass: bool) -> None:
        super().__init__(array, choose(unseen))
        self._one_pass = one_pass
        self._unseen = unseen
        self._slots_to_pass = 0
        self._faulted = 0.0
        self._is_silent = False  # whether the kernel does not say what of the rows it is asked for is in memory
        self._touches = False  # whether rows are copied from the mapping: each page of it was there
        self._in_order = _in_order(array, _RANGE_BYTES)
        self._to_populate: Iterator[tuple[File, int, int]] = _in_order(array, _POPULATED_BYTES)
        self._copied = np.empty(_RANGE_BYTES, np.uint8)  # of rows that are in memory already; never looked at
        for part in array.mapped:
            part.file.expect_random_access()

    def passes_over(self) -> bool:
        if self._slots_to_pass == 0:
            return False
        self._slots_to_pass -= 1
        return True

    def look_soon(self, faulted: float) -> None:
        if self._touches:
            self._slots_to_pass, self._faulted = 0, faulted

    def look(self, rows: NDArray[np.intp]) -> None:
        self.choice = choose(replace(self._unseen, resident=self._resident(rows)))

    def ahead(self, rows: NDArray[np.intp]) -> None:
        # Where nobody says what is in memory, a sample is looked at before the rows are asked for.
        sampled = self._resident(rows) if self._touches or self._is_silent else None
        touched, told = self._touches, None if self._touches else self._told_of(rows)
        resident = sampled if sampled is not None else told if told is not None else 0.0
        self._is_silent = self._is_silent or (told is None and not touched)
        self._decide(max(0.0, min(resident, 1 - self._faulted)))
        self._faulted = 0.0
        if touched and not self._touches:
            self._told_of(rows)
        self.rows_from_disk += len(rows) * (1 - resident)
        if not self._touches and fits(self._unseen.data_bytes, self._unseen.memory_bytes):
            self._read_on(_FILL_BYTES)

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        take = self.array.take if self._touches else self.array.take_past_mapping
        take(rows, out)

    def _decide(self, resident: float) -> None:
        self.choice = choose(replace(self._unseen, resident=resident))
        if self.choice.strategy == "resident":
            # What was touched through the mapping could not be let go of.
            self._touches = self._touches or (not self._one_pass and self._is_populated())
        elif self._touches:
            self._touches, self._to_populate = False, _in_order(self.array, _POPULATED_BYTES)
        # Rows that come from the disk are looked at each time: whether they still do costs nothing beside reading them.
        self._slots_to_pass = _LOOK_EVERY - 1 if self._touches else 0

    def _is_populated(self) -> bool:
        """Prepare the next part of the mapping to be touched; return whether all of it can be."""
        # The rows that come next say nothing of the rest where the order is that of the file; what is missing would be
        # read page by page.
        if self._resident(np.linspace(0, self.array.rows - 1, _PROBES).astype(np.intp)) < 1:
            return False
        file, start, stop = next(self._to_populate, (None, 0, 0))
        if file is not None and not file.populate(start, stop):
            # Whoever reads the row that is at fault will say so.
            self._to_populate = chain([(file, start, stop)], self._to_populate)
        return file is None

    def _told_of(self, rows: NDArray[np.intp]) -> float | None:
        """Have rows read, behind; return which share of their pieces was in memory, None where nobody says."""
        here, silent = 0.0, False
        for file, local, _ in self.array.in_files(rows):
            offsets, lengths = pieces(*ranges(local, file.header.offset, file.header.row_bytes))
            share = begin(file.fileno(), offsets, lengths, self._copied.__array_interface__["data"][0])
            silent = silent or share is None
            here += (share or 0.0) * len(local)
        return None if silent else here / len(rows)

    def _read_on(self, size: int) -> None:
        """Have the next so many bytes of the files read in order, behind."""
        with contextlib.suppress(OSError):
            for _ in range(0, size, _RANGE_BYTES):
                file, start, stop = next(self._in_order, (None, 0, 0))
                if file is None:
                    return
                os.posix_fadvise(file.fileno(), start, stop - start, os.POSIX_FADV_WILLNEED)


class _Direct(_Way):
    """An array on a disk of this machine whose rows lie together and come once: most do not touch the page cache."""

    def __init__(self, array: Array, unseen: Evidence, one_pass: OnePass) -> None:
        self._runs = Runs(array, one_pass.run_rows, one_pass.rows_in_hand)
        super().__init__(array, choose(unseen))
        self._unseen = unseen
        for part in array.mapped:
            part.file.expect_random_access()

    def passes_over(self) -> bool:
        return False

    def look(self, rows: NDArray[np.intp]) -> None:
        self.choice = choose(replace(self._unseen, resident=self._resident(rows)))

    def ahead(self, rows: NDArray[np.intp]) -> None:
        runs = self._runs.cut(rows)
        middles = np.array([run.first + run.rows // 2 for run in runs])
        here = zip(runs, self._are_in_memory(middles), strict=True)
        missing = [run for run, is_here in here if not (is_here and self._is_in_memory(run))]
        self._runs.begin(missing)
        count = sum(run.rows for run in missing)
        self.rows_from_disk += count
        self.choice = choose(replace(self._unseen, resident=1 - count / len(rows)))

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        others = self._runs.take(rows, out)
        if len(others) == len(rows):
            self.array.take_past_mapping(rows, out)
        elif len(others):
            rest = np.empty((len(others), out.shape[1]), np.uint8)
            self.array.take_past_mapping(rows[others], rest)
            out[others] = rest

    def let_go(self, rows: NDArray[np.intp]) -> None:
        """Keep to what was brought in: pages that were there before may be somebody else's."""

    def bytes_on_the_way(self, rows: int) -> int:  # noqa: ARG002
        return self._runs.bytes

    def close(self) -> None:
        self._runs.close()

    def _is_in_memory(self, run: Run) -> bool:
        """Return whether a run is in memory, by some of its rows: if others are not, they are read late, one by one."""
        return self._resident(np.arange(run.first, run.first + run.rows), _RUN_PROBES) == 1


def _in_order(array: Array, size: int) -> Iterator[tuple[File, int, int]]:
    """Yield the bytes of an array's files in pieces, whole pages: file, start and stop of each."""
    for part in array.mapped:
        first = part.file.header.offset + part.first * part.file.header.row_bytes
        end = first + part.rows.nbytes
        for start in range(first & -_PAGE, end, size):
            yield part.file, start, min(start + size, end)
