"""Which rows come in an epoch, and how often, by a weight of each: the same for the same seed and epoch.

Systematic resampling: points at equal distances, from a first one by chance, along the weights laid end to end. An
epoch has exactly as many rows as asked for, and each row comes as often as its weight says but for one time, which
multinomial drawing does not give; rows that come less than once an epoch come in some epochs, as often as they should.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, UsageError
from feedline.order.permutation import raw, row_dtype

_TOTAL = 2**62
_MOST_ROWS = 2**31
_STREAM = 2**40
"""Beyond those that orders are drawn from."""


class Draw:
    """How often each row comes in an epoch.

    Parameters
    ----------
    weights
        Of each row, ``[n]``, at least 0; as a share of their sum.
    rows
        Rows of an epoch.

    Raises
    ------
    DataError
        A weight is negative or none, all are 0, or they are not numbers.
    UsageError
        There are too many rows to draw.

    Attributes
    ----------
    cumulative
        The sums of the weights up to each row, as integers, ``[n]`` uint64.
    """

    def __init__(self, weights: NDArray[Any], rows: int) -> None:
        if weights.ndim != 1 or weights.dtype.kind not in "biuf" or not len(weights):
            what = f"dtype {weights.dtype.str}, shape {list(weights.shape)}"
            raise DataError(f"weights: must be one number for each row (got {what})")
        if not 1 <= rows <= _MOST_ROWS:
            raise UsageError(f"draws: must be from 1 to 2**31 (got {rows})")
        shares = weights.astype(np.float64)
        wrong = ~(np.isfinite(shares) & (shares >= 0))
        if wrong.any():
            place = int(wrong.argmax())
            raise DataError(f"weights: row {place} has weight {weights[place]}: give it one of at least 0")
        largest = shares.max()
        if largest == 0:
            raise DataError("weights: all are 0: no row would come")
        shares /= largest
        shares *= _TOTAL / (2 * shares.sum())
        self.cumulative = np.cumsum(shares.astype(np.uint64), dtype=np.uint64)
        self.rows = rows

    def fingerprint(self) -> str:
        """Return what tells it from another one."""
        # Imported here: a script that saves no state should not wait for it.
        import hashlib

        return f"{self.rows} by {hashlib.blake2b(self.cumulative.tobytes(), digest_size=16).hexdigest()}"

    def numbers(self, seed: int, epoch: int) -> NDArray[np.unsignedinteger]:
        """Return the rows of an epoch, ``[rows]``, in ascending order."""
        step, rest = divmod(int(self.cumulative[-1]), self.rows)
        first = int(raw(seed, epoch, _STREAM).random_raw()) % step
        places = np.arange(self.rows, dtype=np.uint64)
        points = places * np.uint64(rest) // np.uint64(self.rows)
        places *= np.uint64(step)
        points += places
        points += np.uint64(first)
        return np.searchsorted(self.cumulative, points, "right").astype(row_dtype(len(self.cumulative)))


def balanced(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return weights by which every label comes as often as any other.

    Parameters
    ----------
    labels
        Of each row, ``[n]``: whole numbers or text.

    Raises
    ------
    DataError
        They are something else.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "biuSU":
        what = f"dtype {labels.dtype.str}, shape {list(labels.shape)}"
        raise DataError(f"balance: must be by one whole number or text for each row (got {what})")
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / counts[numbers]
