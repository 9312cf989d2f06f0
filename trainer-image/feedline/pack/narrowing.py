"""Numbers into a narrower type, and never another number than the one that was there. Pure.

A fraction is rounded, as every measured number is. A whole number that a type cannot hold, one that would become
infinite or 0, a fraction or NaN in a type of integers are refused, with the type that holds them.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy import typing as npt

from feedline.errors import DataError

Array = npt.NDArray[Any]

DTYPES: Final = (
    "float16",
    "float32",
    "float64",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
)
"""Feature types on offer."""
_EXACT: Final = 2.0**53
"""Whole numbers up to here are what was meant; beyond, a float64 is itself a rounded one."""


def narrowed(
    values: Array, dtype: np.dtype[Any], where: Callable[[int, int], str], scale: float | None = None
) -> Array:
    """Scale and cast.

    Parameters
    ----------
    values
        ``[k, width]`` numbers.
    dtype
        The type to cast to.
    where
        Says where the number at (row of `values`, column of `values`) came from.
    scale
        A factor, or None.

    Returns
    -------
    numpy.ndarray
        ``[k, width]`` of `dtype`.

    Raises
    ------
    DataError
        A number does not fit `dtype`.
    """
    if values.dtype == dtype and scale is None:
        return values
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        scaled = values if scale is None else values * np.float64(scale)
        cast = scaled.astype(dtype)
        lost = _lost(scaled, cast)
        if scale is not None and lost is None:
            lost = _some((np.isfinite(values) & ~np.isfinite(scaled)) | ((values != 0) & (scaled == 0)))
    if lost is not None:
        row, column = np.argwhere(lost)[0].tolist()
        raise DataError(
            f"{where(row, column)}: {_told(values[row, column], scale)} does not fit {dtype}: "
            f"{_remedy(scaled[row, column], dtype)}"
        )
    return cast


def _lost(values: Array, cast: Array) -> Any:
    """Return which numbers became others, None where none did."""
    if cast.dtype.kind != "f":
        # Back again, for a cast that wraps around may give the same number in a type of another sign.
        return _some((cast != values) | ((values < 0) != (cast < 0)) | (cast.astype(values.dtype) != values))
    if values.dtype.kind in "iub":
        bits = np.finfo(cast.dtype).nmant + 1
        if values.dtype.itemsize * 8 - (values.dtype.kind == "i") <= bits or not len(values):
            return None
        large = max(abs(int(values.max())), abs(int(values.min()))) > 2**bits
        return _some(~np.isfinite(cast) | _changed(values, cast)) if large else None
    size = np.abs(values)
    whole = (size > 2.0 ** (np.finfo(cast.dtype).nmant + 1)) & (size < _EXACT) & (values == np.rint(values))
    return _some((np.isfinite(values) & ~np.isfinite(cast)) | ((cast == 0) & (size > 0)) | (whole & (cast != values)))


def _changed(integers: Array, cast: Array) -> Any:
    """Return which integers are no longer the same; compared as integers, for a float64 has no more than 53 bits."""
    limits = np.iinfo(integers.dtype)
    inside = (cast >= float(limits.min)) & (cast < float(limits.max))
    return ~inside | (np.where(inside, cast, 0).astype(integers.dtype) != integers)


def _some(lost: Any) -> Any:
    return lost if bool(lost.any()) else None


def _told(value: Any, scale: float | None) -> str:
    text = repr(float(value)) if isinstance(value, float | np.floating) else str(value)
    return text if scale is None else f"{text} times {scale:g}"


def _remedy(value: Any, dtype: np.dtype[Any]) -> str:
    if not math.isfinite(value):
        return "correct it" if dtype.kind == "f" else "correct it, or choose --dtype float32"
    integers = ("uint16", "int16", "int32", "uint32", "int64", "uint64")
    floats = ("float32", "float64")
    for name in (*floats, *integers) if dtype.kind == "f" else ("int8", *integers, *floats):
        kind = np.dtype(name)
        if kind != dtype and kind.itemsize >= dtype.itemsize and _holds(value, kind):
            return f"correct it, or choose --dtype {name}"
    return "correct it"


def _holds(value: Any, kind: np.dtype[Any]) -> bool:
    if kind.kind != "f":
        limits = np.iinfo(kind)
        return bool(value and value == int(value) and limits.min <= int(value) <= limits.max)
    with np.errstate(over="ignore", under="ignore"):
        return bool(value) and _lost(np.array([[value]]), np.array([[value]]).astype(kind)) is None
