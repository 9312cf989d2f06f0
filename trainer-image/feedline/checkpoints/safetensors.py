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

from feedline.files import METADATA, MOST_HEADER_BYTES, TENSOR_DTYPES, Tensor, tensor_of

_ALIGNMENT: Final = 64


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
        By name: the dtype, one of `TENSOR_DTYPES`, and the shape.
    metadata
        Text that the header carries along.
    """
    # Large elements first: then every tensor begins at a multiple of the size of its elements.
    names = sorted(tensors, key=lambda name: (-TENSOR_DTYPES[tensors[name][0]][1], name))
    entries: dict[str, Any] = {METADATA: dict(metadata)}
    spans, end = [], 0
    for name in names:
        dtype, shape = tensors[name]
        code, size = TENSOR_DTYPES[dtype]
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
    if len(view) < 8 or length > min(MOST_HEADER_BYTES, len(view) - 8):
        raise ValueError("its header is cut short")
    base = 8 + length
    try:
        header = json.loads(bytes(view[8:base]))
        metadata = header.pop(METADATA, {})
        found = {name: tensor_of(name, entry, base, len(view)) for name, entry in header.items()}
        text = {str(key): str(value) for key, value in metadata.items()}
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its header is damaged ({error!r})") from None
    return found, text


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
