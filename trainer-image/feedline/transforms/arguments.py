"""What is said of transforms: each value is checked where it is given, with one sentence for what is wrong."""

import operator
from typing import Any

import numpy as np

from feedline.errors import UsageError


def number_type(name: Any, told: str) -> np.dtype[Any]:
    """Return a dtype of numbers by its name.

    Raises
    ------
    UsageError
        It is none.
    """
    try:
        dtype = np.dtype(object if name is None else name)
    except (TypeError, ValueError, SyntaxError):
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise UsageError(f"{told}: dtype must be one of numbers, such as float32 (got {name!r})")
    return dtype.newbyteorder("=")


def dtype_name(dtype: Any) -> str:
    """Return the name of a dtype, in whichever way it was given."""
    return str(np.dtype(dtype).name)


def whole(value: Any, told: str) -> int:
    """Return a whole number, of any kind of them.

    Raises
    ------
    UsageError
        It is none.
    """
    if isinstance(value, bool | np.bool_):
        raise UsageError(f"{told}: must be a whole number (got {value!r})")
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{told}: must be a whole number (got {value!r})") from None
