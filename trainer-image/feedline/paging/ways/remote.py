"""An array on a network: read when it is due, and where rows lie together, told of ahead."""

import contextlib

import numpy as np
from numpy.typing import NDArray

from feedline.files import Array, advise
from feedline.paging.governor import Choice
from feedline.paging.ranges import RANGE_BYTES, pieces, ranges
from feedline.paging.readers import Readers
from feedline.paging.ways.way import Way


class Remote(Way):
    """An array on a network: read when it is due, and where rows lie together, told of ahead."""

    def __init__(self, array: Array, choice: Choice, readers: Readers) -> None:
        super().__init__(array, choice)
        self._readers = readers
        self._single = False  # whether the order is one of single rows

    def passes_over(self) -> bool:
        return self._single

    def ahead(self, rows: NDArray[np.intp]) -> None:
        for file, local, _ in self.array.in_files(rows):
            starts, stops = ranges(local, file.header)
            if (stops - starts).mean() < RANGE_BYTES:
                self._single = True
                for part in self.array.mapped:
                    part.file.expect_random_access()
                return
            with contextlib.suppress(OSError):
                advise(file.fileno(), *pieces(starts, stops))

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        self.rows_from_disk += self._readers.take(self.array, rows, out)

    def told(self) -> Choice:
        strategy, reason = self.choice
        if self._readers.latency:
            reason = f"{reason}; {self._readers.latency * 1e3:.2g} ms a row, {self._readers.wanted} at a time"
        return Choice(strategy, reason)
