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

    Exact where blocks are whole and a batch does not reach over the edge of a window.

    Parameters
    ----------
    rows, batch_size
        Of the data, and of a batch.
    blocks
        How they are cut and mixed.
    """
    block, window = min(blocks.rows, rows), min(blocks.lead, rows)
    mixed = min(batch_size, window)
    in_window = mixed * (mixed - 1) / 2 * (block - 1) / max(1, window - 1)
    in_full = batch_size * (batch_size - 1) / 2 * (block - 1) / max(1, rows - 1)
    return batch_size / mixed * in_window, in_full


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
    count = -(-rows // blocks.rows)
    blocks_of_batch = min(blocks.window * -(-batch_size // blocks.lead), count)

    def of_window() -> NDArray[np.intp]:
        chosen = random.choice(count, blocks_of_batch, replace=False) * blocks.rows
        sizes = np.minimum(blocks.rows, rows - chosen)
        places = random.choice(sizes.sum(), min(batch_size, int(sizes.sum())), replace=False)
        ends = np.cumsum(sizes)
        block = np.searchsorted(ends, places, side="right")
        found: NDArray[np.intp] = chosen[block] + places - (ends - sizes)[block]
        return found

    def of_all() -> NDArray[np.intp]:
        return random.choice(rows, min(batch_size, rows), replace=False)

    def entropy(draw: Callable[[], NDArray[np.intp]]) -> float:
        return float(np.mean([_entropy(labels, draw()) for _ in range(_BATCHES)]))

    return entropy(of_window), entropy(of_all)


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
