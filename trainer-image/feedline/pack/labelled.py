"""The labels' column of tables: a scan that settles what they are, then the labels as numbers.

What labels can be is said in `labels`; here are the columns of record batches that hold them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from feedline.pack import numerals, values
from feedline.pack.dialect import Dialect
from feedline.pack.labels import LabelScan, as_labels
from feedline.pack.numerals import BadCellError
from feedline.pack.source import Labels, changed

Array = npt.NDArray[Any]


class LabelColumn:
    """A column of labels.

    Parameters
    ----------
    dialect
        How numbers are written where they are text; None where the file has types.
    classes
        The classes of another set, in the order of their numbers.
    """

    def __init__(self, dialect: Dialect | None, classes: tuple[str, ...] | None) -> None:
        self._dialect, self._classes = dialect, classes
        self._scan = LabelScan(classes)
        self._low: float | None = None
        self._high: float | None = None

    @property
    def kind(self) -> str:
        """``class`` or ``number``."""
        return self._scan.kind or "number"

    @property
    def range(self) -> tuple[float | None, float | None]:
        """The least and the greatest; None where labels are classes."""
        return self._low, self._high

    def result(self) -> Labels:
        """Return the labels' type, once all were seen."""
        return self._scan.result()

    def scan(self, column: Any) -> None:
        """Take in some rows of the column, a pyarrow array.

        Raises
        ------
        BadCellError
            A label is missing, or does not go with those before it.
        """
        if not len(column):
            return
        if self._dialect is not None:
            column = self._texts(column, self._dialect)
            if self._scan.kind is None and numerals.are_numbers(column.slice(0, 1), self._dialect.decimal)[0]:
                self._scan.kind = "number"
            if self._scan.kind == "number":
                self._see(self._numbers(column))
                return
        elif not values.is_text(column.type) and self._classes is None:
            self._see(self._numbers(column))
            return
        else:
            column = numerals.trimmed(values.texts(column))
        for name in pc.unique(column).to_pylist():
            try:
                self._scan.class_name(name)
            except ValueError as error:
                raise BadCellError(pc.index(column, name).as_py(), str(error)) from None

    def encode(self, column: Any, labels: Labels, path: Path) -> Array:
        """Return some rows of the column as labels, ``[k]``; `path` is named where it changed meanwhile.

        Raises
        ------
        BadCellError
            A label does not fit the labels' type.
        DataError
            The scan did not see one.
        """
        if labels.classes:
            column = numerals.trimmed(column if self._dialect is not None else values.texts(column))
            found = pc.index_in(column, value_set=pa.array(labels.classes, pa.string()))
            if found.null_count:
                raise changed(path)
            return np.asarray(found.to_numpy(zero_copy_only=False), dtype=labels.dtype)
        numbers = self._numbers(self._texts(column, self._dialect) if self._dialect is not None else column)
        try:
            return as_labels(numbers, labels)
        except ValueError as error:
            raise BadCellError(error.args[1], error.args[0]) from None

    def _see(self, found: Array) -> None:
        try:
            self._scan.numbers(found)
        except ValueError as error:
            raise BadCellError(int(np.argmax(np.abs(found.astype(np.float64)))), str(error)) from None
        low, high = float(found.min()), float(found.max())
        self._low = low if self._low is None else min(low, self._low)
        self._high = high if self._high is None else max(high, self._high)

    @staticmethod
    def _texts(column: Any, dialect: Dialect) -> Any:
        column = numerals.trimmed(column)
        if dialect.null:
            gone = pc.is_in(column, pa.array(list(dialect.null), pa.string())).to_numpy(zero_copy_only=False)
            if gone.any():
                index = int(np.argmax(gone))
                raise BadCellError(index, f"the label is missing ({column[index].as_py()!r}): leave the row out")
        return column

    def _numbers(self, column: Any) -> Array:
        """Return labels as finite numbers ``[k]``."""
        if self._dialect is not None:
            fine = numerals.are_numbers(column, self._dialect.decimal)
            if not fine.all():
                index = int(np.argmin(fine))
                if not column[index].as_py():
                    raise BadCellError(index, "the label is missing: fill it, or leave the row out")
                raise BadCellError(
                    index, f"{column[index].as_py()!r} is no number, though the labels before it are: correct it"
                )
            return numerals.numbers(column, self._dialect.decimal).as_array()
        found = values.numbers(column)[:, 0]
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            index = int(np.argmin(np.isfinite(found)))
            raise BadCellError(index, f"the label is {found[index]}, which is none: fill it, or leave the row out")
        return found
