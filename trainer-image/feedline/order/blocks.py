"""Block shuffle: how rows that lie together are cut into blocks, put into random order and mixed. Pure."""

from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import numpy as np
from numpy.typing import NDArray

from feedline.order.permutation import permutation, raw, row_dtype

_BLOCK_BYTES = 1 << 20
_WINDOW_BLOCKS = 64
_MIXED_ROWS = 1 << 16
"""Rows whose blocks are mixed in one go: fewer would cost more calls, more would leave the processor's cache."""
_MIXING = 1 << 40
"""Streams of random numbers are this far apart for the order of blocks and for each go of mixing."""


@dataclass(frozen=True)
class Blocks:
    """How block shuffle cuts and mixes: runs of consecutive rows come in random order, and rows of several take turns.

    Parameters
    ----------
    rows
        Rows of a block.
    window
        Blocks whose rows are mixed: that many lanes take turns, each through blocks of its own.
    """

    rows: int
    window: int

    @property
    def lead(self) -> int:
        """Places from the first row of a block to its last, at most; also the rows of a window."""
        return self.rows * self.window

    def lanes(self, rows: int) -> int:
        """Return how many lanes an epoch of so many rows has; a lane is not shorter than a block."""
        return max(1, min(self.window, rows // self.rows))

    def part(self, rows: int, world: int) -> int:
        """Return of how many equal parts of the lanes a rank takes one: all of `world` where that divides the lanes."""
        return gcd(self.lanes(rows), world)

    @classmethod
    def of(cls, widest_row_bytes: int, rows: int = 0, window: int = 0) -> "Blocks":
        """Return what was asked for; by default blocks of 1 MiB, and 64 of them.

        1 MiB is above what any disk but a turning one reads in the time of one request (8 kB of an NVMe, 43 kB of a
        cloud's volume), so that blocks are read as fast as files in order. It depends on the data alone: the same
        seed gives the same batches on every machine.
        """
        return cls(rows or max(1, _BLOCK_BYTES // widest_row_bytes), window or _WINDOW_BLOCKS)


class BlockOrder:
    """The order of an epoch in block shuffle.

    The grid of blocks starts at a row drawn anew each epoch, so that the first and the last block are shorter. All are
    put into random order, and that sequence of rows is cut into lanes of equal length. Place *i* of the epoch is the
    next row of lane *i* modulo their number: of its block at hand, any row that was not taken before. A rank that takes
    every `world`-th place thus reads the blocks of its own lanes only, and the order is the same for every world.

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
        starts, sizes = edges[by_chance], np.diff(edges)[by_chance]
        begins = np.cumsum(sizes) - sizes
        # A block that lies over the edge of a lane is two pieces, one in each.
        lanes = blocks.lanes(rows)
        least, longer = divmod(rows, lanes)
        lane_begins = np.arange(lanes) * least + np.minimum(np.arange(lanes), longer)
        pieces = np.union1d(begins, lane_begins)
        block = np.searchsorted(begins, pieces, "right") - 1
        lane = np.searchsorted(lane_begins, pieces, "right") - 1
        starts, sizes = starts[block] + pieces - begins[block], np.diff(pieces, append=rows)
        by_lane = np.empty(rows, row_dtype(rows))
        gos = np.searchsorted(pieces, np.arange(0, rows + _MIXED_ROWS, _MIXED_ROWS)).tolist()
        for number, (first, last) in enumerate(pairwise(gos)):
            own = _runs(starts[first:last], sizes[first:last])
            if not len(own):
                continue
            piece = np.repeat(np.arange(last - first, dtype=np.uint16), sizes[first:last])
            mixed = permutation(len(own), seed, epoch, (2 + number) * _MIXING).astype(np.intp)
            mixed = mixed[np.argsort(piece[mixed], kind="stable")]
            by_lane[pieces[first] : pieces[first] + len(own)] = own[mixed]
        self._by_lane, self._lane_begins = by_lane, lane_begins
        places = (pieces - lane_begins[lane]) * lanes + lane
        by_place = np.argsort(places)
        self._places, self._starts, self._sizes = places[by_place], starts[by_place], sizes[by_place]

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the rows from place `start` to `stop`."""
        turn, lane = np.divmod(np.arange(start, stop), len(self._lane_begins))
        return self._by_lane[self._lane_begins[lane] + turn].astype(np.intp)

    def unmixed(self, start: int, stop: int, rank: int = 0, world: int = 1) -> NDArray[np.intp]:
        """Return the rows of a rank's blocks whose first place lies from `start` to `stop`."""
        first, last = np.searchsorted(self._places, (start, stop)).tolist()
        wanted = np.arange(first, last)
        part = gcd(lanes := len(self._lane_begins), world)
        wanted = wanted[self._places[first:last] % lanes % part == rank % part]
        return _runs(self._starts[wanted], self._sizes[wanted])


def _runs(starts: NDArray[np.intp], sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the rows of runs, one run after the other."""
    rows: NDArray[np.intp] = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    return rows
