"""Transforms of each number by itself: another dtype, another scale."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError
from feedline.native import Conversion, conversion
from feedline.transforms.arguments import dtype_name, number_type
from feedline.transforms.spec import ArraySpec
from feedline.transforms.statistics import Statistics, load_statistics, usable
from feedline.transforms.transform import OfOne, word

_LEAST: Final = float(np.finfo(np.float32).tiny)
_MOST: Final = float(np.finfo(np.float32).max)
_FAR: Final = 1000.0
"""Standard deviations that a mean may be from 0: a float32 rounds it by less than a ten thousandth of one."""


@dataclass(frozen=True)
class Cast(OfOne):
    """The same numbers in another dtype.

    ::

        feedline.Cast("tokens", "int64")

    Parameters
    ----------
    dtype
        Its name. A number beyond its range is an error; one that becomes a float may be rounded, and no float becomes a
        whole number.
    """

    dtype: str

    def output(self, spec: ArraySpec) -> ArraySpec:
        """Return what its array is after it."""
        dtype = number_type(self.dtype, f"cast of {self.array}")
        if spec.dtype.kind not in "biuf":
            raise self.refuse(f"it takes numbers, this is {spec.dtype.name}")
        if spec.dtype.kind == "f" and dtype.kind != "f":
            raise self.refuse(f"{spec.dtype.name} has fractions, which {dtype.name} has not: take a float")
        if dtype.kind == "b" and spec.dtype.kind != "b":
            raise self.refuse("numbers become no bool: compare them in a function of yours")
        return ArraySpec(dtype, spec.row_shape)

    def write(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write the numbers to `out`."""
        with np.errstate(over="ignore"):
            np.copyto(out, values, casting="unsafe")
        if not np.can_cast(values.dtype, out.dtype):
            self._require_held(values, out, rows)

    def _require_held(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        if out.dtype.kind == "f":
            wrong = np.isinf(out) & np.isfinite(values)
        else:
            # A negative number that becomes unsigned compares equal to nothing only where its sign is looked at, too.
            wrong = (out != values) | ((out < 0) != (values < 0))
        if wrong.any():
            place = np.argwhere(wrong)[0]
            raise DataError(
                f"cast of {self.array}: {values[tuple(place)]} in row {rows[place[0]]} is no {self.dtype}: take a "
                "wider dtype"
            )

    def conversion(self, spec: ArraySpec) -> Conversion | None:
        """Return what compiled code does: casts that hold every number."""
        dtype = self.output(spec).dtype
        # Numbers that stay as they are go through no arithmetic, which changes what is no number.
        is_wider = np.can_cast(spec.dtype, dtype) and spec.dtype != dtype
        return conversion(spec.dtype, dtype) if is_wider else None

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        return {"cast": {"array": self.array, "dtype": dtype_name(self.dtype)}}


@dataclass(frozen=True)
class Scale(OfOne):
    """Numbers times a factor, plus an offset.

    ::

        feedline.Scale("image", 1 / 255)  # uint8 to float32 from 0 to 1

    Parameters
    ----------
    by, offset
        The factor, and what is added then.
    dtype
        Of the result, a float.
    """

    by: float
    offset: float = 0.0
    dtype: str = "float32"

    def output(self, spec: ArraySpec) -> ArraySpec:
        """Return what its array is after it."""
        if not all(isinstance(each, Real) and np.isfinite(float(each)) for each in (self.by, self.offset)):
            raise self.refuse(f"by and offset must be finite numbers (got {self.by!r} and {self.offset!r})")
        return _float(self, spec, self.dtype)

    def write(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write the products to `out`."""
        del rows
        working = _working(values.dtype, out.dtype, self.by, self.offset)
        with _rounded_to(out, working) as made:
            np.multiply(values, working.type(self.by), out=made, dtype=working, casting="same_kind")
            if self.offset:
                np.add(made, working.type(self.offset), out=made)

    def conversion(self, spec: ArraySpec) -> Conversion | None:
        """Return what compiled code does: it computes in float32."""
        dtype = self.output(spec).dtype
        found = conversion(spec.dtype, dtype)
        if found is None or _working(spec.dtype, dtype, self.by, self.offset) != np.float32:
            return None
        factor = float(np.float32(self.by))
        return replace(found, by=factor, offset=float(np.float32(self.offset)) if self.offset else found.offset)

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        return {
            "scale": {
                "array": self.array,
                "by": float(self.by),
                "offset": float(self.offset),
                "dtype": dtype_name(self.dtype),
            }
        }


@dataclass(frozen=True)
class Standardize(OfOne):
    """Numbers less their mean, over their standard deviation.

    ::

        feedline.Standardize("features", "statistics.npz")

    Parameters
    ----------
    statistics
        A file such as `feedline stats` writes, with ``mean`` and ``std`` in a shape that broadcasts to a row: one
        number for each column, for instance, or for each channel. It is read now.
    dtype
        Of the result, a float.

    Raises
    ------
    InputMissingError, DataError
        The file cannot be read, is none, or has a standard deviation of 0.
    """

    statistics: str | Path | Statistics
    dtype: str = "float32"
    _mean: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _std: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Read the statistics."""
        if isinstance(self.statistics, Statistics):
            mean, std = usable(self.statistics.mean, self.statistics.std, f"standardize of {self.array}")
        else:
            mean, std = load_statistics(Path(self.statistics))
        object.__setattr__(self, "_mean", mean)
        object.__setattr__(self, "_std", std)

    def output(self, spec: ArraySpec) -> ArraySpec:
        """Return what its array is after it."""
        shape = self._mean.shape
        try:
            fits = np.broadcast_shapes(shape, spec.row_shape) == spec.row_shape
        except ValueError:
            fits = False
        if not fits:
            raise self.refuse(
                f"the statistics have shape {list(shape)}, which does not fit rows of shape {list(spec.row_shape)}: "
                "make them of this array by feedline stats"
            )
        return _float(self, spec, self.dtype)

    def write(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write the standardized numbers to `out`."""
        del rows
        working = _working(values.dtype, out.dtype, self._mean, self._std, 1 / self._std)
        if (np.abs(self._mean) > _FAR * self._std).any():
            working = np.dtype(np.float64)  # or the mean would be rounded by more than what tells numbers apart
        with _rounded_to(out, working) as made:
            np.subtract(values, self._mean.astype(working), out=made, dtype=working, casting="same_kind")
            np.multiply(made, (1.0 / self._std).astype(working), out=made)

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        digest = hashlib.sha256(self._mean.tobytes() + self._std.tobytes()).hexdigest()[:16]
        return {"standardize": {"array": self.array, "statistics": digest, "dtype": dtype_name(self.dtype)}}


def _working(values: np.dtype[Any], out: np.dtype[Any], *constants: float | NDArray[np.float64]) -> np.dtype[Any]:
    """Return in which floats to compute: such as hold the values, the result and the constants."""
    working = np.result_type(values, out, np.float32)
    exact = [np.abs(np.asarray(each)) for each in constants]
    are_held = all(((each == 0) | ((each > _LEAST) & (each < _MOST))).all() for each in exact)
    return working if are_held else np.dtype(np.float64)


@contextmanager
def _rounded_to(out: NDArray[Any], working: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield where to compute: `out` itself, or memory in other floats, which are rounded to it at the end."""
    made = out if working == out.dtype else np.empty(out.shape, working)
    yield made
    if made is not out:
        np.copyto(out, made, casting="same_kind")


def _float(transform: OfOne, spec: ArraySpec, name: str) -> ArraySpec:
    dtype = number_type(name, f"{word(transform)} of {transform.array}")
    if dtype.kind != "f":
        raise transform.refuse(f"dtype must be a float (got {name})")
    if spec.dtype.kind not in "biuf":
        raise transform.refuse(f"it takes numbers, this is {spec.dtype.name}")
    return ArraySpec(dtype, spec.row_shape)
