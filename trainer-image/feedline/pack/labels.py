"""What a column of labels is: integers, other numbers, or the names of classes.

The first label decides between numbers and names: one stray word among numbers is an error in the data, not ten
thousand classes. Whole numbers are integers, however they are written. This module knows values only; who calls it
adds the place to what is raised.
"""

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy import typing as npt

from feedline.errors import DataError
from feedline.pack.narrowing import narrowed
from feedline.pack.source import Labels, opened

MAX_CLASSES: Final = 100_000
"""Different class names kept in memory; more are no classes, but a column of texts."""
_INT32: Final = 1 << 31
_MAX_FILE: Final = 1 << 28


class LabelScan:
    """Gathers what `Labels` says, many labels at a time.

    Parameters
    ----------
    classes
        The classes of another set, in the order of their numbers; labels are names then, and each must be one of them.

    Attributes
    ----------
    kind
        What the labels are so far; None before the first.
    """

    def __init__(self, classes: tuple[str, ...] | None = None) -> None:
        self.kind: Literal["number", "class"] | None = None if classes is None else "class"
        self._given = classes
        self._classes: set[str] = set(classes or ())
        self._whole = True
        self._low = self._high = 0

    def class_name(self, name: str) -> None:
        """Take a class name, as it is even if it looks like a number.

        Raises
        ------
        ValueError
            It is empty or breaks a line, is none of the given ones, or there are too many different ones.
        """
        if name in self._classes:
            return
        if self._given is not None:
            raise ValueError(f"{name!r} is none of the {len(self._given):,} classes of --classes: correct one of them")
        if not name or not name.isprintable() or name != name.strip():
            raise ValueError(f"{name!r} is no class name: give a label in printable characters")
        if name in ("nan", "NaN"):
            raise ValueError(f"{name!r} stands for a missing label: leave the row out, or name the class otherwise")
        if len(self._classes) == MAX_CLASSES:
            raise ValueError(f"there are more than {MAX_CLASSES:,} different labels: name another column by --target")
        self.kind = "class"
        self._classes.add(name)

    def numbers(self, values: npt.NDArray[Any]) -> None:
        """Take an array of finite labels that are numbers.

        Raises
        ------
        ValueError
            One of them is too large for the labels' type.
        """
        if not len(values):
            return
        self.kind = "number"
        if values.dtype.kind == "f" and (values != np.rint(values)).any():
            self._whole = False
        for extreme in (values.min(), values.max()):
            number = int(extreme)
            if not -(1 << 63) <= number < 1 << 63:
                raise ValueError(f"{extreme} is too large for a label: correct it")
            self._low, self._high = min(self._low, number), max(self._high, number)

    def result(self) -> Labels:
        """Return the labels' type, once all were seen."""
        if self.kind == "class":
            given = self._given if self._given is not None else tuple(sorted(self._classes))
            return Labels(np.dtype(np.int32), given)
        if not self._whole:
            return Labels(np.dtype(np.float32))
        return Labels(np.dtype(np.int32 if self._low >= -_INT32 and self._high < _INT32 else np.int64))


def as_labels(values: npt.NDArray[Any], labels: Labels) -> npt.NDArray[Any]:
    """Return numbers ``[k]`` as labels ``[k]`` of their type.

    Raises
    ------
    ValueError
        A number is none of that type; `args` are the message and its index.
    """
    try:
        return narrowed(values.reshape(-1, 1), labels.dtype, lambda row, _: f"{row}")[:, 0]
    except DataError as error:
        index, _, told = str(error).partition(": ")
        message = f"{told.partition(':')[0]}, the type of these labels: correct it"
        raise ValueError(message, int(index)) from None


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the classes in a file, one a line, as `feedline pack` writes them.

    Raises
    ------
    InputMissingError
        It is missing or may not be read.
    DataError
        It is empty, no text, or names a class twice.
    """
    with opened(path) as file:
        data = file.read(_MAX_FILE)
    try:
        names = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: give a classes.txt that feedline pack wrote") from error
    seen: set[str] = set()
    for line, name in enumerate(names, 1):
        if not name.strip() or name in seen:
            what = "is empty" if not name.strip() else f"names {name!r} again"
            raise DataError(f"{path}, line {line} {what}: give one class a line, each once")
        seen.add(name)
    if not names:
        raise DataError(f"{path} is empty: give one class a line")
    return tuple(names)
