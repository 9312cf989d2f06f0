"""Rows from anywhere in memory to one place. `gather.c` says what is gained."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.native.library import library, wrong

_PART: Final = np.dtype([("base", np.uint64), ("first", np.int64), ("stride", np.int64)])


class Gather:
    """Takes rows from parts in memory by compiled code.

    Parameters
    ----------
    function
        Of the library.
    parts
        Rows as ``[rows, row_bytes]`` uint8, each row in one piece, of the same bytes.
    """

    def __init__(self, function: Any, parts: Sequence[NDArray[np.uint8]]) -> None:
        self._function = function
        self._parts = tuple(parts)  # whose memory must stay
        self._rows, self._row_bytes = sum(map(len, parts)), parts[0].shape[1]
        self._table = np.empty(len(parts), _PART)
        self._table["base"] = [part.__array_interface__["data"][0] for part in parts]
        self._table["first"] = np.cumsum([0, *map(len, parts[:-1])])
        self._table["stride"] = [part.strides[0] for part in parts]
        self._address = self._table.__array_interface__["data"][0]

    def take(self, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> None:
        """Copy rows to `out`, ``[len(rows), row_bytes]`` uint8, C-contiguous; the interpreter is free meanwhile.

        Raises
        ------
        IndexError
            There is no such row.
        """
        rows = np.ascontiguousarray(rows, np.int64)
        if out.shape != (len(rows), self._row_bytes) or not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError(f"out must be a contiguous array of {len(rows)} rows of {self._row_bytes} bytes")
        missing = self._function(
            self._address,
            len(self._table),
            self._rows,
            self._row_bytes,
            rows.__array_interface__["data"][0],
            len(rows),
            out.__array_interface__["data"][0],
        )
        if missing >= 0:
            raise IndexError(f"row {rows[missing]} is none of {self._rows}")


def gather(parts: Sequence[NDArray[np.uint8]]) -> Gather | None:
    """Return what takes rows from `parts`; None where NumPy has to.

    Raises
    ------
    EnvironmentInvalidError
        As `library` does, or the library copies wrong rows.
    """
    function = _tried()
    if function is None or not parts or any(part.strides[1] != 1 for part in parts):
        return None
    return Gather(function, parts)


@cache
def _tried() -> Any:
    """Return the function, once it gave what NumPy gives."""
    found = library()
    if found is None:
        return None
    rows = np.arange(300, dtype=np.uint16).view(np.uint8).reshape(100, 6)
    numbers = np.array([99, 0, 50, 49, 7, 7, 98, 51, 3, 42, 60])
    out = np.zeros((len(numbers), 6), np.uint8)
    Gather(found.feedline_gather, (rows[:50], rows[50:])).take(numbers, out)
    if not np.array_equal(out, rows[numbers]):
        raise wrong("copies wrong rows")
    return found.feedline_gather
