"""Runs of rows that are needed once: read past the page cache (O_DIRECT) by threads, into memory of their own.

Where rows lie together and will not be needed again soon, the page cache gains nothing and costs most of what reading
takes: every 4 KiB are charged, filled, copied and evicted by themselves, and a virtual disk fills such pages one by
one. Here a disk fills large pages, a mebibyte at a time, and nobody's pages are evicted for it. Nothing here knows an
order.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedline.files import Array, File
from feedline.paging.large_pages import in_large_pages

_PAGE = 4096
"""Bytes to which places in files and in memory are rounded: no disk's own blocks are larger."""
_PIECE_BYTES = 1 << 20
_SHADOWING = 3
"""Shorter runs that may begin between a row and the begin of its run: those of another epoch's lanes."""
_READERS = 8
"""Reads of a mebibyte under way: 2 GB/s of a disk that answers after 4 ms."""


class Run(NamedTuple):
    """Rows that lie together, small enough to be read at once."""

    first: int
    rows: int


class Runs:
    """Runs of an array's rows that were read, and those on their way.

    Parameters
    ----------
    array
        Of mapped files.
    run_rows
        Rows that lie together, mostly.
    rows_in_hand
        Rows to keep: before so many others were asked for, none goes.

    Raises
    ------
    OSError
        The file system does not let files be read past the page cache.

    Attributes
    ----------
    bytes
        Of memory, at most.
    """

    def __init__(self, array: Array, run_rows: int, rows_in_hand: int) -> None:
        # Imported here, with logging behind it: `import feedline` should not wait for them.
        from concurrent.futures import Future, ThreadPoolExecutor

        self._array = array
        parts = -(-run_rows * array.row_bytes // _PIECE_BYTES)
        self._most_rows = max(1, -(-run_rows // parts))
        # Runs at the edges of files and epochs are shorter, and take as much memory.
        self._places = -(-rows_in_hand // self._most_rows) + 2 * len(array.mapped) + 4
        self._files: dict[File, int] = {}
        for part in array.mapped:
            descriptor = self._files[part.file] = _past_page_cache(part.file)
            weakref.finalize(self, os.close, descriptor)
        rows = self._places * self._most_rows
        self._memory = in_large_pages(rows * array.row_bytes).reshape(rows, array.row_bytes)
        stages = in_large_pages(_READERS * _whole_pages(self._most_rows * array.row_bytes + _PAGE))
        self._stages = deque(np.split(stages, _READERS))
        # Some file systems open files so, and refuse to read them.
        os.preadv(self._files[array.mapped[0].file], [self._stages[0][:_PAGE].data], 0)
        self.bytes = self._memory.nbytes + stages.nbytes
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="feedline-run")
        self._lock = threading.Lock()
        self._held: dict[int, int] = {}  # first row of a run -> its place
        self._counts = np.zeros(self._places, np.intp)
        self._reading: list[Future[bool]] = [Future() for _ in range(self._places)]
        self._users = np.zeros(self._places, np.intp)
        self._free = list(range(self._places))
        self._by_age: deque[tuple[int, int]] = deque()  # first row and place, the oldest first
        self._index = np.empty(0, np.intp), np.empty(0, np.intp)  # first rows, sorted, and the place of each

    def cut(self, rows: NDArray[np.intp]) -> list[Run]:
        """Return the runs of which rows, ``[n]``, consist, as they follow each other, cut to what is read at once."""
        edges = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        return [
            Run(int(rows[start]), min(self._most_rows, stop - start))
            for begin, stop in pairwise(edges)
            for start in range(begin, stop, self._most_rows)
        ]

    def begin(self, runs: Iterable[Run]) -> None:
        """Have runs read, behind. Where there is no room, as long as all that is held is being copied, they are not."""
        with self._lock:
            for run in runs:
                held = self._held.get(run.first)
                if held is not None and self._counts[held] >= run.rows:
                    self._by_age.remove((run.first, held))
                    self._by_age.append((run.first, held))
                    continue
                place = self._room()
                if place is None:
                    break
                self._held[run.first], self._counts[place] = place, run.rows
                self._by_age.append((run.first, place))
                self._reading[place] = self._pool.submit(self._read, run, place * self._most_rows)
            firsts = np.fromiter(self._held, np.intp, len(self._held))
            in_order = np.argsort(firsts)
            self._index = firsts[in_order], np.fromiter(self._held.values(), np.intp, len(firsts))[in_order]

    def _room(self) -> int | None:
        """Return a place for a run: a free one, or that of the oldest which nobody waits for or copies."""
        if self._free:
            return self._free.pop()
        for number, (first, place) in enumerate(self._by_age):
            if not self._users[place] and self._reading[place].done():
                del self._by_age[number]
                if self._held.get(first) == place:
                    del self._held[first]
                return place
        return None

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Copy those of `rows` that are held, or on their way, to `out`, ``[len(rows), row_bytes]`` uint8.

        Returns
        -------
        ndarray
            Places in `rows` of the others: nobody asked for them in time, or they could not be read.
        """
        with self._lock:
            firsts, by_first = self._index
            if not len(firsts):
                return np.arange(len(rows))
            nearest = np.searchsorted(firsts, rows, "right") - 1
            for _ in range(_SHADOWING + 1):
                places, within = by_first[nearest], rows - firsts[nearest]
                held = (nearest >= 0) & (within < self._counts[places])
                if held.all():
                    break
                nearest = np.where(held, nearest, np.maximum(nearest - 1, -1))
            used = np.unique(places[held])
            self._users[used] += 1
            reading = [self._reading[place] for place in used.tolist()]
        try:
            failed = used[[not each.result() for each in reading]]
            if len(failed):
                held &= ~np.isin(places, failed)
            index = places * self._most_rows + within
            if held.all():
                self._memory.take(index, 0, out, "clip")
            else:
                out[held] = self._memory[index[held]]
        finally:
            with self._lock:
                self._users[used] -= 1
        return np.flatnonzero(~held)

    def _read(self, run: Run, first_place: int) -> bool:
        """Read a run to the rows of memory from a first one on; return whether all of it could be read."""
        stage, row_bytes = self._stages.pop(), self._array.row_bytes
        try:
            for file, rows, places in self._array.in_files(np.arange(run.first, run.first + run.rows)):
                begin = file.header.offset + int(rows[0]) * row_bytes
                skipped, size = begin % _PAGE, len(rows) * row_bytes
                aligned = stage[: _whole_pages(skipped + size)]
                if os.preadv(self._files[file], [aligned.data], begin - skipped) < skipped + size:
                    return False
                target = self._memory[first_place + int(places[0]) :][: len(rows)]
                target[:] = stage[skipped : skipped + size].reshape(len(rows), row_bytes)
        except OSError:
            return False  # whoever reads these rows one by one will say which it is
        finally:
            self._stages.append(stage)
        return True

    def close(self) -> None:
        """End the threads, once what they read is there."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _past_page_cache(file: File) -> int:
    """Return a descriptor of an open file, the same one though another may have its name now, for direct reads."""
    return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
