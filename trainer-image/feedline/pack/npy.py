"""`.npy` files that appear under their final names whole or not at all.

Everything is written below a hidden folder inside the output folder, hence in its file system, synced, and only then
renamed; on any exception, Ctrl-C included, that folder goes. Rows are written by offset with plain `pwrite`, never
through a mapping: a full disk is then an error at a known call and not a SIGBUS, and the pages written are the
kernel's and not this process'. This module knows dtypes and bytes, not where rows come from.
"""

import contextlib
import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy import typing as npt

from feedline.errors import StorageError, UsageError

Array = npt.NDArray[Any]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_FALLOCATE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV, errno.ENOSYS})


class NpyWriter:
    """A `.npy` file of known shape whose rows may come in any order.

    Parameters
    ----------
    path
        Where to write; the file is made, and its whole size set aside, at once.
    shown
        The name that error messages use: the final one.
    dtype
        The element type, without objects.
    shape
        The whole shape, rows first; ``()`` is one element.

    Raises
    ------
    StorageError
        The file cannot be made or the file system has no room for it.
    """

    def __init__(self, path: Path, shown: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape
        self._shown = shown
        self._row_bytes = dtype.itemsize * math.prod(shape[1:])
        header = _header(dtype, shape)
        self._start = len(header)
        self._bytes = self._start + dtype.itemsize * math.prod(shape)
        with _storing(shown, self._bytes):
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            _set_aside(self._fd, self._bytes)
            _pwrite(self._fd, memoryview(header), 0)

    def write(self, rows: Array, positions: npt.NDArray[np.integer[Any]]) -> None:
        """Put rows at their positions.

        Parameters
        ----------
        rows
            ``[k, ...]`` of this file's dtype and row shape.
        positions
            ``[k]`` row numbers, each below ``shape[0]``.

        Raises
        ------
        StorageError
            The disk is full, or failed.
        """
        if not len(rows) or not self._row_bytes:
            return
        # Viewed as plain bytes, because strings and structures have no buffer format that memoryview could cast.
        flat = np.ascontiguousarray(rows, dtype=self.dtype).reshape(len(rows), -1).view(np.uint8)
        view = flat.reshape(-1).data
        size = self._row_bytes
        with _storing(self._shown, self._bytes):
            if (np.diff(positions.astype(np.int64)) == 1).all():
                _pwrite(self._fd, view, self._start + int(positions[0]) * size)
                return
            for row, position in enumerate(positions.tolist()):
                _pwrite(self._fd, view[row * size : (row + 1) * size], self._start + position * size)

    def write_bytes(self, data: bytes, offset: int) -> None:
        """Put raw array bytes `offset` bytes behind the header: for elements copied as they are."""
        with _storing(self._shown, self._bytes):
            _pwrite(self._fd, memoryview(data), self._start + offset)

    def sync(self) -> None:
        """Wait until the bytes are on the disk: some file systems report a full one only here."""
        with _storing(self._shown, self._bytes):
            os.fsync(self._fd)

    def close(self) -> None:
        """Close the file; what it holds is not waited for."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Staging:
    """A folder's new files, all hidden until `commit`, all gone if the block is left without it.

    Parameters
    ----------
    out
        The output folder; made if need be, and removed again on failure if it was made here.
    owned
        The names, relative to `out`, of all files that the caller may write. With `overwrite`, those that exist
        are replaced, and those not written this time are removed, so that two packs are never mixed.
    overwrite
        Whether existing files may be replaced.

    Raises
    ------
    UsageError
        A file of `owned` exists and `overwrite` is false, or `out` is no folder.
    StorageError
        The folder cannot be written.
    """

    def __init__(self, out: Path, owned: Iterable[str], *, overwrite: bool) -> None:
        self._out = out
        self._owned = tuple(owned)
        self._overwrite = overwrite
        self._made: list[Path] = []
        self._writers: dict[str, NpyWriter] = {}
        self._texts: list[str] = []
        self._hidden: Path | None = None
        with _storing(out, None):
            self._refuse_existing()

    def _refuse_existing(self) -> None:
        for path in (self._out, *self._out.parents):
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path} is a file: name a folder for the output, as the last argument")
        for name in self._owned:
            final = self._out / name
            if final.is_dir() or (final.parent.exists() and not final.parent.is_dir()):
                raise UsageError(f"{final} cannot be written, something else has its name: choose another folder")
            if final.exists() and not self._overwrite:
                raise UsageError(f"{final} exists: choose another folder, or replace it with --overwrite")

    def __enter__(self) -> Self:
        try:
            with _storing(self._out, None):
                self._make_folder(self._out)
                self._hidden = Path(tempfile.mkdtemp(prefix=".feedline-pack-", dir=self._out))
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def _clear(self) -> None:
        for writer in self._writers.values():
            writer.close()
        if self._hidden is not None:
            shutil.rmtree(self._hidden, ignore_errors=True)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # not empty: it holds what was committed
                folder.rmdir()

    def array(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NpyWriter:
        """Begin the file `name` (relative to the output folder)."""
        writer = NpyWriter(self._path(name), self._out / name, dtype, shape)
        self._writers[name] = writer
        return writer

    def scratch(self) -> Path:
        """Return a path for a file of passing use, which goes with the block."""
        return self._path(".scratch")

    def text(self, name: str, lines: Iterable[str]) -> None:
        """Write a small UTF-8 file, one item a line."""
        path = self._path(name)
        with _storing(self._out / name, None), path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        self._texts.append(name)

    def commit(self) -> None:
        """Give every file its final name; each was synced before the first is renamed."""
        for writer in self._writers.values():
            writer.sync()
            writer.close()
        written = [*self._writers, *self._texts]
        with _storing(self._out, None):
            for name in written:
                final = self._out / name
                self._make_folder(final.parent)
                self._path(name).rename(final)
            for name in set(self._owned).difference(written):
                (self._out / name).unlink(missing_ok=True)
            for folder in {self._out, *((self._out / name).parent for name in written)}:
                _sync_folder(folder)

    def _path(self, name: str) -> Path:
        if self._hidden is None:
            raise RuntimeError("Staging is used outside its with block")
        path = self._hidden / name
        path.parent.mkdir(exist_ok=True)
        return path

    def _make_folder(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            self._made.append(path)


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header that `numpy.save` would write, in the oldest version of the format that can hold it."""
    sizes = tuple(map(int, shape))
    text = str({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": sizes})
    data = text.encode("utf-8" if not _is_latin(text) else "latin-1")
    version = 3 if not _is_latin(text) else 1 if len(data) + 64 < 1 << 16 else 2
    prefix = 10 if version == 1 else 12
    data += b" " * (-(prefix + len(data) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + len(data).to_bytes(prefix - 8, "little") + data


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _set_aside(fd: int, size: int) -> None:
    """Reserve the room now, so that a disk that is too small is known before the work and not after it."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        # Not every file system can; there the writes themselves find out.
        if error.errno not in _NO_FALLOCATE:
            raise


def _pwrite(fd: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _storing(path: Path, size: int | None) -> Iterator[None]:
    """Turn what the operating system says into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            need = "" if size is None else f", the file takes {size:,} bytes"
            message = f"{path} cannot be written ({error.strerror}{need}): make room there or choose another folder"
        else:
            message = f"{path} cannot be written ({error.strerror}): choose a folder that can"
        raise StorageError(message) from error
