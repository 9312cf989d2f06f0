"""Files that are there as a whole or not at all, whatever ends the process."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from feedline.checkpoints import sync_folder

# A file that is a mount, or in a folder where nothing may be made.
_IN_PLACE: Final = (errno.EACCES, errno.EBUSY)


def write_text(path: Path, text: str) -> None:
    """Write a text, in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in the place of what has its name, in one moment, and so that it outlives a power cut.

    What a link leads to is written, and the link stays. A pipe or a device is written to.

    Raises
    ------
    OSError
        It cannot be written; what was there before still is.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    try:
        path = path.resolve()
    except RuntimeError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        with contextlib.suppress(OSError):
            sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if not (isinstance(error, OSError) and error.errno in _IN_PLACE and path.exists()):
            raise
        path.write_bytes(content)
