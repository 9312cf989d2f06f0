"""One file whose rows are used: these mapped as bytes, or read past the mapping, and whether it has changed since.

Rows are plain bytes in here, so that one way of copying serves every dtype, and where they lie was found out before.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import stat
import weakref
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, EnvironmentInvalidError, FileShrankError, InputMissingError, StorageError
from feedline.files import npy
from feedline.files.aio import read
from feedline.files.clibrary import MAP_FAILED, libc
from feedline.files.header import Header
from feedline.files.stored import Format, Opened, Stored, format_of

_READERS: dict[Format, str] = {
    "Npy": "npy",
    "Raw": "raw",
    "Npz": "npz",
    "Hdf5": "hdf5",
    "Safetensors": "safetensors",
}
_MADV_POPULATE_READ = 22


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


def _read_header(opened: Opened, stored: Stored) -> Header:
    if opened.size == 0:
        raise DataError(f"{opened.path}: the file is empty")
    # Imported when there is such a file: `import feedline` should not wait for what reads zips and JSON.
    reader = import_module(f"feedline.files.{_READERS[format_of(stored)]}")
    header: Header = reader.read(opened, stored)
    return header


class File:
    """The rows of one array in a file: where they lie, mapped as bytes, and the means to see that it has not changed.

    Parameters
    ----------
    stored
        The file, and what it holds.

    Attributes
    ----------
    header
        Where they lie.
    rows
        ``[rows, row_bytes]`` uint8, read-only: the mapping; None where the file system does not allow one. Rows that
        are windows may share bytes.
    modified_ns, device, identity
        When it was last written to; the number of the device it lies on; and what no other file there has with it.
    elements
        How many rows it has before they are windows.
    left_over
        Bytes behind the last row of a `.npy` file, which nobody reads.
    """

    def __init__(self, stored: Stored | Path) -> None:
        stored = stored if isinstance(stored, Stored) else Stored(stored)
        self.path = path = Path(stored.path)
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
            raise InputMissingError(f"{path}: is a directory or a device, not a file")
        self._size, self.modified_ns, self.device = status.st_size, status.st_mtime_ns, status.st_dev
        self.identity = status.st_dev, status.st_ino
        try:
            self.header = _read_header(Opened(path, descriptor, status.st_size), stored)
            self._mapping = self._mapped()
        except InputMissingError:
            raise
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
        self.elements = self.header.rows
        behind = status.st_size - self.header.offset - self.header.bytes_of(self.elements)
        self.left_over = behind if format_of(stored) == "Npy" else 0
        self.rows = self._as_rows()

    def cut(self, windows: Header) -> None:
        """Have other rows from now on: windows over those that it has."""
        self.header = windows
        self.rows = self._as_rows()

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
        offsets = self.header.offset + rows * self.header.step
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
                    self._descriptor, [memoryview(target)[done:]], self.header.offset + row * self.header.step + done
                )
            except OSError as error:
                raise StorageError(f"{self.path}: row {row} cannot be read ({error.strerror})") from error
            if count == 0:
                raise FileShrankError(f"{self.path}: was cut short while it was read, at row {row}")
            done += count

    def _mapped(self) -> NDArray[np.uint8] | None:
        try:
            return np.asarray(_Mapping(self._descriptor, self._size))
        except OSError as error:
            if error.errno == errno.ENODEV:  # as FUSE with direct_io
                return None
            raise

    def _as_rows(self) -> NDArray[np.uint8] | None:
        header = self.header
        if self._mapping is None:
            return None
        return header.rows_in(self._mapping[header.offset :], header.rows)

    def in_addition(self) -> str:
        """Say what is behind the last row, which is not read; empty if there is nothing."""
        if not self.left_over:
            return ""
        told = f"{self.path}: the {self.left_over:,} bytes behind its last row are not read"
        with contextlib.suppress(OSError):
            if os.pread(self._descriptor, len(npy.MAGIC), self._size - self.left_over) == npy.MAGIC:
                return f"{told}, another array begins there: save each array to a file of its own"
        return told

    def load(self, begin: int, out: NDArray[np.uint8]) -> None:
        """Fill `out`, ``[n]``, with n bytes from `begin` on, past the mapping."""
        target, done = memoryview(out.data).cast("B"), 0
        while done < len(target):
            try:
                count = os.preadv(self._descriptor, [target[done : done + (1 << 28)]], begin + done)
            except OSError as error:
                raise StorageError(f"{self.path}: cannot be read ({error.strerror})") from error
            if count == 0:
                row = max(0, begin + done - self.header.offset) // self.header.step
                raise FileShrankError(f"{self.path}: was cut short while it was read, at row {row}")
            done += count

    def verify(self) -> None:
        """Raise if the file was cut short or written to since it was opened.

        Touching a mapped page past the end of its file kills the process, so this is asked before every gather;
        asked again after it, it keeps zeros from being handed over as data.
        """
        status = self._status()
        if status.st_size < self._size:
            row = max(0, status.st_size - self.header.offset) // self.header.step
            raise FileShrankError(f"{self.path}: was cut short while it was read: it now ends in row {row}")
        if status.st_mtime_ns != self.modified_ns:
            raise DataError(f"{self.path}: was written to while it was read: write to a new file and rename it instead")
