"""Copies rows by compiled code, where it was built, and else by NumPy; both give the same bytes.

`FEEDLINE_NATIVE` is ``auto`` (the default), ``0`` for NumPy, or ``1`` to refuse to do without. Nothing here knows a
file. `gather.c` says what is gained.
"""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.errors import EnvironmentInvalidError

_LIBRARY: Final = Path(__file__).with_name("gather.so")
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
        wrong = self._function(
            self._address,
            len(self._table),
            self._rows,
            self._row_bytes,
            rows.__array_interface__["data"][0],
            len(rows),
            out.__array_interface__["data"][0],
        )
        if wrong >= 0:
            raise IndexError(f"row {rows[wrong]} is none of {self._rows}")


def gather(parts: Sequence[NDArray[np.uint8]]) -> Gather | None:
    """Return what takes rows from `parts`; None where NumPy has to.

    Raises
    ------
    EnvironmentInvalidError
        As `library` does.
    """
    function = library()
    if function is None or not parts or any(part.strides[1] != 1 for part in parts):
        return None
    return Gather(function, parts)


def copied_by() -> str:
    """Return what copies rows, in a word: native or numpy."""
    return "numpy" if library() is None else "native"


@cache
def library() -> Any:
    """Return the compiled function, once it gave what NumPy gives; None where there is none.

    Raises
    ------
    EnvironmentInvalidError
        `FEEDLINE_NATIVE` is 1, and there is none, or it is none of auto, 0 and 1.
    """
    wanted = os.environ.get("FEEDLINE_NATIVE", "auto")
    if wanted not in ("auto", "0", "1"):
        raise EnvironmentInvalidError(f"FEEDLINE_NATIVE: must be auto, 0 or 1 (got {wanted!r})")
    if wanted == "0":
        return None
    try:
        function = ctypes.CDLL(str(_LIBRARY)).feedline_gather
    except (OSError, AttributeError) as error:
        if wanted == "1":
            raise EnvironmentInvalidError(
                f"FEEDLINE_NATIVE: is 1, and {_LIBRARY} cannot be used ({error}): install a wheel of this platform, or "
                "build it where there is a C compiler"
            ) from None
        return None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = (pointer, number, number, number, pointer, number, pointer)
    function.restype = number
    _try(function)
    return function


def _try(function: Any) -> None:
    """Take some rows by both ways.

    Raises
    ------
    EnvironmentInvalidError
        They differ.
    """
    rows = np.arange(300, dtype=np.uint16).view(np.uint8).reshape(100, 6)
    numbers = np.array([99, 0, 50, 49, 7, 7, 98, 51, 3, 42, 60])
    out = np.zeros((len(numbers), 6), np.uint8)
    Gather(function, (rows[:50], rows[50:])).take(numbers, out)
    if not np.array_equal(out, rows[numbers]):
        raise EnvironmentInvalidError(f"{_LIBRARY} copies wrong rows here: set FEEDLINE_NATIVE=0, and report it")
