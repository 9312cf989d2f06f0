"""Rows of one or several files as one array: copy some of them, from the mapping or past it, without copying the files.

Rows are plain bytes in here, whatever their dtype. This module knows no order, thread or framework.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedline.files.chosen import Chosen
from feedline.files.file import File
from feedline.files.memory import Memory, Private
from feedline.native import gather

_SCRATCH_BYTES = 4 << 20


class Mapped(NamedTuple):
    """Rows of a file that are used: `length`, from its row `first` on."""

    file: File
    first: int
    length: int

    @property
    def offset(self) -> int:
        """The byte of the file at which they begin."""
        return self.file.header.offset + self.first * self.file.header.step

    @property
    def bytes(self) -> int:
        """Bytes from the start of the first to the end of the last."""
        return self.file.header.bytes_of(self.length)


def _parts(files: Sequence[File], start: int, stop: int) -> Iterator[Mapped]:
    """Yield each file that has some of the rows, with these."""
    begin = 0
    for file in files:
        end = begin + file.header.rows
        if begin < stop and end > start:
            first, last = max(start - begin, 0), min(stop, end) - begin
            yield Mapped(file, first, last - first)
        begin = end


def _in_memory(memory: Memory, name: str, used: Sequence[Mapped]) -> list[NDArray[np.uint8]]:
    """Return the rows in memory, read now where they are not there yet; dense ones of several files as one."""
    data, is_filled = memory.room(name, sum(part.bytes for part in used))
    begin, parts = 0, []
    for part in used:
        here = data[begin : begin + part.bytes]
        if not is_filled:
            part.file.load(part.offset, here)
            part.file.verify()
        parts.append(part.file.header.rows_in(here, part.length))
        begin += part.bytes
    if not all(part.file.header.is_dense for part in used):
        return parts
    return [data.reshape(-1, used[0].file.header.row_bytes)]


def _chosen_in_memory(memory: Memory, array: "Array") -> NDArray[np.uint8]:
    """Return the rows of an index in memory, and no others."""
    data, is_filled = memory.room(array.name, array.rows * array.row_bytes)
    rows = data.reshape(array.rows, array.row_bytes)
    step = max(1, _SCRATCH_BYTES // array.row_bytes)
    for begin in range(0, 0 if is_filled else array.rows, step):
        piece = rows[begin : begin + step]
        array.take_past_mapping(np.arange(begin, begin + len(piece)), piece)
    for file in array.files:
        file.verify()
    return rows


def _copy(source: NDArray[np.uint8], rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
    """Copy `rows` of ``[rows, row_bytes]``; the GIL is released meanwhile.

    ``mode="clip"`` only keeps numpy from checking through a hidden buffer; rows must be valid.
    """
    if source.flags.c_contiguous:
        source.take(rows, 0, out, "clip")
    else:
        # `take` would first copy all of it, each window for itself.
        out[:] = source[rows]


class Array:
    """Rows of one or several files, read as one array.

    Attributes
    ----------
    name
        The array's name in every batch.
    dtype, row_shape, row_bytes
        Of one element; of one row; bytes of one row.
    rows
        Number of rows.
    mapped
        Each file with its rows in use; nothing where the rows were read into memory.
    is_dense
        Whether each row begins where the one before it ends, as windows and those of an index may not.
    is_mapped
        Whether rows can be taken from a mapping, or from memory; else they have to be read.
    """

    def __init__(self, name: str, files: Sequence[File], used: Chosen, memory: Memory | None = None) -> None:
        first = files[0].header
        self.name = name
        self.files = tuple(files) if memory is None else ()
        self.modified_ns = max(file.modified_ns for file in files)
        self.dtype, self.row_shape, self.row_bytes = first.dtype, first.row_shape, first.row_bytes
        self._used, self._index = used, used.numbers
        self.rows = used.stop - used.start if used.numbers is None else len(used.numbers)
        self.mapped: list[Mapped] = []
        self._parts: list[NDArray[np.uint8]] = []
        parts = list(_parts(files, used.start, used.stop))
        self._is_shared = not all(part.file.header.is_dense for part in parts)
        self._bytes = sum(part.bytes for part in parts)
        if memory is None:
            self.mapped = parts
        elif used.numbers is None or self._is_shared:
            # Of windows that overlap all are there, which takes less than each of some by itself.
            self._parts = _in_memory(memory, name, parts)
        else:
            self._index, self._parts = None, [_chosen_in_memory(memory, Array(name, files, used))]
            self._bytes = self._parts[0].nbytes
        self.is_mapped = all(part.file.rows is not None for part in self.mapped)
        if self.is_mapped:
            self._parts += [
                rows[first : first + length] for file, first, length in self.mapped if (rows := file.rows) is not None
            ]
        sizes = [part.length for part in self.mapped] or [len(part) for part in self._parts]
        self._starts = np.cumsum([0, *sizes[:-1]])
        self.is_dense = self._index is None and not self._is_shared
        self._scratch = threading.local()
        self._gather = gather(self._parts)

    @property
    def bytes(self) -> int:
        """Bytes of all rows; of windows and an index, those from the start of the first to the end of the last."""
        return self._bytes

    @property
    def loaded_bytes(self) -> int:
        """Bytes of memory that the rows take where all of them are read into it."""
        return self._bytes if self._index is None or self._is_shared else self.rows * self.row_bytes

    def loaded(self) -> "Array":
        """Return the same rows, read into memory now, in order.

        Raises
        ------
        FileShrankError, StorageError
            As `feedline.files.file.File.load` does.
        """
        # Those between the rows of an index, too: read in order that is sooner done.
        found = Array(self.name, self.files, self._used._replace(numbers=None), Private())
        found.rows, found._index, found.is_dense = self.rows, self._index, self.is_dense
        return found

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy `rows` to `out`, ``[len(rows), row_bytes]`` uint8, C-contiguous; the GIL is released meanwhile."""
        rows = self._in_use(rows)
        if self._gather is not None:
            self._gather.take(rows, out)
            return
        if len(self._parts) == 1:
            _copy(self._parts[0], rows, out)
            return
        # From several files: gather file by file into a scratch that stays in the cache, then put in order.
        step = max(1, _SCRATCH_BYTES // self.row_bytes)
        scratch = getattr(self._scratch, "rows", None)
        if scratch is None:
            scratch = self._scratch.rows = np.empty((step, self.row_bytes), np.uint8)
        for begin in range(0, len(rows), step):
            self._take_from_parts(rows[begin : begin + step], scratch, out[begin : begin + step])

    def _take_from_parts(self, rows: NDArray[np.intp], scratch: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        by_part = np.argsort(parts, kind="stable")
        sizes = np.bincount(parts, minlength=len(self._parts))
        begin = 0
        for part, part_start, size in zip(self._parts, self._starts, sizes.tolist(), strict=True):
            if size:
                local = rows[by_part[begin : begin + size]] - part_start
                _copy(part, local, scratch[begin : begin + size])
                begin += size
        place = np.empty_like(by_part)
        place[by_part] = np.arange(len(by_part))
        scratch[: len(rows)].take(place, 0, out, "clip")

    def _in_use(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return where rows lie among those from the first in use to the last."""
        return rows if self._index is None else self._index[rows].astype(np.intp)

    def take_past_mapping(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy `rows` of mapped files to `out` as `take` does, but past the mapping: waits, and raises, where it fails.

        Raises
        ------
        FileShrankError, StorageError
            As `feedline.files.file.File.read` does.
        """
        address = out.__array_interface__["data"][0]
        for file, local, places in self.in_files(rows):
            file.read(local, address + places * self.row_bytes)

    def copy(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy `rows`, which need not be in memory, to `out`, as `take` does; what cannot be read raises."""
        if self.mapped:
            self.take_past_mapping(rows, out)
        else:
            self.take(rows, out)

    def in_files(self, rows: NDArray[np.intp]) -> Iterator[tuple[File, NDArray[np.intp], NDArray[np.intp]]]:
        """Yield each mapped file with some of `rows`, these as the file counts them, and their places in `rows`."""
        rows = self._in_use(rows)
        if len(self.mapped) == 1:
            yield self.mapped[0].file, rows + self.mapped[0].first, np.arange(len(rows))
            return
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(parts).tolist():
            mapped, places = self.mapped[number], np.flatnonzero(parts == number)
            yield mapped.file, rows[places] - self._starts[number] + mapped.first, places

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a copy of rows `start` to `stop`, ``[stop - start, *row_shape]`` of `dtype`."""
        for file in self.files:
            file.verify()
        out = np.empty((stop - start, self.row_bytes), np.uint8)
        self.copy(np.arange(start, stop), out)
        return out.view(self.dtype).reshape(stop - start, *self.row_shape)
