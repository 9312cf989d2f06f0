"""What a transform is told of its batch, and random numbers that belong to its rows."""

from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.errors import UsageError
from feedline.transforms.arguments import whole
from feedline.transforms.philox import philox

_WORDS: Final = 4
_BLOCKS: Final = 1 << 24
_TO_UNIT: Final = 2.0**-32
_MOST: Final = 1 << 32


class Context:
    """A batch as a transform is told of it.

    Attributes
    ----------
    rows
        The number of each row among those that are fed, ``[n]``.
    epoch, step
        Which batch it is, from 0.
    seed
        The feed's.
    is_training
        Whether the batch is trained on; where not, leave out what is left to chance.
    """

    def __init__(
        self, rows: NDArray[np.intp], epoch: int, step: int, seed: int, *, is_training: bool, rank: int, number: int
    ) -> None:
        self.rows = rows.view()  # of an order, which others read, too
        self.rows.flags.writeable = False
        self.epoch = epoch
        self.step = step
        self.seed = seed
        self.is_training = is_training
        self._rank = rank
        self._number = number
        self._drawn = 0

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Return random numbers from 0 up to but without 1, ``[n, *shape]``.

        Those of a row are a function of seed, epoch and row, and of how many were asked for before: the same in any
        batch, on any rank, and where a run goes on.
        """
        return self._words(shape) * _TO_UNIT

    def integers(self, high: int, *shape: int) -> NDArray[np.int64]:
        """Return random integers from 0 up to but without `high`, ``[n, *shape]``, as `uniform` does.

        Raises
        ------
        UsageError
            `high` is no whole number from 1 to 2**32.
        """
        if not 1 <= whole(high, "integers: high") <= _MOST:
            raise UsageError(f"integers: high must be from 1 to 2**32 (got {high})")
        return ((self._words(shape) * np.uint64(high)) >> np.uint64(32)).astype(np.int64)

    def generator(self) -> "np.random.Generator":  # not imported before it is asked for, with all that it takes
        """Return a generator that is a function of seed, epoch, step and rank.

        It gives the same where a run goes on, and not where the batches are others: of another size, or shared among
        more ranks.
        """
        self._drawn += 1
        return np.random.default_rng([self.seed, self.epoch, self.step, self._rank, self._number, self._drawn])

    def _words(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return ``[n, *shape]`` uint64 below 2**32."""
        wanted = prod(shape)
        blocks = -(-wanted // _WORDS)
        rows = self.rows.astype(np.uint64)
        counters = np.empty((len(rows), blocks, _WORDS), np.uint64)
        counters[:, :, 0], counters[:, :, 1] = (rows & np.uint64(0xFFFFFFFF))[:, None], (rows >> np.uint64(32))[:, None]
        counters[:, :, 2] = self.epoch & 0xFFFFFFFF
        counters[:, :, 3] = self._number * _BLOCKS + self._drawn + np.arange(blocks)
        self._drawn += blocks
        words = philox(self.seed, counters.reshape(-1, _WORDS)).reshape(len(rows), blocks * _WORDS)
        return words[:, :wanted].reshape(len(rows), *shape)
