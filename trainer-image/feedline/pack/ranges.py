"""What numbers the columns of a table hold: the least, the greatest, how many are missing, whether they count the rows.

A person who sees them sees a column that was taken for something else. Pure.
"""

import numpy as np
from numpy import typing as npt

from feedline.pack.source import Array

_ENOUGH_ROWS = 8
"""Fewer rows may be in order by chance."""


class Ranges:
    """Of `width` columns, seen some rows at a time."""

    def __init__(self, width: int) -> None:
        self._low = np.full(width, np.inf)
        self._high = np.full(width, -np.inf)
        self._missing = np.zeros(width, np.int64)
        self._rows = np.zeros(width, np.int64)
        self._first = np.zeros(width)
        self._counts = np.ones(width, bool)

    def see(self, values: Array, begin: int) -> None:
        """Take in the next rows, ``[k, n]``, of the columns from `begin` on."""
        rows, columns = len(values), slice(begin, begin + values.shape[1])
        if not rows:
            return
        if values.dtype.kind == "b":
            values = values.astype(np.uint8)
        low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
        gone = np.isnan(low)
        if gone.any():
            some = np.asarray(values[:, gone], np.float64)
            self._missing[columns][gone] += np.isnan(some).sum(axis=0)
            low[gone], high[gone] = np.fmin.reduce(some, axis=0), np.fmax.reduce(some, axis=0)
        self._low[columns] = np.fmin(self._low[columns], low)
        self._high[columns] = np.fmax(self._high[columns], high)
        start = int(self._rows[begin])
        if not start:
            self._first[columns] = values[0]
        alive = np.flatnonzero(self._counts[columns])
        if len(alive):
            counted = self._first[columns][alive] + np.arange(start, start + rows).reshape(-1, 1)
            self._counts[columns][alive] = (values[:, alive] == counted).all(axis=0)
        self._rows[columns] += rows

    def of(self, begin: int, end: int) -> tuple[float | None, float | None, int]:
        """Return the least, the greatest and how many are missing in columns `begin` to `end`."""
        low, high = float(self._low[begin:end].min()), float(self._high[begin:end].max())
        missing = int(self._missing[begin:end].sum())
        return (low, high, missing) if low <= high else (None, None, missing)

    def counting(self) -> list[int]:
        """Return the columns that grow by 1 from row to row."""
        found: npt.NDArray[np.intp] = np.flatnonzero(self._counts & (self._rows >= _ENOUGH_ROWS))
        return [int(column) for column in found]
