"""Files that are on the disk when a function returns, and that take next to no memory on their way there.

A pod's limit counts pages that were written and are not on the disk yet, and pages that stay in the page cache push out
those of the data: so a file goes out piece by piece, and its pages are let go.
"""

import contextlib
import errno
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_PIECE: Final = 4 << 20
_AT_ONCE: Final = 32 << 20
_CANNOT_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EISDIR})


def write(path: Path, pieces: Iterable[Any]) -> tuple[int, int]:
    """Write buffers one after the other into a new file; return its size and CRC-32.

    Raises
    ------
    OSError
        The disk is full, gone, or may not be written.
    """
    size = checksum = waiting = 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        for piece in pieces:
            view = memoryview(piece).cast("B")
            for begin in range(0, len(view), _PIECE):
                part = view[begin : begin + _PIECE]
                checksum = zlib.crc32(part, checksum)
                while len(part):
                    part = part[os.write(descriptor, part) :]
            size += len(view)
            waiting += len(view)
            if waiting >= _AT_ONCE:
                _let_go(descriptor)
                waiting = 0
        _let_go(descriptor)
    finally:
        os.close(descriptor)
    return size, checksum


def _let_go(descriptor: int) -> None:
    os.fsync(descriptor)
    with contextlib.suppress(OSError, AttributeError):  # advice alone
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk; file systems that cannot do so for folders do it by themselves."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Have a file that others write on the disk; where there is none, there is nothing to do."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
