"""All rows in a random order: a pure function of seed and epoch.

Nothing here depends on a numpy release: only Philox's raw output and integer arithmetic are used, and the sorted keys
are distinct, so that the sort algorithm does not matter. Compiled code gives the same order sooner, where there is any.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from feedline.native import Shuffler, shuffler

_BUCKET_ROWS = 1 << 20
"""Rows sorted at once: 8 MiB of keys, so that building an order needs little besides the order itself."""
_CHUNK = 1 << 14
"""Raw numbers drawn at once: the draw holds the GIL, about 50 µs for this many."""


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
    dtype = row_dtype(rows)
    buckets = -(-rows // _BUCKET_ROWS)
    compiled = shuffler(rows, buckets, seed, epoch)
    if compiled is not None:
        return _permutation_by(compiled, rows, buckets, first_stream)
    if buckets == 1:
        return _shuffled(rows, seed, epoch, first_stream + 1).astype(dtype)
    dealt, starts = _deal(rows, buckets, seed, epoch, first_stream, dtype)
    for bucket, (start, stop) in enumerate(pairwise(starts)):
        members = dealt[start:stop]
        members[:] = members[_shuffled(members.size, seed, epoch, first_stream + 1 + bucket).astype(np.intp)]
    return dealt


def _permutation_by(compiled: Shuffler, rows: int, buckets: int, first_stream: int) -> NDArray[np.unsignedinteger]:
    """Return the same by compiled code."""
    dealt = np.arange(rows, dtype=np.uint32) if buckets == 1 else np.empty(rows, np.uint32)
    ends = np.array([0, rows])
    if buckets > 1:
        ends = np.cumsum([0, *compiled.count(rows, buckets, first_stream)])
        compiled.deal(ends[:-1], first_stream, dealt)
    for bucket, (start, stop) in enumerate(pairwise(ends.tolist())):
        compiled.shuffle(dealt[start:stop], first_stream + 1 + bucket)
    return dealt


def _shuffled(size: int, seed: int, epoch: int, stream: int) -> NDArray[np.uint64]:
    """Return 0 … size-1, sorted by random keys that carry the number itself in their low bits."""
    bits = np.uint64(max(1, (size - 1).bit_length()))
    source = raw(seed, epoch, stream)
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
    source = raw(seed, epoch, stream)
    for first in range(0, rows, _CHUNK):
        high = source.random_raw(min(_CHUNK, rows - first)) >> np.uint64(32)
        # 16 bits sort by radix; they are enough for 2**36 rows.
        yield first, (high * np.uint64(buckets) >> np.uint64(32)).astype(np.uint16)


def raw(seed: int, epoch: int, stream: int) -> "np.random.Philox":
    """Return a counter-based generator; seed and epoch are its key and the stream the top of its counter."""
    return np.random.Philox(key=seed | (epoch << 64), counter=stream << 128)


def row_dtype(rows: int) -> type[np.unsignedinteger]:
    """Return the smallest type that numbers so many rows."""
    return np.uint32 if rows <= 2**32 else np.uint64
