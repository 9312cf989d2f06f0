"""Which rows make which batch: a pure function of seed, epoch, step, rank and world, that knows no file or thread.

Invariant: for one seed and epoch every row comes at most once; the rows of a step are the same set for every world
size; nothing here depends on a numpy release (only Philox's raw output and integer arithmetic are used, and the
sorted keys are distinct, so that the sort algorithm does not matter). `VERSION` changes when the order does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

VERSION = 1

Shuffle = Literal["full", "block", "none"]
LastBatch = Literal["drop", "keep"]

_BUCKET_ROWS = 1 << 20
"""Rows sorted at once: 8 MiB of keys, so that building an order needs little besides the order itself."""
_BLOCK_BYTES = 1 << 20
_WINDOW_BLOCKS = 64
_MIXING = 1 << 40
"""Streams of random numbers are this far apart for the order of blocks and for the mixing of each window."""
_CHUNK = 1 << 14
"""Raw numbers drawn at once: the draw holds the GIL, about 50 µs for this many."""


@dataclass(frozen=True)
class Plan:
    """The shape of an epoch: how many steps it has and which slice of its order each step takes.

    Parameters
    ----------
    rows
        Rows of the data set, at least 1.
    batch_size
        Rows of a batch over all ranks.
    last_batch
        ``"drop"`` omits the ``rows % batch_size`` last rows of the order, ``"keep"`` makes a smaller batch of them.
    rank, world
        This process takes the `rank`-th of `world` contiguous equal parts of every batch.
    """

    rows: int
    batch_size: int
    last_batch: LastBatch = "drop"
    rank: int = 0
    world: int = 1

    @property
    def local_batch_size(self) -> int:
        """Rows of a full batch on this rank."""
        return self.batch_size // self.world

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        full, rest = divmod(self.rows, self.batch_size)
        return full + (1 if rest and self.last_batch == "keep" else 0)

    def span(self, step: int) -> tuple[int, int]:
        """Start and stop of the rows of `step` in the epoch's order, on this rank."""
        start = step * self.batch_size + self.rank * self.local_batch_size
        return start, min(start + self.local_batch_size, self.rows)


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


def permutation(rows: int, seed: int, epoch: int, first_stream: int = 0) -> NDArray[np.unsignedinteger]:
    """Return the order of a fully shuffled epoch.

    Rows are dealt at random to buckets of about 2**20, and each bucket is sorted by random keys. A key has at least
    40 random bits, so that two keys of a bucket are equal, and their rows in file order, for less than one pair in
    2**40.

    Parameters
    ----------
    rows
        Number of rows, at least 1.
    seed
        Any integer from 0 to 2**64 - 1.
    epoch
        Epoch, from 0.
    first_stream
        First of the random streams to draw from.

    Returns
    -------
    ndarray
        Shape ``[rows]``, dtype uint32 below 2**32 rows, else uint64: every row once.
    """
    dtype = _dtype(rows)
    buckets = -(-rows // _BUCKET_ROWS)
    if buckets == 1:
        return _shuffled(rows, seed, epoch, first_stream + 1).astype(dtype)
    dealt, starts = _deal(rows, buckets, seed, epoch, first_stream, dtype)
    for bucket, (start, stop) in enumerate(pairwise(starts)):
        members = dealt[start:stop]
        members[:] = members[_shuffled(members.size, seed, epoch, first_stream + 1 + bucket).astype(np.intp)]
    return dealt


def _shuffled(size: int, seed: int, epoch: int, stream: int) -> NDArray[np.uint64]:
    """Return 0 … size-1, sorted by random keys that carry the number itself in their low bits."""
    bits = np.uint64(max(1, (size - 1).bit_length()))
    source = _raw(seed, epoch, stream)
    keys = np.empty(size, np.uint64)
    for start in range(0, size, _CHUNK):
        chunk = keys[start : start + _CHUNK]
        np.left_shift(source.random_raw(chunk.size), bits, out=chunk)
        chunk |= np.arange(start, start + chunk.size, dtype=np.uint64)
    keys.sort()
    keys &= (np.uint64(1) << bits) - np.uint64(1)
    return keys


def _deal(
    rows: int, buckets: int, seed: int, epoch: int, stream: int, dtype: type[np.unsignedinteger]
) -> tuple[NDArray[np.unsignedinteger], list[int]]:
    """Deal the rows to buckets by chance: two passes over the same draws, so that nothing but the result is kept."""
    counts = np.zeros(buckets, np.int64)
    for _, drawn in _draws(rows, buckets, seed, epoch, stream):
        counts += np.bincount(drawn, minlength=buckets)
    starts = [0, *np.cumsum(counts).tolist()]
    fill = np.array(starts[:-1])
    dealt = np.empty(rows, dtype)
    for first, drawn in _draws(rows, buckets, seed, epoch, stream):
        by_bucket = np.argsort(drawn, kind="stable")
        sizes = np.bincount(drawn, minlength=buckets)
        within = np.arange(drawn.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        dealt[np.repeat(fill, sizes) + within] = by_bucket + first
        fill += sizes
    return dealt, starts


def _draws(rows: int, buckets: int, seed: int, epoch: int, stream: int) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Yield a bucket for every row, a chunk at a time, with the chunk's first row."""
    source = _raw(seed, epoch, stream)
    for first in range(0, rows, _CHUNK):
        high = source.random_raw(min(_CHUNK, rows - first)) >> np.uint64(32)
        # 16 bits sort by radix; they are enough for 2**36 rows.
        yield first, (high * np.uint64(buckets) >> np.uint64(32)).astype(np.uint16)


def _raw(seed: int, epoch: int, stream: int) -> "np.random.Philox":
    """Return a counter-based generator; seed and epoch are its key and the stream the top of its counter."""
    return np.random.Philox(key=seed | (epoch << 64), counter=stream << 128)


class Order:
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

    def unmixed(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return rows that lie together: of a block, all; of a block shuffle, of those that begin in this place."""
        return self.rows(start, stop)


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
        shift = (int(_raw(seed, epoch, _MIXING - 1).random_raw()) * blocks.rows) >> 64
        edges = np.unique(np.append(np.arange(shift, rows, blocks.rows), (0, rows)))
        by_chance = permutation(len(edges) - 1, seed, epoch, _MIXING).astype(np.intp)
        self._starts, self._sizes = edges[by_chance], np.diff(edges)[by_chance]
        self._places = np.cumsum(self._sizes) - self._sizes
        in_order = np.empty(rows, _dtype(rows))
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


def order(rows: int, shuffle: Shuffle | Blocks, seed: int, epoch: int) -> Order:
    """Return the order of an epoch."""
    if isinstance(shuffle, Blocks):
        return BlockOrder(rows, seed, epoch, shuffle)
    return Order(permutation(rows, seed, epoch) if shuffle == "full" else None)


def _dtype(rows: int) -> type[np.unsignedinteger]:
    return np.uint32 if rows <= 2**32 else np.uint64
