"""Columns of record batches as numpy arrays, whatever pyarrow calls their type: numbers, lists of them, texts.

Where a column comes from, a text table or Parquet, and what it is for, is not known here; who calls adds the place.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc
from pyarrow import types

from feedline.pack.numerals import BadCellError


def is_text(kind: Any) -> bool:
    """Tell whether a type holds text."""
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_numeric(kind: Any, *, lists: bool = True) -> bool:
    """Tell whether a type holds numbers, or lists of them."""
    kind = _plain(kind)
    while lists and _is_list(kind):
        kind = _plain(kind.value_type)
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def texts(column: Any) -> Any:
    """Return a column as strings, a pyarrow array; numbers as they are written.

    Raises
    ------
    BadCellError
        A value is null.
    """
    _refuse_nulls(column, 1)
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
        _refuse_nulls(column, 1)
    return column.cast(pa.string())


def numbers(column: Any) -> npt.NDArray[Any]:
    """Return ``[rows, width]`` numbers of a column in a type that holds them exactly, its lists laid side by side.

    Raises
    ------
    BadCellError
        A value is null, or a list is not as long as the first.
    """
    rows = len(column)
    _refuse_nulls(column, 1)
    kind = column.type
    if isinstance(kind, pa.FixedShapeTensorType) and kind.permutation is not None:
        return np.ascontiguousarray(column.to_numpy_ndarray()).reshape(rows, -1)
    column = _storage(column)
    while _is_list(column.type):
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        odd = np.flatnonzero(lengths != lengths[0])
        if len(odd):
            index = int(odd[0])
            raise BadCellError(
                index * rows // len(column),
                f"a list of {lengths[index]} where others have {lengths[0]}: all rows need the same length",
            )
        column = _storage(column.flatten())
        _refuse_nulls(column, max(1, len(column) // rows))
    if types.is_decimal(column.type):
        column = _whole(column)
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(rows, -1)


def _whole(column: Any) -> Any:
    """Return decimals as integers where they are none but these, which a float64 might not hold; else as float64."""
    if column.type.scale <= 0:
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    return column.cast(pa.float64())


def _storage(column: Any) -> Any:
    """Return what lies below extension types and dictionaries."""
    while True:
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif types.is_dictionary(column.type):
            column = column.dictionary_decode()
            _refuse_nulls(column, 1)
        else:
            return column


def _plain(kind: Any) -> Any:
    while True:
        if isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        elif types.is_dictionary(kind):
            kind = kind.value_type
        else:
            return kind


def _is_list(kind: Any) -> bool:
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _refuse_nulls(column: Any, per_row: int) -> None:
    if column.null_count:
        index = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) // per_row
        raise BadCellError(index, "the value is null: fill it, or leave the column out with --drop")
