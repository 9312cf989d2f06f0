"""Transforms of each number by itself: another dtype, another scale."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError
from feedline.transforms.spec import ArraySpec
from feedline.transforms.statistics import Statistics, load_statistics
from feedline.transforms.transform import OfOne, number_type


@dataclass(frozen=True)
class Cast(OfOne):
    """The same numbers in another dtype.

    ::

        feedline.Cast("tokens", "int64")

    Parameters
    ----------
    dtype
        Its name. A whole number that it cannot hold is an error; a float may be rounded, but becomes no whole number.
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
        np.copyto(out, values, casting="unsafe")
        if out.dtype.kind in "iu" and not np.can_cast(values.dtype, out.dtype):
            self._require_held(values, out, rows)

    def _require_held(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        # A negative number that becomes unsigned compares equal to nothing only where its sign is looked at, too.
        wrong = (out != values) | ((out < 0) != (values < 0))
        if wrong.any():
            place = np.argwhere(wrong)[0]
            raise DataError(
                f"cast of {self.array}: {values[tuple(place)]} in row {rows[place[0]]} is no {self.dtype}: take a "
                "wider dtype"
            )

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        return {"cast": {"array": self.array, "dtype": self.dtype}}


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
        if not (np.isfinite(self.by) and np.isfinite(self.offset)):
            raise self.refuse("by and offset must be finite")
        return _float(self, spec, self.dtype)

    def write(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write the products to `out`."""
        del rows
        np.multiply(values, out.dtype.type(self.by), out=out, dtype=out.dtype, casting="same_kind")
        if self.offset:
            out += out.dtype.type(self.offset)

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        return {"scale": {"array": self.array, "by": self.by, "offset": self.offset, "dtype": self.dtype}}


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
            mean, std = self.statistics.mean, self.statistics.std
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
        # Dates in seconds, for instance, would lose what tells them apart in a float32.
        working = np.result_type(values.dtype, out.dtype)
        np.subtract(values, self._mean.astype(working), out=out, dtype=working, casting="same_kind")
        out *= (1.0 / self._std).astype(out.dtype)

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        digest = hashlib.sha256(self._mean.tobytes() + self._std.tobytes()).hexdigest()[:16]
        return {"standardize": {"array": self.array, "statistics": digest, "dtype": self.dtype}}


def _float(transform: OfOne, spec: ArraySpec, name: str) -> ArraySpec:
    dtype = number_type(name, f"{type(transform).__name__.lower()} of {transform.array}")
    if dtype.kind != "f":
        raise transform.refuse(f"dtype must be a float (got {name})")
    if spec.dtype.kind not in "biuf":
        raise transform.refuse(f"it takes numbers, this is {spec.dtype.name}")
    return ArraySpec(dtype, spec.row_shape)
