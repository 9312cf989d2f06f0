"""Open `.npy` files memory-mapped, check them, fingerprint them, slice their rows.

Files are hostile: everything a header promises is checked against the file before a byte of it is used, nothing is
ever unpickled, and `Arrays.verify` tells whether a file is still what it was. Rows are plain bytes in here, so that
one way of gathering serves every dtype. This module knows no order, thread or framework.
"""

import ast
import hashlib
import json
import mmap
import os
import re
import stat
import struct
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, InputMissingError, StorageError, UsageError

Residency = Literal["auto", "mapped", "memory"]
Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 64 * 1024
_MAX_LENGTH = 2**48
_MAX_AXES = 63  # numpy has 64, and a slot holds batches of batch_size rows: two axes for one
_SCRATCH_BYTES = 1 << 20
_SAMPLED_ROWS = 64
_DATE_WITH_DIVISOR = re.compile(r"(8|64)\[[^\]'\"]*/")
"""A date unit such as ``7D/2``: numpy.save never writes one, and numpy ends the process on a divisor of 0."""


@dataclass(frozen=True)
class Header:
    """What the header of a `.npy` file says.

    Attributes
    ----------
    dtype
        Of one element; fixed size, native byte order.
    rows
        Length of the first axis.
    row_shape
        The other axes; ``()`` where a row is one element.
    offset
        Byte of the file at which row 0 starts.
    """

    dtype: np.dtype[Any]
    rows: int
    row_shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * int(np.prod(self.row_shape, dtype=object))


def read_header(path: Path, file_descriptor: int, size: int) -> Header:
    """Read and check the header of a `.npy` file of `size` bytes, format 1.0 to 3.0.

    The format is numpy's own, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.

    Raises
    ------
    DataError
        The file is empty, no `.npy`, cut short, in Fortran or foreign byte order, holds objects or no rows.
    """
    if size == 0:
        raise DataError(f"{path}: the file is empty")
    start = os.pread(file_descriptor, 12, 0)
    if start[:2] == b"PK":
        raise DataError(
            f"{path}: this is a .npz or zip archive, which cannot be mapped: run `feedline pack` on it first"
        )
    if start[:6] != _MAGIC:
        raise DataError(f"{path}: this is no .npy file (it does not begin with \\x93NUMPY)")
    if len(start) < 12 or start[6] not in (1, 2, 3):
        raise DataError(f"{path}: this .npy format is not 1.0, 2.0 or 3.0: save the array again with numpy.save")
    prefix, length_format = (10, "<H") if start[6] == 1 else (12, "<I")
    (length,) = struct.unpack_from(length_format, start, 8)
    if length > _MAX_HEADER_BYTES or prefix + length > size:
        raise DataError(f"{path}: the header claims {length} bytes, which the file does not hold or no array needs")
    text = os.pread(file_descriptor, length, prefix)
    return _checked_header(path, text, "utf-8" if start[6] == 3 else "latin-1", prefix + length, size)


def _checked_header(path: Path, text: bytes, encoding: str, offset: int, size: int) -> Header:
    parsed = _parsed_header(text, encoding)
    if parsed is None:
        raise DataError(f"{path}: the .npy header cannot be read: save the array again with numpy.save")
    dtype, fortran, shape = parsed
    if dtype.hasobject:
        raise DataError(f"{path}: holds Python objects, which would need pickle: save numbers or fixed-width strings")
    if not dtype.isnative:
        raise DataError(f"{path}: is big-endian ({dtype.str}): save it again as a.astype(a.dtype.newbyteorder('='))")
    if not shape:
        raise DataError(f"{path}: holds a single value, not rows: its first axis must be the rows")
    if fortran and len(shape) > 1:
        raise DataError(f"{path}: is in Fortran order, so rows do not lie together: save numpy.ascontiguousarray(a)")
    if not all(0 <= length <= _MAX_LENGTH for length in shape):
        raise DataError(f"{path}: the header claims the impossible shape {_short(shape)}")
    if len(shape) > _MAX_AXES:
        raise DataError(f"{path}: has {len(shape)} axes, and at most {_MAX_AXES} are possible: reshape its rows")
    if shape[0] == 0:
        raise DataError(f"{path}: holds no rows")
    header = Header(dtype, shape[0], shape[1:], offset)
    if header.row_bytes == 0:
        raise DataError(f"{path}: its rows hold no bytes (shape {_short(shape)}, dtype {dtype.str})")
    if offset + header.rows * header.row_bytes > size:
        whole = (size - offset) // header.row_bytes
        raise DataError(
            f"{path}: is cut short: the header claims {header.rows} rows of {header.row_bytes} bytes, "
            f"the file ends in row {whole}"
        )
    return header


