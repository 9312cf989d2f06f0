"""Memory in pages of 2 MiB, which a virtual disk fills twice as fast as pages of 4 KiB."""

import contextlib
import mmap

import numpy as np
from numpy.typing import NDArray

_LARGE_PAGE = 2 << 20


def in_large_pages(size: int) -> NDArray[np.uint8]:
    """Return so many bytes in pages of 2 MiB, where there are such: a virtual disk fills them twice as fast.

    They begin with one, and take no memory before they are written to.
    """
    memory = mmap.mmap(-1, size + _LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    found = np.frombuffer(memory, np.uint8)
    first = -found.__array_interface__["data"][0] % _LARGE_PAGE
    return found[first : first + size]
