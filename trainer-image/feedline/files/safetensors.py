"""safetensors: a header of JSON that says where each tensor lies, then their bytes, back to back.

https://github.com/huggingface/safetensors
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

from feedline.errors import DataError
from feedline.files.header import Header, checked
from feedline.files.members import chosen, shown
from feedline.files.stored import Opened, Stored

TENSOR_DTYPES: Final = {
    "bool": ("BOOL", 1),
    "uint8": ("U8", 1),
    "int8": ("I8", 1),
    "uint16": ("U16", 2),
    "int16": ("I16", 2),
    "uint32": ("U32", 4),
    "int32": ("I32", 4),
    "uint64": ("U64", 8),
    "int64": ("I64", 8),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "float32": ("F32", 4),
    "float64": ("F64", 8),
    "complex64": ("C64", 8),
}
"""By the name that numpy, torch and TensorFlow have for it: the format's name, and bytes of an element."""
MOST_HEADER_BYTES: Final = 100_000_000  # the library's own bound
METADATA: Final = "__metadata__"
# Others may be known to numpy once a framework is imported, and to no other framework then.
_OF_NUMPY: Final = TENSOR_DTYPES.keys() - {"bfloat16", "float8_e4m3fn", "float8_e5m2"}
_NAMES: Final = {ours: (name, size) for name, (ours, size) in TENSOR_DTYPES.items()}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file.

    Attributes
    ----------
    name, dtype, shape
        `dtype` is one of `TENSOR_DTYPES`.
    start, stop
        Its bytes in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def tensor_of(name: str, entry: Mapping[str, Any], base: int, size: int) -> Tensor:
    """Return a tensor as the header of a file of `size` bytes has it, whose tensors begin at byte `base`.

    Raises
    ------
    ValueError
        What it says cannot be.
    """
    try:
        dtype, item = _NAMES[entry["dtype"]]
        shape = tuple(entry["shape"])
        start, stop = entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its header is damaged at {shown(name)!r} ({shown(repr(error))})") from None
    if any(type(number) is not int or number < 0 for number in (*shape, start, stop)):
        raise ValueError(f"its header is damaged at {shown(name)!r}")
    if stop - start != item * prod(shape) or base + stop > size:
        raise ValueError(f"the bytes of {shown(name)!r} are not there")
    return Tensor(name, dtype, shape, base + start, base + stop)


def read(opened: Opened, stored: Stored) -> Header:
    """Return where the rows of a tensor lie.

    Raises
    ------
    DataError
        The file is damaged, or the tensor has a dtype that numpy has not.
    InputMissingError
        There is no such tensor.
    """
    start = os.pread(opened.descriptor, 8, 0)
    length = int.from_bytes(start, "little") if len(start) == 8 else 0
    if not 2 <= length <= min(MOST_HEADER_BYTES, opened.size - 8):
        raise DataError(f"{opened.path}: this is no safetensors file, or one that is cut short")
    # Imported here: a script whose files are `.npy` should not wait for it.
    import json

    try:
        entries = json.loads(os.pread(opened.descriptor, length, 8))
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise DataError(f"{opened.path}: the header of the safetensors file cannot be read")
    name = chosen(opened.path, entries.keys() - {METADATA}, stored.member)
    try:
        tensor = tensor_of(name, entries[name], 8 + length, opened.size)
    except ValueError as error:
        raise DataError(f"{opened.path}: {error}: save it anew") from None
    what = f"{opened.path}: {shown(name)}"
    if tensor.dtype not in _OF_NUMPY:
        raise DataError(f"{what}: is of dtype {tensor.dtype}, which numpy does not have: save it as float32")
    return checked(what, np.dtype(tensor.dtype), tensor.shape, tensor.start, tensor.stop, "save it anew")