def _parsed_header(text: bytes, encoding: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]] | None:
    """Return dtype, Fortran order and shape, of the right types but else unchecked; None where they are not there."""
    try:
        fields = ast.literal_eval(text.decode(encoding))
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        if _DATE_WITH_DIVISOR.search(repr(descr)):
            return None
        dtype = np.lib.format.descr_to_dtype(descr)
    except (ValueError, TypeError, LookupError, SyntaxError, MemoryError, RecursionError):
        return None
    plain = isinstance(fortran, bool) and isinstance(shape, tuple) and all(type(length) is int for length in shape)
    return (dtype, fortran, shape) if plain and dtype.subdtype is None else None


def _short(shape: tuple[int, ...]) -> str:
    # Python refuses to print integers of thousands of digits.
    lengths = ", ".join(str(length) if abs(length) < 10**20 else "..." for length in shape)
    return f"({lengths if len(lengths) <= 80 else lengths[:77] + '...'})"


class File:
    """One `.npy` file: its header, its mapped rows as bytes, and the means to see that it has not changed.

    Attributes
    ----------
    rows
        ``[rows, row_bytes]`` uint8, read-only: the mapping.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Without O_NONBLOCK a named pipe would block here for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise InputMissingError(f"{path}: there is no such file") from None
        except OSError as error:
            raise InputMissingError(f"{path}: cannot be opened ({error.strerror})") from None
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputMissingError(f"{path}: is a directory or a device, not a .npy file")
        self._size, self.modified_ns = status.st_size, status.st_mtime_ns
        try:
            self.header = read_header(path, descriptor, status.st_size)
            self.rows = self._mapped()
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({error.strerror})") from error

    def _mapped(self) -> NDArray[np.uint8]:
        mapping = mmap.mmap(self._descriptor, self._size, access=mmap.ACCESS_READ)
        header = self.header
        return np.ndarray((header.rows, header.row_bytes), np.uint8, buffer=mapping, offset=header.offset)

    def load(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Read rows `start` to `stop` into memory, past the mapping: ``[stop - start, row_bytes]`` uint8."""
        header = self.header
        rows = np.empty((stop - start, header.row_bytes), np.uint8)
        target, begin = memoryview(rows).cast("B"), header.offset + start * header.row_bytes
        done = 0
        while done < len(target):
            try:
                count = os.preadv(self._descriptor, [target[done : done + (1 << 28)]], begin + done)
            except OSError as error:
                raise StorageError(f"{self.path}: cannot be read ({error.strerror})") from error
            if count == 0:
                raise DataError(
                    f"{self.path}: was cut short while it was read, at row {start + done // header.row_bytes}"
                )
            done += count
        return rows

    def verify(self) -> None:
        """Raise if the file was cut short or written to since it was opened.

        Touching a mapped page past the end of its file kills the process, so this is asked before every gather;
        asked again after it, it keeps zeros from being handed over as data.
        """
        status = os.fstat(self._descriptor)
        if status.st_size < self._size:
            row = max(0, status.st_size - self.header.offset) // self.header.row_bytes
            raise DataError(f"{self.path}: was cut short while it was read: it now ends in row {row}")
        if status.st_mtime_ns != self.modified_ns:
            raise DataError(f"{self.path}: was written to while it was read: write to a new file and rename it instead")


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
    """

    def __init__(self, name: str, files: Sequence[File], start: int, stop: int, *, in_memory: bool) -> None:
        first = files[0].header
        self.name = name
        self.files = () if in_memory else tuple(files)
        self.modified_ns = max(file.modified_ns for file in files)
        self.dtype, self.row_shape, self.row_bytes = first.dtype, first.row_shape, first.row_bytes
        self.rows = stop - start
        self._parts: list[NDArray[np.uint8]] = []
        begin = 0
        for file in files:
            end = begin + file.header.rows
            if begin < stop and end > start:
                first_row, last_row = max(start - begin, 0), min(stop, end) - begin
                part = file.load(first_row, last_row) if in_memory else file.rows[first_row:last_row]
                self._parts.append(part)
            begin = end
        if in_memory and len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        self._starts = np.cumsum([0] + [len(part) for part in self._parts[:-1]])
        self._scratch = threading.local()

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy `rows` to `out`, ``[len(rows), row_bytes]`` uint8, C-contiguous; the GIL is released meanwhile.

        ``mode="clip"`` only keeps numpy from checking through a hidden buffer; rows must be valid.
        """
        if len(self._parts) == 1:
            self._parts[0].take(rows, 0, out, "clip")
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
                part.take(local, 0, scratch[begin : begin + size], "clip")
                begin += size
        place = np.empty_like(by_part)
        place[by_part] = np.arange(len(by_part))
        scratch[: len(rows)].take(place, 0, out, "clip")

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return a copy of rows `start` to `stop`, ``[stop - start, *row_shape]`` of `dtype`."""
        for file in self.files:
            file.verify()
        out = np.empty((stop - start, self.row_bytes), np.uint8)
        self.take(np.arange(start, stop), out)
        return out.view(self.dtype).reshape(stop - start, *self.row_shape)


class Arrays(Mapping[str, Array]):
    """Named arrays with the same number of rows; made by `open_arrays`."""

    def __init__(self, arrays: Mapping[str, Array], arguments: tuple[Any, ...]) -> None:
        self._arrays = dict(arrays)
        self._arguments = arguments
        self._files = tuple(file for array in self._arrays.values() for file in array.files)
        self.rows = next(iter(self._arrays.values())).rows

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_arrays, self._arguments

    @property
    def bytes(self) -> int:
        """Bytes of all rows of all arrays."""
        return self.rows * sum(array.row_bytes for array in self.values())

    def verify(self) -> None:
        """Raise `DataError` if a mapped file was cut short or written to since it was opened."""
        for file in self._files:
            file.verify()

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these rows from others, as JSON: headers, and a hash of at most 64 rows of each array."""
        self.verify()
        digest = hashlib.blake2b(digest_size=16)
        headers = {}
        for name, array in sorted(self.items()):
            headers[name] = f"{array.dtype.descr if array.dtype.names else array.dtype.str} {list(array.row_shape)}"
            sample = np.unique(np.linspace(0, array.rows - 1, min(_SAMPLED_ROWS, array.rows)).astype(np.intp))
            out = np.empty((len(sample), array.row_bytes), np.uint8)
            array.take(sample, out)
            digest.update(json.dumps(name).encode() + out.tobytes())
        return {"rows": self.rows, "arrays": headers, "sample": digest.hexdigest()}

    def modified_ns(self) -> int:
        """Return the newest modification time of the files, in nanoseconds."""
        return max(array.modified_ns for array in self.values())


