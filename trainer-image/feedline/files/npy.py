"""One `.npy` file: its header checked against the file, its rows mapped as bytes, and whether it has changed since.

Files are hostile: everything a header promises is checked before a byte of it is used, and nothing is ever unpickled.
Rows are plain bytes in here, so that one way of copying serves every dtype.
"""

import ast
import contextlib
import ctypes
import errno
import mmap
import os
import re
import resource
import stat
import struct
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, EnvironmentInvalidError, FileShrankError, InputMissingError, StorageError
from feedline.files.aio import read
from feedline.files.clibrary import MAP_FAILED, libc

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 64 * 1024
_MAX_LENGTH = 2**48
_MAX_AXES = 63  # numpy has 64, and a slot holds batches of batch_size rows: two axes for one
_DATE_WITH_DIVISOR = re.compile(r"(8|64)\[[^\]'\"]*/")
"""A date unit such as ``7D/2``: numpy.save never writes one, and numpy ends the process on a divisor of 0."""
_NUMPY_INTEGER = re.compile(r"\b(?:np|numpy)\.u?int(?:8|16|32|64|p|c)?\((\d+)\)")
_MADV_POPULATE_READ = 22


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


def _checked_header(path: Path, text: bytes, encoding: str, offset: int, size: int) -> Header:  # noqa: C901 - a list of checks
    parsed = parsed_header(text, encoding)
    if parsed is None:
        raise DataError(
            f"{path}: the .npy header cannot be read, and numpy.load would refuse it too: make the file anew "
            "from what it was made of, with numpy.save"
        )
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


def parsed_header(text: bytes, encoding: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]] | None:
    """Return dtype, Fortran order and shape, of the right types but else unchecked; None where they are not there."""
    try:
        # Some write the repr of numpy's own integers there, which numpy.load refuses; what they mean is clear.
        fields = ast.literal_eval(_NUMPY_INTEGER.sub(r"\1", text.decode(encoding).strip()))
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


def _opened(path: Path) -> int:
    """Open a file; where so many are open that no more may be, raise that limit as far as the system allows."""
    # Without O_NONBLOCK a named pipe would block here for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except OSError as error:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if error.errno != errno.EMFILE or soft == hard:
            raise
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return os.open(path, flags)


def _close(descriptor: int) -> None:
    """Close a file that was only read; a file system that is gone may complain."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


class _Mapping:
    """A file's bytes in memory, until the last view of them is gone.

    Not Python's `mmap`, which would keep a descriptor of its own open for every file.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == MAP_FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        weakref.finalize(self, libc.munmap, address, size)
        self.__array_interface__ = {"data": (address, True), "shape": (size,), "typestr": "|u1", "version": 3}


