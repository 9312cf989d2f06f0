"""What block shuffle costs: how much more alike the rows of a batch are than in a full shuffle. No order is made.

Rows that lie together in a file are often alike: of one day, one patient, one class. A batch of rows that are alike is
worth less to a training than one of rows that are not, so that whoever takes block shuffle for its speed should see
what it mixes.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from feedline.order.blocks import Blocks

_BATCHES = 64


class Labels(Protocol):
    """Classes by row, such as an array of files."""

    rows: int
    row_bytes: int

    def copy(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy `rows` to `out`, ``[len(rows), row_bytes]`` uint8."""


def expected_pairs(rows: int, batch_size: int, blocks: Blocks) -> tuple[float, float]:
    """Return how many pairs of rows of a batch come from one block, on average, in block shuffle and in a full one.

    Exact where blocks are whole and lanes are long.

    Parameters
    ----------
    rows, batch_size
        Of the data, and of a batch.
    blocks
        How they are cut and mixed.
    """
    block, lanes = min(blocks.rows, rows), blocks.lanes(rows)
    in_full = batch_size * (batch_size - 1) / 2 * (block - 1) / max(1, rows - 1)
    if block == rows:
        return in_full, in_full
    least, more = divmod(batch_size, lanes)
    return (lanes - more) * _pairs(least, block) + more * _pairs(least + 1, block), in_full


def _pairs(taken: int, block: int) -> float:
    """Return how many pairs of rows that a lane gives one after the other come from one block.

    Two of them that are *d* apart do for a share ``1 - d / block`` of the places that they may lie at.
    """
    farthest = max(0, min(taken, block) - 1)
    squares = farthest * (farthest + 1) * (2 * farthest + 1) / 6
    return farthest * taken - farthest * (farthest + 1) / 2 * (1 + taken / block) + squares / block


def label_entropy(labels: Labels, batch_size: int, blocks: Blocks, seed: int = 0) -> tuple[float, float]:
    """Return the entropy of a batch's labels in bits, on average: in block shuffle and in a full one.

    Parameters
    ----------
    labels
        Classes, ``[rows]``; some thousand of them are read.
    batch_size
        Rows of a batch.
    blocks
        How they are cut and mixed.
    seed
        Of the 64 batches that are drawn for each.
    """
    random, rows = np.random.default_rng(seed), labels.rows
    block, lanes = min(blocks.rows, rows), blocks.lanes(rows)
    count = -(-rows // block)

    def of_lanes() -> NDArray[np.intp]:
        if batch_size >= rows:
            return np.arange(rows)
        least, more = divmod(batch_size, lanes)
        # Each lane is somewhere in a block, and may go on to others.
        places = [
            np.arange(place, place + least + (lane < more)) // block
            for lane, place in enumerate(random.integers(0, block, lanes if least else more))
        ]
        taken = np.concatenate([np.unique(each, return_counts=True)[1] for each in places])
        chosen = np.resize(random.permutation(count), len(taken)) * block
        sizes = np.minimum(block, rows - chosen)
        return np.concatenate(
            [
                first + random.choice(size, min(size, wanted), replace=False)
                for first, size, wanted in zip(chosen, sizes, taken, strict=True)
            ]
        )

    def of_all() -> NDArray[np.intp]:
        return random.choice(rows, min(batch_size, rows), replace=False)

    def entropy(draw: Callable[[], NDArray[np.intp]]) -> float:
        return float(np.mean([_entropy(labels, draw()) for _ in range(_BATCHES)]))

    return entropy(of_lanes), entropy(of_all)


def price(labels: Labels | None, rows: int, batch_size: int, blocks: Blocks) -> str:
    """Return the price of block shuffle as a sentence; `labels` are classes, or None."""
    pairs, in_full = expected_pairs(rows, batch_size, blocks)
    count = min(blocks.window, -(-rows // blocks.rows))
    told = (
        f"Block shuffle mixes {count} blocks of {min(blocks.rows, rows)} rows: of a batch of {batch_size}, {pairs:.3g} "
        f"pairs of rows come from the same block, in a full shuffle {in_full:.3g}"
    )
    if labels is not None:
        here, full = label_entropy(labels, batch_size, blocks)
        told += f"; its labels have {here:.3g} bits of entropy, in a full shuffle {full:.3g}"
    return told + "."


def _entropy(labels: Labels, rows: NDArray[np.intp]) -> float:
    found = np.empty((len(rows), labels.row_bytes), np.uint8)
    labels.copy(rows, found)
    counts = np.unique(found, axis=0, return_counts=True)[1]
    shares = counts / len(rows)
    return float(-(shares * np.log2(shares)).sum())
