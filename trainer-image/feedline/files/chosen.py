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


def chosen(rows: Rows | None, total: int, name: str = "rows") -> Chosen:
    """Return which of so many rows are meant; `open_arrays` says in which ways that is said, and `name` where.

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
        check_index(name, rows.dtype, rows.shape[1:])
        return _indexed(rows, total, name)
    given: Any = rows
    if not isinstance(given, tuple) or len(given) != 2:
        raise UsageError(f"rows: must be start and stop, an array of row numbers or a path (got {str(given)[:80]})")
    start, stop = given
    stop = total if stop is None else stop
    if not 0 <= start < stop:
        raise UsageError(f"rows: start must be at least 0 and below stop (got start {start}, stop {stop})")
    if stop > total:
        raise DataError(f"rows: stop is {stop}, but the arrays have {total} rows")
    return Chosen(start, stop, None)


def check_index(name: str, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
    """Refuse what is no index by its type, before it is read.

    Raises
    ------
    DataError
        It holds no whole numbers, or several in a row.
    """
    if dtype.kind not in "iub" or row_shape:
        raise DataError(
            f"{name}: an index is one row number, or true or false, for each row "
            f"(got dtype {dtype.str}, rows of shape {list(row_shape)})"
        )


def _indexed(index: NDArray[Any], total: int, name: str) -> Chosen:
    if index.dtype.kind == "b":
        if len(index) != total:
            raise DataError(f"{name}: the index says true or false of {len(index)} rows, and the arrays have {total}")
        index = np.flatnonzero(index)
    if not len(index):
        raise DataError(f"{name}: the index chooses none")
    least, most = int(index.min()), int(index.max())
    if least < 0:
        raise DataError(f"{name}: the index names row {least} at place {int(index.argmin())}: rows are counted from 0")
    if most >= total:
        place = int(index.argmax())
        raise DataError(f"{name}: the index names row {most} at place {place}, and the arrays have {total} rows")
    width = np.uint32 if most - least < _SMALL else np.int64
    return Chosen(least, most + 1, (index.astype(np.int64) - least).astype(width))
