"""The way of one array from its files to slots: what each of the ways beside this file does, or leaves out."""

import contextlib
import os

import numpy as np
from numpy.typing import NDArray

from feedline.files import Array
from feedline.paging.governor import Choice
from feedline.paging.presence import is_in_memory
from feedline.paging.ranges import PAGE, ranges

PROBES = 64


class Way:
    """The way of one array; what does not depend on what is in memory has nothing to do ahead."""

    def __init__(self, array: Array, choice: Choice) -> None:
        self.array, self.choice = array, choice
        self.rows_from_disk = 0.0

    def passes_over(self) -> bool:
        """Return whether the rows of the next slot need no look; called once for each slot."""
        return True

    def look_soon(self, faulted: float) -> None:
        """Look again at the next slot, of whose rows such a share may be missing."""

    def look(self, rows: NDArray[np.intp]) -> None:
        """Choose by a sample of rows."""

    def ahead(self, rows: NDArray[np.intp]) -> None:
        """Have rows brought in."""

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy rows."""
        raise NotImplementedError

    def let_go(self, rows: NDArray[np.intp]) -> None:
        """Give back the memory of the pages of rows, but of those they share with others."""
        for file, local, _ in self.array.in_files(rows):
            starts, stops = ranges(local, file.header)
            for start, stop in zip((starts + PAGE).tolist(), (stops - PAGE).tolist(), strict=True):
                if start < stop:
                    with contextlib.suppress(OSError):  # advice that is not taken costs time and nothing else
                        os.posix_fadvise(file.fileno(), start, stop - start, os.POSIX_FADV_DONTNEED)

    def told(self) -> Choice:
        """Return the choice with what was measured meanwhile."""
        return self.choice

    def _are_in_memory(self, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return for each of some rows whether its first byte is in memory."""
        seen = np.empty(len(rows), np.bool_)
        for file, local, places in self.array.in_files(rows):
            first_bytes = file.header.offset + local * file.header.step
            seen[places] = [is_in_memory(file, byte) for byte in first_bytes.tolist()]
        return seen

    def _resident(self, rows: NDArray[np.intp], probes: int = PROBES) -> float:
        """Return the share of a sample of rows whose first byte is in memory."""
        sample = rows[np.linspace(0, len(rows) - 1, min(probes, len(rows))).astype(np.intp)]
        return float(self._are_in_memory(sample).mean())

    def bytes_on_the_way(self, rows: int) -> int:
        """Return the bytes of rows between file and slot, so many of which must be there before one is taken."""
        return min(rows * self.array.row_bytes, self.array.bytes)

    def close(self) -> None:
        """End the threads that read."""
