"""Which rows are read: those from one to another, or those that an index names. Pure."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, UsageError

Rows = slice | tuple[int, int | None] | NDArray[Any]
_SMALL = 2**32


class Chosen(NamedTuple):
    """The rows that are read.

    Attributes
    ----------
    start, stop
        All of them lie from the first up to but without the second.
    numbers
        Which of them, ``[n]``, counted from `start` and in this order; None: all.
    """

    start: int
    stop: int
    numbers: NDArray[Any] | None


def chosen(rows: Rows | None, total: int) -> Chosen:
    """Return which of so many rows are meant; `open_arrays` says in which ways that is said.

    Raises
    ------
    DataError
        They are not there.
    UsageError
        They are none.
    """
    if rows is None:
        return Chosen(0, total, None)
    if isinstance(rows, slice):
        if rows.step not in (None, 1):
            raise UsageError(f"rows: a step of {rows.step} is not possible, only start and stop")
        rows = (rows.start or 0, rows.stop)
    if isinstance(rows, np.ndarray):
        return _indexed(rows, total)
    start, stop = rows
    stop = total if stop is None else stop
    if not 0 <= start < stop:
        raise UsageError(f"rows: start must be at least 0 and below stop (got start {start}, stop {stop})")
    if stop > total:
        raise DataError(f"rows: stop is {stop}, but the arrays have {total} rows")
    return Chosen(start, stop, None)


def _indexed(index: NDArray[Any], total: int) -> Chosen:
    if index.ndim != 1 or index.dtype.kind not in "iub":
        what = f"dtype {index.dtype.str}, shape {list(index.shape)}"
        raise DataError(
            f"rows: an index must be row numbers, or true and false for every row, on one axis (got {what})"
        )
    if index.dtype.kind == "b":
        if len(index) != total:
            raise DataError(f"rows: the index says true or false of {len(index)} rows, and the arrays have {total}")
        index = np.flatnonzero(index)
    if not len(index):
        raise DataError("rows: the index chooses none")
    least, most = int(index.min()), int(index.max())
    if least < 0:
        raise DataError(f"rows: the index names row {least} at place {int(index.argmin())}: rows are counted from 0")
    if most >= total:
        place = int(index.argmax())
        raise DataError(f"rows: the index names row {most} at place {place}, and the arrays have {total} rows")
    width = np.uint32 if most - least < _SMALL else np.int64
    return Chosen(least, most + 1, (index.astype(np.int64) - least).astype(width))
