"""All rows in a random order, computed where it is asked for: no memory, and no time before the first batch.

A Feistel network over the bits of a row's number is a permutation, whatever its rounds compute, and what it leads
beyond the last row is led on by it until it comes back among the rows (cycle walking). Nothing here depends on a numpy
release: only Philox's raw output and integer arithmetic are used.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from feedline.order.permutation import raw

FEWEST_ROWS: Final = 2**26 + 1
"""Fewer take 512 MiB at most for two orders in memory, which cost less for each row."""
_ROUNDS: Final = 8
_STREAM: Final = 2**41
# Of the finalizer of splitmix64, by which every bit of a number changes half of the others (Steele and others, 2014).
_MIXING: Final = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT: Final = np.uint64(31)


class KeyedOrder:
    """The order of a fully shuffled epoch.

    Parameters
    ----------
    rows
        Number of rows, at least 1.
    seed, epoch
        From 0 to 2**64 - 1.
    """

    def __init__(self, rows: int, seed: int, epoch: int) -> None:
        self._rows = np.uint64(rows)
        bits = max(2, (rows - 1).bit_length())
        self._low = np.uint64(bits // 2)
        self._masks = np.uint64((1 << (bits // 2)) - 1), np.uint64((1 << (bits - bits // 2)) - 1)
        self._keys = raw(seed, epoch, _STREAM).random_raw(_ROUNDS)

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the rows from place `start` to `stop`."""
        found = self._permuted(np.arange(start, stop, dtype=np.uint64))
        # Less than half of all numbers of as many bits are beyond the rows.
        while len(beyond := np.flatnonzero(found >= self._rows)):
            found[beyond] = self._permuted(found[beyond])
        return found.astype(np.intp)

    def unmixed(self, start: int, stop: int, rank: int = 0, world: int = 1) -> NDArray[np.intp]:
        """Return the rows from place `start` to `stop`, whichever rank asks."""
        del rank, world
        return self.rows(start, stop)

    def _permuted(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low_mask, high_mask = self._masks
        low, high = numbers & low_mask, numbers >> self._low
        for number, key in enumerate(self._keys):
            if number % 2:
                high ^= _mixed(low, key) & high_mask
            else:
                low ^= _mixed(high, key) & low_mask
        high <<= self._low
        high |= low
        return high


def _mixed(numbers: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    mixed = numbers + key
    for shift, multiplier in _MIXING:
        mixed ^= mixed >> shift
        mixed *= multiplier
    mixed ^= mixed >> _LAST_SHIFT
    return mixed
