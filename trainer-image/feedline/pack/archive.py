"""`.npz` archives: each member becomes a `.npy` file of its own, as it is.

As it is but for the layout that a feed maps: C order and this machine's byte order. Members are decompressed as a
stream; one in Fortran order goes through a passing file, because its rows are scattered over the whole of it. Members
that hold Python objects are refused: reading them would run code.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from feedline.errors import DataError, FeedlineError
from feedline.files import parsed_header
from feedline.pack.members import Member, is_file_name, join
from feedline.pack.npy import NpyWriter, Staging
from feedline.pack.source import opened

_BLOCK_BYTES: Final = 1 << 21
_MOST_PER_BYTE: Final = 1100
"""Deflate yields at most 1,032 bytes for one (zlib's technical notes); a member that claims more is forged."""
_MAX_HEADER: Final = 64 * 1024


@dataclass(frozen=True)
class _Zipped(Member):
    """An array in an archive, and where in the zip's member its elements begin."""

    fortran: bool
    start: int

    def blocks(self, staging: Staging) -> Iterator[bytes]:
        return _fortran_blocks(self, staging.scratch()) if self.fortran else _blocks(self)


def members(paths: Sequence[Path]) -> tuple[dict[str, list[_Zipped]], tuple[str, ...]]:
    """Return the arrays of the archives by name, each with its parts in the order of `paths`, and what was left out.

    Raises
    ------
    InputMissingError
        An archive is missing or may not be read.
    DataError
        An archive is damaged, holds what is no array or an array of objects, or differs from the first one.
    """
    found: dict[str, list[_Zipped]] = {}
    for path in paths:
        with _archive(path) as archive:
            here = {_name(path, info): _member(path, archive, info) for info in archive.infolist()}
        if not here:
            raise DataError(f"{path} holds no arrays: give an archive with at least one")
        join(found, here, path, "arrays")
    return found, ()


def _name(path: Path, info: zipfile.ZipInfo) -> str:
    """Return the array's name, which becomes a file's."""
    name = info.filename.removesuffix(".npy")
    if not is_file_name(name):
        raise DataError(f"{path}: {info.filename!r} is no name for a file: rename that array in the archive")
    return name


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Zipped:
    where = f"{path}: {info.filename}"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where} is compressed in a way that NumPy does not write: save the archive anew")
    with archive.open(info) as file:
        parsed, start = _header(file)
    if parsed is None:
        raise DataError(f"{where} is no .npy array, or damaged: save the archive anew")
    dtype, fortran, shape = parsed
    if dtype.hasobject:
        raise DataError(f"{where} holds Python objects, which may run code when read: save it with a plain dtype")
    member = _Zipped(path, info.filename, shape, dtype, fortran and len(shape) > 1, start)
    forged = info.file_size > _MOST_PER_BYTE * (info.compress_size + 1)
    if min(shape, default=0) < 0 or member.bytes != info.file_size - start or forged:
        raise DataError(f"{where} holds {info.file_size} bytes, not what its header says: save the archive anew")
    return member


def _header(file: IO[bytes]) -> tuple[tuple[np.dtype[Any], bool, tuple[int, ...]] | None, int]:
    """Return what a member's header says, None where it says nothing, and where its elements begin."""
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        return None, 0
    width = 2 if magic[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _MAX_HEADER:
        return None, 0
    text = file.read(length)
    return parsed_header(text, "utf-8" if magic[6] == 3 else "latin-1"), 8 + width + len(text)


def _blocks(member: _Zipped) -> Iterator[bytes]:
    """Yield a member's bytes in the order in which they are stored, in this machine's byte order."""
    if not member.bytes:
        return
    native = member.dtype.newbyteorder("=")
    size = member.dtype.itemsize * max(1, _BLOCK_BYTES // member.dtype.itemsize)
    with _archive(member.path) as archive, archive.open(member.entry) as file:
        _read(file, member, member.start)
        left = member.bytes
        while left:
            block = _read(file, member, min(size, left))
            left -= len(block)
            yield block if native == member.dtype else np.frombuffer(block, member.dtype).astype(native).tobytes()
        file.read(1)  # to its end, where the checksum is compared


def _fortran_blocks(member: _Zipped, scratch: Path) -> Iterator[bytes]:
    """Yield the bytes of a member in Fortran order in C order, by way of a mapped file."""
    if not member.bytes:
        return
    native = member.dtype.newbyteorder("=")
    writer = NpyWriter(scratch, scratch, native, (math.prod(member.shape),))
    try:
        offset = 0
        for block in _blocks(member):
            writer.write_bytes(block, offset)
            offset += len(block)
    finally:
        writer.close()
    flat = np.load(scratch, mmap_mode="r", allow_pickle=False)
    array = flat.reshape(member.shape, order="F")
    rows = max(1, _BLOCK_BYTES * member.shape[0] // member.bytes)
    for start in range(0, member.shape[0], rows):
        yield array[start : start + rows].tobytes(order="C")
    scratch.unlink()


def _read(file: IO[bytes], member: _Zipped, size: int) -> bytes:
    block = file.read(size)
    if len(block) != size:
        raise DataError(f"{member.path}: {member.entry} is cut short: save the archive anew")
    return block


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive; whatever is wrong with its content is told in one sentence."""
    with opened(path) as raw:
        try:
            with zipfile.ZipFile(raw) as archive:
                yield archive
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            if isinstance(error, FeedlineError):
                raise
            raise DataError(f"{path} is no .npz archive, or damaged ({error}): save it anew") from error
