"""Brings the rows of coming batches into memory and from there into slots: the order is known, so no disk need wait.

Left alone, a mapped file is read a page fault at a time, and the kernel's read-ahead, made for reading in order, brings
in megabytes around each row. Here, by what `feedline.paging.governor` chooses for each array:

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
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from feedline.files import Array, Arrays, file_system
from feedline.paging import governor
from feedline.paging.governor import Choice, Evidence, fits, is_on_network, is_small
from feedline.paging.readers import Readers
from feedline.paging.ways.direct import Direct, OnePass
from feedline.paging.ways.kept import Kept
from feedline.paging.ways.local import Local
from feedline.paging.ways.remote import Remote
from feedline.paging.ways.way import PROBES, Way

_FAULTS = 0.002
"""A fault that waits for the disk takes as long as copying a hundred rows."""


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

    def _way(self, array: Array, arrays: Arrays, memory_bytes: int) -> Way:
        kind = file_system(array.mapped[0].file)
        unseen = Evidence(array.bytes, array.row_bytes, arrays.bytes, memory_bytes, kind)
        if is_small(unseen):
            return Kept(array, governor.choose(unseen))
        if arrays.residency == "read":
            return Remote(array, Choice("read", "loader.residency is Read"), self._readers)
        if not array.is_mapped:
            return Remote(array, Choice("read", "its file system does not allow files to be mapped"), self._readers)
        if is_on_network(unseen):
            return Remote(array, governor.choose(unseen), self._readers)
        if self._one_pass is not None and array.is_dense:
            once = replace(unseen, run_bytes=self._one_pass.run_rows * array.row_bytes)
            with contextlib.suppress(OSError):  # its file system has no such reads
                if governor.choose(once).strategy == "direct":
                    return Direct(array, once, self._one_pass)
        return Local(array, unseen, one_pass=self._one_pass is not None)

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
        return sum(way.array.bytes for way in self._ways.values() if isinstance(way, Kept))

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
    rows = next(iter(arrays.values())).rows  # of which an epoch may take some
    paging.look(np.linspace(0, rows - 1, min(PROBES, rows)).astype(np.intp))
    return paging.choices
