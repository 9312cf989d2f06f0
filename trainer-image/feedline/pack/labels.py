"""What a column of labels is: integers, other numbers, or the names of classes.

The first label decides between numbers and names: one stray word among numbers is an error in the data, not ten
thousand classes. This module knows values only; who calls it adds the place to what is raised.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy import typing as npt

from feedline.pack.source import Labels

MAX_CLASSES: Final = 100_000
"""Different class names kept in memory; more are no classes, but a column of texts."""
_INT32: Final = 1 << 31
_INT64: Final = 1 << 63
_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


class LabelScan:
    """Gathers what `Labels` says, one label or one array of labels at a time."""

    def __init__(self) -> None:
        self._kind: Literal["integer", "float", "class"] | None = None
        self._classes: set[str] = set()
        self._low = 0
        self._high = 0

    def text(self, cell: str) -> None:
        """Take a label written as text, a number or a class name.

        Raises
        ------
        ValueError
            It does not go with the labels before it; the message continues after a place and a colon.
        """
        if self._kind == "class":
            self.class_name(cell)
            return
        number = _number(cell)
        if number is None and self._kind is None:
            self.class_name(cell)
        elif number is None:
            raise ValueError(f"{cell!r} is no number, though the labels before it are: correct it")
        else:
            self._number(number)

    def class_name(self, name: str) -> None:
        """Take a class name, as it is even if it looks like a number.

        Raises
        ------
        ValueError
            It is empty or breaks a line, or there are too many different ones.
        """
        if name in self._classes:
            return
        if not name or not name.isprintable():
            raise ValueError(f"{name!r} is no class name: give a label in printable characters")
        if len(self._classes) == MAX_CLASSES:
            raise ValueError(f"there are more than {MAX_CLASSES:,} different labels: name another column by --target")
        self._kind = "class"
        self._classes.add(name)

    def numbers(self, values: npt.NDArray[Any]) -> None:
        """Take an array of labels that are numbers.

        Raises
        ------
        ValueError
            One of them is too large for the labels' type.
        """
        if values.dtype.kind == "f":
            finite = values[np.isfinite(values)]
            extremes = [float(finite.min()), float(finite.max())] if len(finite) else [0.0]
        else:
            extremes = [int(values.min()), int(values.max())] if len(values) else []
        for value in extremes:
            self._number(value)

    def result(self) -> Labels:
        """Return the labels' type, once all were seen."""
        if self._kind == "class":
            return Labels(np.dtype(np.int32), tuple(sorted(self._classes)))
        if self._kind == "float":
            return Labels(np.dtype(np.float32))
        return Labels(np.dtype(np.int32 if self._low >= -_INT32 and self._high < _INT32 else np.int64))

    def _number(self, value: float) -> None:
        if isinstance(value, int):
            self._kind = self._kind or "integer"
            self._low = min(self._low, value)
            self._high = max(self._high, value)
            fits = -_INT64 <= value < _INT64
        else:
            self._kind = "float"
            fits = not math.isfinite(value) or abs(value) <= _FLOAT32_MAX
        if not fits:
            raise ValueError(f"{value} is too large for a label: correct it")


def encode(labels: Labels, values: Sequence[str] | npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels as numbers.

    Parameters
    ----------
    labels
        What the scan found.
    values
        ``[k]`` labels as text, or as numbers.

    Returns
    -------
    numpy.ndarray
        ``[k]`` of ``labels.dtype``.

    Raises
    ------
    ValueError
        The scan did not see one of them.
    """
    if isinstance(values, np.ndarray):
        return values.astype(labels.dtype)
    if labels.classes:
        try:
            return np.fromiter(map(labels.numbers.__getitem__, values), labels.dtype, len(values))
        except KeyError as error:
            raise ValueError(f"{error} was not there before") from error
    read: Iterable[float] = map(int, values) if labels.dtype.kind == "i" else map(float, values)
    return np.fromiter(read, labels.dtype, len(values))


def _number(cell: str) -> float | None:
    for read in (int, float):
        try:
            return read(cell)
        except ValueError:
            continue
    return None
