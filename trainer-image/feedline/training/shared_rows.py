"""Rows that are read into memory once for all ranks of a machine."""

import json
import mmap
import os
import time
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feedline.training.whole import write_text

_LOOK_SECONDS: Final = 0.05


class SharedRows:
    """Memory that the first of several processes fills, and the others map; see `feedline.files.Memory`.

    It is in no file system: the size of /dev/shm does not bound it, and it goes with the last process, however that
    ends.

    Parameters
    ----------
    path
        Where the first says what it has; the others wait for it.
    is_first
        Whether this is the first.
    """

    def __init__(self, path: Path, *, is_first: bool) -> None:
        self._path, self._is_first = path, is_first
        self._descriptors: dict[str, int] = {}

    def room(self, name: str, size: int) -> tuple[NDArray[np.uint8], bool]:
        """Return empty room in the first of the processes, and the rows in the others."""
        if self._is_first:
            self._descriptors[name] = descriptor = os.memfd_create(f"feedline-{name}"[:200])
            os.ftruncate(descriptor, size)
            mapped = mmap.mmap(descriptor, size)
        else:
            descriptor = os.open(self._theirs(name), os.O_RDONLY)
            mapped = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
            os.close(descriptor)
        return np.frombuffer(mapped, np.uint8), not self._is_first

    def filled(self) -> None:
        """Let the others in."""
        if self._is_first:
            write_text(self._path, json.dumps({"pid": os.getpid(), "arrays": self._descriptors}))

    def _theirs(self, name: str) -> str:
        while not self._path.exists():
            time.sleep(_LOOK_SECONDS)
        told = json.loads(self._path.read_text())
        return f"/proc/{told['pid']}/fd/{told['arrays'][name]}"
