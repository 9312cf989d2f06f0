"""Transforms of the columns of a row: which there are, and of which arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, UsageError
from feedline.transforms.arguments import dtype_name, number_type, whole
from feedline.transforms.spec import ArraySpec
from feedline.transforms.transform import Batch, OfOne, Transform, known


@dataclass(frozen=True)
class OneHot(OfOne):
    """A class as as many numbers as there are classes, 1 at its own place and 0 elsewhere.

    ::

        feedline.OneHot("label", 10)  # [n] becomes [n, 10]

    Parameters
    ----------
    classes
        How many there are, numbered from 0 on; another number is an error.
    dtype
        Of the result.
    """

    classes: int
    dtype: str = "float32"

    def output(self, spec: ArraySpec) -> ArraySpec:
        """Return what its array is after it."""
        if whole(self.classes, f"oneHot of {self.array}: classes") < 1:
            raise self.refuse(f"classes must be at least 1 (got {self.classes})")
        if spec.dtype.kind not in "iu":
            raise self.refuse(f"classes must be whole numbers, this is {spec.dtype.name}")
        return ArraySpec(number_type(self.dtype, f"oneHot of {self.array}"), (*spec.row_shape, self.classes))

    def write(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write the classes to `out`."""
        wrong = (values < 0) | (values >= self.classes)
        if wrong.any():
            place = np.argwhere(wrong)[0]
            raise DataError(
                f"oneHot of {self.array}: {values[tuple(place)]} in row {rows[place[0]]} is none of {self.classes} "
                "classes, which are numbered from 0 on: correct it, or classes"
            )
        np.equal(values[..., None], np.arange(self.classes), out=out, casting="unsafe")

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        return {"oneHot": {"array": self.array, "classes": int(self.classes), "dtype": dtype_name(self.dtype)}}


@dataclass(frozen=True)
class Select(OfOne):
    """Some columns, those of a row's last axis, in the order in which they are named.

    ::

        feedline.Select("features", [0, 3, 7])

    Parameters
    ----------
    columns
        Their numbers from 0 on.
    """

    columns: Sequence[int]

    def output(self, spec: ArraySpec) -> ArraySpec:
        """Return what its array is after it."""
        if not spec.row_shape:
            raise self.refuse("a row is one value and has no columns")
        if not _is_list(self.columns):
            raise self.refuse(f"columns must be a list of at least one number (got {self.columns!r})")
        for column in self.columns:
            if not 0 <= whole(column, f"select of {self.array}: a column") < spec.row_shape[-1]:
                raise self.refuse(f"there is no column {column}, only 0 to {spec.row_shape[-1] - 1}")
        return ArraySpec(spec.dtype, (*spec.row_shape[:-1], len(self.columns)))

    def write(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write the columns to `out`."""
        del rows
        for place, column in enumerate(self.columns):
            out[..., place] = values[..., column]

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        return {"select": {"array": self.array, "columns": [int(column) for column in self.columns]}}


@dataclass(frozen=True)
class Concat(Transform):
    """The columns of several arrays in one, in place of them; an array of one value a row is a column.

    ::

        feedline.Concat("features", ["age", "income", "embedding"])

    Parameters
    ----------
    name
        Of the new array.
    arrays
        Of which it is made, in this order.
    """

    name: str
    arrays: Sequence[str]

    @property
    def reads(self) -> tuple[str, ...]:
        """The arrays of which it is made."""
        return tuple(self.arrays)

    @property
    def writes(self) -> str:
        """The new array."""
        return self.name

    def outputs(self, specs: Mapping[str, ArraySpec]) -> dict[str, ArraySpec]:
        """Return what a batch is after it."""
        if not _is_list(self.arrays) or len(set(self.arrays)) != len(self.arrays):
            raise UsageError(f"concat of {self.name}: name each array once, and at least one")
        parts = [_columns(known(specs, name, self)) for name in self.arrays]
        if self.name in specs and self.name not in self.arrays:
            raise UsageError(f"concat of {self.name}: there is an array of that name already: take another name")
        for name, part in zip(self.arrays, parts, strict=True):
            if part.dtype.kind not in "biuf":
                raise UsageError(f"concat of {self.name}: it takes numbers, {name} is {part.dtype.name}")
            if part.row_shape[:-1] != parts[0].row_shape[:-1]:
                raise UsageError(
                    f"concat of {self.name}: rows of {name} have shape {list(part.row_shape)} and those of "
                    f"{self.arrays[0]} {list(parts[0].row_shape)}: all axes but the last must be alike"
                )
        shape = (*parts[0].row_shape[:-1], sum(part.row_shape[-1] for part in parts))
        made = ArraySpec(np.result_type(*(part.dtype for part in parts)).newbyteorder("="), shape)
        # In the place of the first, so that inputs keep their order.
        return {
            self.name if name == self.arrays[0] else name: made if name == self.arrays[0] else spec
            for name, spec in specs.items()
            if name == self.arrays[0] or name not in self.arrays
        }

    def apply(self, batch: Batch, out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write the columns to `out`."""
        del rows
        begin = 0
        for name in self.arrays:
            values = batch[name]
            columns = values if values.ndim > 1 else values[:, None]
            out[..., begin : begin + columns.shape[-1]] = columns
            begin += columns.shape[-1]

    def told(self) -> dict[str, Any]:
        """Return what it does."""
        return {"concat": {"name": self.name, "arrays": list(self.arrays)}}


def _columns(spec: ArraySpec) -> ArraySpec:
    return spec if spec.row_shape else ArraySpec(spec.dtype, (1,))


def _is_list(value: Any) -> bool:
    """Tell whether it names something, one after the other; a text is one name."""
    return not isinstance(value, str) and np.ndim(value) == 1 and len(value) > 0
