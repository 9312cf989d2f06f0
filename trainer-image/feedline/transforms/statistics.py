"""Means and standard deviations of columns, in a file: `.npz` with ``mean`` and ``std``, without pickle."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, InputMissingError, UsageError

_MOST_BYTES: Final = 64 << 20
"""Of means: those of eight million columns."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Of the values of an array, in float64, each in a shape that broadcasts to a row.

    Attributes
    ----------
    rows
        Of which they are.
    mean, std, least, most
        Mean, standard deviation (of the population), smallest and largest value.
    """

    rows: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    least: NDArray[np.float64]
    most: NDArray[np.float64]

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield them by the names that they have in a file."""
        yield "rows", np.asarray(self.rows)
        yield "mean", self.mean
        yield "std", self.std
        yield "min", self.least
        yield "max", self.most


def load_statistics(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation, of one shape, from a file such as `feedline stats` writes.

    Raises
    ------
    InputMissingError
        It is not there.
    DataError
        It is none, or one by which nothing can be standardized.
    """
    try:
        with zipfile.ZipFile(path) as file:
            mean, std = (_member(file, name) for name in ("mean", "std"))
    except OSError as error:
        raise InputMissingError(
            f"{path}: cannot be read ({error.strerror or error}): write it with feedline stats"
        ) from None
    except Exception as error:  # noqa: BLE001 - what all there is to a broken archive and a broken header
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: holds no mean and std ({told}): write it with feedline stats") from None
    return usable(mean, std, str(path))


def _member(file: zipfile.ZipFile, name: str) -> NDArray[np.float64]:
    member = file.getinfo(f"{name}.npy")
    if member.file_size > _MOST_BYTES:
        raise ValueError(f"{name} has {member.file_size} bytes")
    with file.open(member) as stream:
        values = np.lib.format.read_array(stream, allow_pickle=False)
    if values.dtype.kind not in "iuf" or not values.size:
        raise ValueError(f"{name} holds no numbers")
    return values.astype(np.float64)


def usable(
    mean: NDArray[np.float64], std: NDArray[np.float64], told: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation as they are.

    Raises
    ------
    DataError
        Nothing can be standardized by them.
    """
    if mean.shape != std.shape:
        raise DataError(
            f"{told}: mean has shape {list(mean.shape)} and std {list(std.shape)}: write it with feedline stats"
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise DataError(f"{told}: mean or std is not finite: the rows hold NaN or infinity; correct them")
    if (std < 0).any():
        raise DataError(f"{told}: a standard deviation is negative: write it with feedline stats")
    if not std.all():
        place = [int(number) for number in np.argwhere(std == 0)[0]]
        where = f"at {place}" if place else "of all values"
        raise DataError(
            f"{told}: the standard deviation {where} is 0, the same value in every row: leave that column out by "
            "select, or pass it as it is"
        )
    return mean, std


class Moments:
    """Mean and standard deviation of what comes piece by piece (Chan, Golub and LeVeque, 1979).

    Parameters
    ----------
    axis
        Of a row, from 0 or from the end: each place of it has a mean of its own, over rows and all other axes. A row of
        one value has none.

    Raises
    ------
    UsageError
        A row has no such axis.
    """

    def __init__(self, row_shape: tuple[int, ...], axis: int) -> None:
        if row_shape and not -len(row_shape) <= axis < len(row_shape):
            raise UsageError(f"axis: rows of shape {list(row_shape)} have no axis {axis}")
        kept = axis % len(row_shape) + 1 if row_shape else 0
        self._others = tuple(each for each in range(len(row_shape) + 1) if each != kept or not row_shape)
        # What follows the axis is of length 1, so that the numbers broadcast to a row.
        self._ones = (1,) * (len(row_shape) - kept)
        self._per_row = prod(row_shape) / (row_shape[axis] if row_shape else 1)
        self.rows = 0
        self._count = 0.0
        self._mean = self._squares = np.zeros(())
        self._least, self._most = np.asarray(np.inf), np.asarray(-np.inf)

    def add(self, values: NDArray[Any]) -> None:
        """Take in rows, ``[n, *row_shape]``.

        Raises
        ------
        DataError
            A value is not finite; the row of `values` is named by its number.
        """
        exact = values.astype(np.float64)
        finite = np.isfinite(exact)
        if not finite.all():
            place = np.argwhere(~finite)[0]
            raise DataError(f"row {self.rows + place[0]} holds {exact[tuple(place)]}: correct it, or leave the row out")
        count = len(exact) * self._per_row
        mean = exact.mean(self._others, keepdims=True)
        squares = np.square(exact - mean).sum(self._others)
        mean = np.reshape(mean, np.shape(squares))
        apart, total = mean - self._mean, self._count + count
        self._mean = self._mean + apart * (count / total)
        self._squares = self._squares + squares + np.square(apart) * (self._count * count / total)
        self._least = np.minimum(self._least, exact.min(self._others))
        self._most = np.maximum(self._most, exact.max(self._others))
        self._count, self.rows = total, self.rows + len(values)

    def statistics(self) -> Statistics:
        """Return what is known of all of them."""
        # Of equal values rounding leaves a little.
        std = np.where(self._least == self._most, 0.0, np.sqrt(self._squares / self._count))
        mean, std, least, most = (
            np.reshape(each, (*np.shape(each), *self._ones)) for each in (self._mean, std, self._least, self._most)
        )
        return Statistics(self.rows, mean, std, least, most)
