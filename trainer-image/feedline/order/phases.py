"""Which windows are the rows of an epoch, where these begin elsewhere in each: the same for the same seed and epoch.

All of an epoch are shifted by as much, so that no two of a segment overlap more than their stride says, and no row of
an epoch is another's twice. Over the epochs a window begins at each place as often as at any other.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feedline.order.permutation import raw

_STREAM: Final = 2**40 + 1
"""Beyond those that orders are drawn from, and that of `Draw`."""


class Phases:
    """Windows of an epoch among those that there are, one at each place.

    Parameters
    ----------
    firsts
        The first place of each segment, ``[n]``, in ascending order.
    counts
        Windows of an epoch in each, ``[n]``, at least 1.
    stride
        Places from one to the next.
    """

    def __init__(self, firsts: NDArray[np.int64], counts: NDArray[np.int64], stride: int) -> None:
        ends = np.cumsum(counts)
        self._begins = ends - counts
        # Of row 0, if its segment went on to the left of it.
        self._origins = firsts - self._begins * stride
        self._stride = stride
        self.rows = int(ends[-1])

    def shift(self, seed: int, epoch: int) -> int:
        """Return by how many places the windows of an epoch are shifted, less than the stride."""
        return int(raw(seed, epoch, _STREAM).random_raw()) % self._stride

    def places(self, rows: NDArray[np.intp], shift: int) -> NDArray[np.intp]:
        """Return the windows that rows of an epoch are, ``[n]``."""
        if len(self._begins) == 1:
            return rows * self._stride + (int(self._origins[0]) + shift)
        segments = np.searchsorted(self._begins, rows, "right") - 1
        return self._origins[segments] + rows * self._stride + shift
