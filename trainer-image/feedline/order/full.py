"""The order of an epoch's rows, of all of them at random or as they lie in the files. Pure."""

import numpy as np
from numpy.typing import NDArray


class FullOrder:
    """The order of an epoch's rows.

    Parameters
    ----------
    in_order
        ``[rows]``: the rows in order; None where it is that of the files.
    """

    def __init__(self, in_order: NDArray[np.unsignedinteger] | None) -> None:
        self._in_order = in_order

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the rows from place `start` to `stop`."""
        return np.arange(start, stop) if self._in_order is None else self._in_order[start:stop].astype(np.intp)

    def unmixed(self, start: int, stop: int, rank: int = 0, world: int = 1) -> NDArray[np.intp]:
        """Return the rows from place `start` to `stop`, whichever rank asks."""
        del rank, world
        return self.rows(start, stop)
