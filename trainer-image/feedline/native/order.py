"""Random orders, by the numbers that `feedline.order` computes. `order.c` says what is gained."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.native.library import library, wrong

_MOST_BUCKETS = 2**16
_MOST_ROWS = 2**31


class Shuffler:
    """Makes the random orders of one seed and epoch by compiled code.

    Parameters
    ----------
    compiled
        The library.
    seed, epoch
        From 0 to 2**64 - 1.
    """

    def __init__(self, compiled: Any, seed: int, epoch: int) -> None:
        self._compiled, self._key = compiled, (seed, epoch)
        self._scratch = np.empty((2, 0), np.uint64)

    def count(self, rows: int, buckets: int, stream: int) -> NDArray[np.int64]:
        """Return how many rows each bucket gets."""
        counts = np.zeros(buckets, np.int64)
        self._compiled.feedline_deal(*self._key, stream, rows, buckets, _address(counts), None)
        return counts

    def deal(self, starts: NDArray[np.int64], stream: int, out: NDArray[np.uint32]) -> None:
        """Write the rows to `out`, ``[rows]``, those of each bucket from its start on, in ascending order."""
        fill = starts.astype(np.int64)  # one for each bucket, which moves on
        self._compiled.feedline_deal(*self._key, stream, len(out), len(fill), _address(fill), _address(out))

    def shuffle(self, members: NDArray[np.uint32], stream: int) -> None:
        """Put numbers, ``[n]``, in a random order, where they are."""
        if self._scratch.shape[1] < len(members):
            self._scratch = np.empty((2, len(members)), np.uint64)
        keys, scratch = self._scratch
        self._compiled.feedline_shuffle(
            *self._key, stream, _address(members), len(members), _address(keys), _address(scratch), _address(members)
        )


def shuffler(rows: int, buckets: int, seed: int, epoch: int) -> Shuffler | None:
    """Return what makes an order of so many rows; None where NumPy has to.

    Raises
    ------
    EnvironmentInvalidError
        As `library` does, or the library draws other numbers than NumPy.
    """
    return Shuffler(library(), seed, epoch) if rows <= _MOST_ROWS and buckets <= _MOST_BUCKETS and _tried() else None


def _address(array: NDArray[Any]) -> int:
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValueError("an array must be in one piece that can be written")
    address: int = array.__array_interface__["data"][0]
    return address


@cache
def _tried() -> bool:
    """Return whether there is a library, once it drew the numbers that NumPy draws."""
    if library() is None:
        return False
    made = np.arange(100, dtype=np.uint32)
    Shuffler(library(), 1, 2).shuffle(made, 3)
    keys = np.random.Philox(key=1 | 2 << 64, counter=3 << 128).random_raw(100) << np.uint64(7)
    if not np.array_equal(made, np.argsort(keys | np.arange(100, dtype=np.uint64))):
        raise wrong("draws other orders than NumPy")
    return True