class File:
    """One `.npy` file: its header, its mapped rows as bytes, and the means to see that it has not changed.

    Attributes
    ----------
    rows
        ``[rows, row_bytes]`` uint8, read-only: the mapping; None where the file system does not allow one.
    modified_ns, device
        When it was last written to, and the number of the device it lies on.
    left_over
        Bytes behind the last row, which nobody reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            descriptor = _opened(path)
        except FileNotFoundError:
            raise InputMissingError(f"{path}: there is no such file") from None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise EnvironmentInvalidError(
                    f"{path}: too many files are open: raise the hard limit, `ulimit -Hn`, or join them to fewer"
                ) from None
            raise InputMissingError(f"{path}: cannot be opened ({error.strerror})") from None
        self._descriptor = descriptor
        weakref.finalize(self, _close, descriptor)
        status = self._status()
        if not stat.S_ISREG(status.st_mode):
            raise InputMissingError(f"{path}: is a directory or a device, not a .npy file")
        self._size, self.modified_ns, self.device = status.st_size, status.st_mtime_ns, status.st_dev
        try:
            self.header = read_header(path, descriptor, status.st_size)
            self.rows = self._mapped()
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
        self.left_over = status.st_size - self.header.offset - self.header.rows * self.header.row_bytes

    def _status(self) -> os.stat_result:
        try:
            return os.fstat(self._descriptor)
        except OSError as error:  # its file system is gone
            raise StorageError(f"{self.path}: cannot be read ({error.strerror})") from error

    def fileno(self) -> int:
        """Return the descriptor, which is open as long as this object is there."""
        return self._descriptor

    @property
    def address(self) -> int:
        """Where byte 0 of the file lies in memory."""
        if self.rows is None:
            raise RuntimeError(f"{self.path} is not mapped")
        return int(self.rows.__array_interface__["data"][0]) - self.header.offset

    def expect_random_access(self) -> None:
        """Have the kernel read what is asked for alone, without what lies around it."""
        if self.rows is not None:
            libc.madvise(self.address, self._size, mmap.MADV_RANDOM)
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def populate(self, start: int, stop: int) -> bool:
        """Have bytes of the mapping, whole pages, ready to be touched; return whether each of them is.

        Touching a page that cannot be read ends the process (SIGBUS); this says so instead (MADV_POPULATE_READ, since
        Linux 5.14; before that nothing is done). Those that are missing are read.
        """
        done = libc.madvise(self.address + start, min(stop, self._size) - start, _MADV_POPULATE_READ)
        return done == 0 or ctypes.get_errno() == errno.EINVAL

    def read(self, rows: NDArray[np.intp], addresses: NDArray[np.intp]) -> None:
        """Read some rows, ``[n]``, past the mapping to memory at `addresses`, ``[n]``.

        Raises
        ------
        FileShrankError
            The file was cut short.
        StorageError
            The disk, or what stands for it, does not give a row.
        """
        row_bytes = self.header.row_bytes
        offsets = self.header.offset + rows * row_bytes
        counts = read(self._descriptor, offsets, row_bytes, addresses)
        for number in np.flatnonzero(counts != row_bytes).tolist():
            # What is left is read again: whether an error or the file's end cut it short is not said at first.
            self._read_rest(int(rows[number]), max(0, int(counts[number])), int(addresses[number]))

    def _read_rest(self, row: int, done: int, address: int) -> None:
        row_bytes = self.header.row_bytes
        target = (ctypes.c_char * row_bytes).from_address(address)
        while done < row_bytes:
            try:
                count = os.preadv(
                    self._descriptor, [memoryview(target)[done:]], self.header.offset + row * row_bytes + done
                )
            except OSError as error:
                raise StorageError(f"{self.path}: row {row} cannot be read ({error.strerror})") from error
            if count == 0:
                raise FileShrankError(f"{self.path}: was cut short while it was read, at row {row}")
            done += count

    def _mapped(self) -> NDArray[np.uint8] | None:
        try:
            mapping = np.asarray(_Mapping(self._descriptor, self._size))
        except OSError as error:
            if error.errno == errno.ENODEV:  # as FUSE with direct_io
                return None
            raise
        header = self.header
        stop = header.offset + header.rows * header.row_bytes
        return mapping[header.offset : stop].reshape(header.rows, header.row_bytes)

    def in_addition(self) -> str:
        """Say what is behind the last row, which is not read; empty if there is nothing."""
        if not self.left_over:
            return ""
        told = f"{self.path}: the {self.left_over:,} bytes behind its last row are not read"
        with contextlib.suppress(OSError):
            if os.pread(self._descriptor, len(_MAGIC), self._size - self.left_over) == _MAGIC:
                return f"{told}, another array begins there: save each array to a file of its own"
        return told

    def load(self, start: int, rows: NDArray[np.uint8]) -> None:
        """Fill `rows`, ``[n, row_bytes]``, with n rows from `start` on, past the mapping."""
        header = self.header
        target, begin = memoryview(rows.data).cast("B"), header.offset + start * header.row_bytes
        done = 0
        while done < len(target):
            try:
                count = os.preadv(self._descriptor, [target[done : done + (1 << 28)]], begin + done)
            except OSError as error:
                raise StorageError(f"{self.path}: cannot be read ({error.strerror})") from error
            if count == 0:
                raise FileShrankError(
                    f"{self.path}: was cut short while it was read, at row {start + done // header.row_bytes}"
                )
            done += count

    def verify(self) -> None:
        """Raise if the file was cut short or written to since it was opened.

        Touching a mapped page past the end of its file kills the process, so this is asked before every gather;
        asked again after it, it keeps zeros from being handed over as data.
        """
        status = self._status()
        if status.st_size < self._size:
            row = max(0, status.st_size - self.header.offset) // self.header.row_bytes
            raise FileShrankError(f"{self.path}: was cut short while it was read: it now ends in row {row}")
        if status.st_mtime_ns != self.modified_ns:
            raise DataError(f"{self.path}: was written to while it was read: write to a new file and rename it instead")