def open_arrays(
    sources: Mapping[str, Source] | str | os.PathLike[str],
    rows: slice | tuple[int, int | None] | None = None,
    residency: Residency = "auto",
) -> Arrays:
    """Open `.npy` files as named arrays with the same number of rows.

    ::

        arrays = feedline.open_arrays({"features": "data/features.npy", "labels": "data/labels/*.npy"})
        arrays = feedline.open_arrays("data")  # every *.npy and every folder of them, named by its stem

    Parameters
    ----------
    sources
        A directory, or a path for each name. A path may have a ``*`` in its last part, and a list of paths is fine
        too: several files are read as one array, in natural order, without copying them.
    rows
        Start and stop of the rows to use, of the rows of all files together; all by default.
    residency
        ``"mapped"`` maps the files and leaves it to the kernel what stays in memory, ``"memory"`` reads them into
        memory now, ``"auto"`` maps.

    Raises
    ------
    InputMissingError
        A file is missing or may not be read.
    DataError
        A file is no usable `.npy` file, files of one array differ in row shape or dtype, or row counts differ.
    UsageError
        The range of rows is empty or lies outside of the data.
    """
    if residency not in ("auto", "mapped", "memory"):
        raise UsageError(f"residency: must be auto, mapped or memory (got {residency!r})")
    named = _named_paths(sources)
    opened = {name: [File(path) for path in paths] for name, paths in named.items()}
    counts = {name: _joined_rows(name, files) for name, files in opened.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise DataError(f"arrays must have the same number of rows: {told}")
    total = next(iter(counts.values()))
    start, stop = _row_range(rows, total)
    in_memory = residency == "memory"
    arrays = {name: Array(name, files, start, stop, in_memory=in_memory) for name, files in opened.items()}
    return Arrays(arrays, (named, (start, stop), residency))


def _joined_rows(name: str, files: Sequence[File]) -> int:
    first = files[0]
    for file in files[1:]:
        if (file.header.dtype, file.header.row_shape) != (first.header.dtype, first.header.row_shape):
            raise DataError(
                f"{file.path}: has rows of {file.header.dtype.str} {file.header.row_shape}, but {first.path} of the same "
                f"array {name} has {first.header.dtype.str} {first.header.row_shape}"
            )
    return sum(file.header.rows for file in files)


def _row_range(rows: slice | tuple[int, int | None] | None, total: int) -> tuple[int, int]:
    if isinstance(rows, slice):
        if rows.step not in (None, 1):
            raise UsageError(f"rows: a step of {rows.step} is not possible, only start and stop")
        rows = (rows.start or 0, rows.stop)
    start, stop = rows or (0, None)
    stop = total if stop is None else stop
    if not 0 <= start < stop:
        raise UsageError(f"rows: start must be at least 0 and below stop (got start {start}, stop {stop})")
    if stop > total:
        raise DataError(f"rows: stop is {stop}, but the arrays have {total} rows")
    return start, stop


def _named_paths(sources: Mapping[str, Source] | str | os.PathLike[str]) -> dict[str, list[Path]]:
    if isinstance(sources, Mapping):
        named = {name: _paths(source) for name, source in sources.items()}
    else:
        if not isinstance(sources, (str, os.PathLike)):
            raise UsageError(f"sources: must be a directory or a mapping of name to path (got {sources!r})")
        folder = Path(sources)
        if not folder.is_dir():
            raise InputMissingError(f"{folder}: there is no such directory (or pass a mapping of name to path)")
        named = {path.stem: [path] for path in sorted(_matching(folder, "*.npy"))}
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            if _matching(inner, "*.npy"):
                if inner.name in named:
                    raise UsageError(f"{folder}: both {inner.name}.npy and {inner.name}/ would be named {inner.name}")
                named[inner.name] = _paths(inner / "*.npy")
    if not named:
        raise InputMissingError(
            f"{sources}: holds no .npy files"
            if not isinstance(sources, Mapping)
            else "sources: name at least one array"
        )
    return named


def _paths(source: Source) -> list[Path]:
    if not isinstance(source, (str, os.PathLike)):
        if not isinstance(source, Sequence) or not source:
            raise UsageError(f"sources: an array is a path or a list of paths (got {source!r})")
        return [path for each in source for path in _paths(each)]
    path = Path(source)
    if "*" not in path.name:
        return [path]
    found = sorted(_matching(path.parent, path.name), key=_natural)
    if not found:
        raise InputMissingError(f"{path}: no file matches")
    return found


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files that match, without hidden ones, as in a shell."""
    return [path for path in folder.glob(pattern) if not path.name.startswith(".")]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts part-2 before part-10."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", path.name)]
