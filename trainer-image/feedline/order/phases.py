"""Which windows are the rows of an epoch, where these begin elsewhere in each: the same for the same seed and epoch.

All of a segment are shifted by as much, so that no two of them overlap more than their stride says. Sooner or later one
begins at each place.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feedline.order.permutation import raw

_STREAM: Final = 2**64 - 1
"""Beyond all that orders are drawn from."""
_BITS: Final = 53


class Phases:
    """Windows of an epoch among those that there are, one at each place.

    Parameters
    ----------
    firsts
        The first place of each segment, ``[n]``, in ascending order.
    counts
        Windows of an epoch in each, ``[n]``, at least 1.
    rooms
        At how many places the first of these may begin, ``[n]``, at least 1 and at most 2**53.
    stride
        Places from one to the next.
    """

    def __init__(
        self, firsts: NDArray[np.int64], counts: NDArray[np.int64], rooms: NDArray[np.int64], stride: int
    ) -> None:
        ends = np.cumsum(counts)
        self._begins, self._rooms, self._stride = ends - counts, rooms, stride
        # Of row 0, if its segment went on to the left of it.
        self._origins = firsts - self._begins * stride
        self.rows = int(ends[-1])

    def origins(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Return where row 0 of an epoch would be, if each segment in turn went on to the left of it, ``[n]``."""
        share = (int(raw(seed, epoch, _STREAM).random_raw()) >> (64 - _BITS)) / 2**_BITS
        # A product may be rounded up to the room itself.
        shifts = np.minimum((share * self._rooms).astype(np.int64), self._rooms - 1)
        origins: NDArray[np.int64] = self._origins + shifts
        return origins

    def places(self, rows: NDArray[np.intp], origins: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the windows that rows of an epoch are, ``[n]``."""
        if len(origins) == 1:
            return rows * self._stride + int(origins[0])
        segments = np.searchsorted(self._begins, rows, "right") - 1
        return origins[segments] + rows * self._stride
