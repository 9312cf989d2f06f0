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

Shuffle = Literal["full", "none"]
LastBatch = Literal["drop", "keep"]

_BUCKET_ROWS = 1 << 20
"""Rows sorted at once: 8 MiB of keys, so that building an order needs little besides the order itself."""
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


def permutation(rows: int, seed: int, epoch: int) -> NDArray[np.unsignedinteger]:
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

    Returns
    -------
    ndarray
        Shape ``[rows]``, dtype uint32 below 2**32 rows, else uint64: every row once.
    """
    dtype = np.uint32 if rows <= 2**32 else np.uint64
    buckets = -(-rows // _BUCKET_ROWS)
    if buckets == 1:
        return _shuffled(rows, seed, epoch, bucket=0).astype(dtype)
    dealt, starts = _deal(rows, buckets, seed, epoch, dtype)
    for bucket, (start, stop) in enumerate(pairwise(starts)):
        members = dealt[start:stop]
        members[:] = members[_shuffled(members.size, seed, epoch, bucket).astype(np.intp)]
    return dealt


def _shuffled(size: int, seed: int, epoch: int, bucket: int) -> NDArray[np.uint64]:
    """Return 0 … size-1, sorted by random keys that carry the number itself in their low bits."""
    bits = np.uint64(max(1, (size - 1).bit_length()))
    source = _raw(seed, epoch, stream=1 + bucket)
    keys = np.empty(size, np.uint64)
    for start in range(0, size, _CHUNK):
        chunk = keys[start : start + _CHUNK]
        np.left_shift(source.random_raw(chunk.size), bits, out=chunk)
        chunk |= np.arange(start, start + chunk.size, dtype=np.uint64)
    keys.sort()
    keys &= (np.uint64(1) << bits) - np.uint64(1)
    return keys


def _deal(
    rows: int, buckets: int, seed: int, epoch: int, dtype: type[np.unsignedinteger]
) -> tuple[NDArray[np.unsignedinteger], list[int]]:
    """Deal the rows to buckets by chance: two passes over the same draws, so that nothing but the result is kept."""
    counts = np.zeros(buckets, np.int64)
    for _, drawn in _draws(rows, buckets, seed, epoch):
        counts += np.bincount(drawn, minlength=buckets)
    starts = [0, *np.cumsum(counts).tolist()]
    fill = np.array(starts[:-1])
    dealt = np.empty(rows, dtype)
    for first, drawn in _draws(rows, buckets, seed, epoch):
        by_bucket = np.argsort(drawn, kind="stable")
        sizes = np.bincount(drawn, minlength=buckets)
        within = np.arange(drawn.size) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        dealt[np.repeat(fill, sizes) + within] = by_bucket + first
        fill += sizes
    return dealt, starts


def _draws(rows: int, buckets: int, seed: int, epoch: int) -> Iterator[tuple[int, NDArray[np.uint16]]]:
    """Yield a bucket for every row, a chunk at a time, with the chunk's first row."""
    source = _raw(seed, epoch, stream=0)
    for first in range(0, rows, _CHUNK):
        high = source.random_raw(min(_CHUNK, rows - first)) >> np.uint64(32)
        # 16 bits sort by radix; they are enough for 2**36 rows.
        yield first, (high * np.uint64(buckets) >> np.uint64(32)).astype(np.uint16)


def _raw(seed: int, epoch: int, stream: int) -> "np.random.Philox":
    """Return a counter-based generator; seed and epoch are its key and the stream the top of its counter."""
    return np.random.Philox(key=seed | (epoch << 64), counter=stream << 128)


def order(rows: int, shuffle: Shuffle, seed: int, epoch: int) -> NDArray[np.unsignedinteger] | None:
    """Return the epoch's order, or None where it is that of the files."""
    return permutation(rows, seed, epoch) if shuffle == "full" else None
