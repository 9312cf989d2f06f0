"""The file format of the tensors: a header of JSON that says where each one lies, then their bytes, back to back.

It is that of https://github.com/huggingface/safetensors, which every framework reads without us. The library writes a
file from arrays in one go; here the header is made first, so that the loop's thread copies tensors straight to where
they lie in the file, and another one writes it piece by piece. Frameworks are not known here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np

DTYPES: Final = {
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
_NAMES: Final = {ours: (name, size) for name, (ours, size) in DTYPES.items()}
_ALIGNMENT: Final = 64
_MOST_HEADER_BYTES: Final = 100_000_000  # the library's own bound
_METADATA: Final = "__metadata__"


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file.

    Attributes
    ----------
    name, dtype, shape
        `dtype` is one of `DTYPES`.
    start, stop
        Its bytes in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """What stands where in a file: the header's bytes, the tensors behind it, the size of all."""

    header: bytes
    tensors: tuple[Tensor, ...]
    size: int


def lay_out(tensors: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str]) -> Layout:
    """Return where tensors lie in a file that has them all.

    Parameters
    ----------
    tensors
        By name: the dtype, one of `DTYPES`, and the shape.
    metadata
        Text that the header carries along.
    """
    # Large elements first: then every tensor begins at a multiple of the size of its elements.
    names = sorted(tensors, key=lambda name: (-DTYPES[tensors[name][0]][1], name))
    entries: dict[str, Any] = {_METADATA: dict(metadata)}
    spans, end = [], 0
    for name in names:
        dtype, shape = tensors[name]
        code, size = DTYPES[dtype]
        start, end = end, end + size * prod(shape)
        spans.append((name, dtype, tuple(shape), start, end))
        entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    header = len(text).to_bytes(8, "little") + text
    base = len(header)
    placed = tuple(Tensor(name, dtype, shape, base + start, base + stop) for name, dtype, shape, start, stop in spans)
    return Layout(header, placed, base + end)


def read(content: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, and the text in its header.

    Parameters
    ----------
    content
        All of the file, as a buffer.

    Raises
    ------
    ValueError
        It is no such file.
    """
    view = memoryview(content)
    length = int.from_bytes(view[:8], "little")
    if len(view) < 8 or length > min(_MOST_HEADER_BYTES, len(view) - 8):
        raise ValueError("its header is cut short")
    base = 8 + length
    try:
        header = json.loads(bytes(view[8:base]))
        metadata = header.pop(_METADATA, {})
        found = {name: _tensor(name, entry, base, len(view)) for name, entry in header.items()}
        text = {str(key): str(value) for key, value in metadata.items()}
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its header is damaged ({error!r})") from None
    return found, text


def _tensor(name: str, entry: Mapping[str, Any], base: int, size: int) -> Tensor:
    dtype, item = _NAMES[entry["dtype"]]
    shape = tuple(entry["shape"])
    start, stop = entry["data_offsets"]
    if any(type(number) is not int or number < 0 for number in (*shape, start, stop)):
        raise ValueError(f"its header is damaged at {name!r}")
    if stop - start != item * prod(shape) or base + stop > size:
        raise ValueError(f"the bytes of {name!r} are not there")
    return Tensor(name, dtype, shape, base + start, base + stop)


def as_array(content: Any, tensor: Tensor) -> np.ndarray[Any, Any]:
    """Return the bytes of a tensor as an array of its dtype and shape, which shares the buffer's memory.

    Raises
    ------
    ValueError
        numpy has no such dtype here.
    """
    found = np.frombuffer(content, np.uint8, tensor.stop - tensor.start, tensor.start)
    try:
        dtype = np.dtype(tensor.dtype)
    except TypeError:
        raise ValueError(f"{tensor.name!r} is of dtype {tensor.dtype}, which numpy does not have here") from None
    return found.view(dtype).reshape(tensor.shape)
