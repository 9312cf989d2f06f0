"""Whether a byte of a file is in memory: asked of the kernel, and tried where it does not tell.

mincore(2) is exact, and tells a process nothing of files that are not its own, as those of a pod often are. There,
RWF_NOWAIT refuses to wait for a page that is missing. But it begins to read that page first, and says that it is there
if the disk was done before it looked again; and not every file system knows it. So a quick answer counts.
"""

import contextlib
import errno
import os
import time

from feedline.files import File
from feedline.paging.residency import is_resident

HIT_SECONDS = 30e-6
"""A page in memory is copied in some microseconds; no disk is as fast."""


def is_in_memory(file: File, byte: int) -> bool:
    """Return whether a byte of a file is in memory; where nobody tells, it is tried.

    mincore(2) is exact, and tells a process nothing of files that are not its own, as those of a pod often are. There,
    RWF_NOWAIT refuses to wait for a page that is missing. But it begins to read that page first, and says that it is
    there if the disk was done before it looked again; and not every file system knows it. So a quick answer counts.
    """
    if (known := is_resident(file, byte)) is not None:
        return known
    began = time.perf_counter()
    try:
        os.preadv(file.fileno(), [bytearray(1)], byte, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            return False
        began = time.perf_counter()
        with contextlib.suppress(OSError):
            os.pread(file.fileno(), 1, byte)
    return time.perf_counter() - began < HIT_SECONDS
