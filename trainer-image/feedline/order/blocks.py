"""Block shuffle: how rows that lie together are cut into blocks, put into random order and mixed. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feedline.order.full import Order
from feedline.order.permutation import permutation, raw, row_dtype

_BLOCK_BYTES = 1 << 20
_WINDOW_BLOCKS = 64
_MIXING = 1 << 40
"""Streams of random numbers are this far apart for the order of blocks and for the mixing of each window."""


@dataclass(frozen=True)
class Blocks:
    """How block shuffle cuts and mixes: runs of consecutive rows come in random order, and rows mix within a window.

    Parameters
    ----------
    rows
        Rows of a block.
    window
        Blocks whose rows are mixed.
    """

    rows: int
    window: int

    @property
    def lead(self) -> int:
        """Rows of a window, at most: what must be in memory before its first row is taken."""
        return self.rows * self.window

    @classmethod
    def of(cls, widest_row_bytes: int, rows: int = 0, window: int = 0) -> "Blocks":
        """Return what was asked for; by default blocks of 1 MiB, and 64 of them.

        1 MiB is above what any disk but a turning one reads in the time of one request (8 kB of an NVMe, 43 kB of a
        cloud's volume), so that blocks are read as fast as files in order. It depends on the data alone: the same
        seed gives the same batches on every machine.
        """
        return cls(rows or max(1, _BLOCK_BYTES // widest_row_bytes), window or _WINDOW_BLOCKS)


class BlockOrder(Order):
    """The order of an epoch in block shuffle.

    The grid of blocks starts at a row drawn anew each epoch, so that the first and the last block are shorter. All are
    put into random order, and the rows of each `window` of them are mixed.

    Parameters
    ----------
    rows, seed, epoch
        As of `permutation`.
    blocks
        How to cut and mix.
    """

    def __init__(self, rows: int, seed: int, epoch: int, blocks: Blocks) -> None:
        shift = (int(raw(seed, epoch, _MIXING - 1).random_raw()) * blocks.rows) >> 64
        edges = np.unique(np.append(np.arange(shift, rows, blocks.rows), (0, rows)))
        by_chance = permutation(len(edges) - 1, seed, epoch, _MIXING).astype(np.intp)
        self._starts, self._sizes = edges[by_chance], np.diff(edges)[by_chance]
        self._places = np.cumsum(self._sizes) - self._sizes
        in_order = np.empty(rows, row_dtype(rows))
        for number, first in enumerate(range(0, len(by_chance), blocks.window)):
            unmixed = self._rows_of(first, first + blocks.window)
            mixed = permutation(len(unmixed), seed, epoch, (2 + number) * _MIXING).astype(np.intp)
            begin = self._places[first]
            in_order[begin : begin + len(unmixed)] = unmixed[mixed]
        super().__init__(in_order)

    def unmixed(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the rows of all blocks whose first place before mixing lies from `start` to `stop`."""
        return self._rows_of(*np.searchsorted(self._places, (start, stop)).tolist())

    def _rows_of(self, first: int, last: int) -> NDArray[np.intp]:
        sizes = self._sizes[first:last]
        begins = self._starts[first:last] - np.cumsum(sizes) + sizes
        rows: NDArray[np.intp] = np.repeat(begins, sizes) + np.arange(sizes.sum())
        return rows
