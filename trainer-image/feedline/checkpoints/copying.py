"""The state of a run's objects, copied into one buffer that holds the very bytes of its files, and read back from them.

The copy is all that the training thread pays for a checkpoint; the buffer is kept, since memory that is there already
is filled several times faster than new memory.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.checkpoints import safetensors, tree
from feedline.checkpoints.folder import SUFFIX, Opened
from feedline.checkpoints.states import State
from feedline.errors import DataError, UsageError
from feedline.files import TENSOR_DTYPES, Tensor
from feedline.paging import in_large_pages

_STATE: Final = "feedline"
_PAGE: Final = 4096
_PIECE: Final = 16 << 20


@dataclass(frozen=True)
class _Planned:
    """A file to be: its layout, the tensors by name, and where it lies in the buffer."""

    name: str
    layout: safetensors.Layout
    leaves: Mapping[str, Any]
    start: int


class Buffer:
    """Memory for the files of one checkpoint."""

    def __init__(self) -> None:
        self._memory: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._spans: dict[str, tuple[int, int]] = {}

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return len(self._memory)

    def fill(self, states: Mapping[str, State]) -> None:
        """Copy the states of objects, a file each.

        Raises
        ------
        UsageError
            An object has something in its state that cannot be saved.
        Exception
            What an object of the user's raised, as it is.
        """
        planned, size = _planned(states)
        self._grow(size)
        for file in planned:
            self._copy(file)
        self._spans = {file.name + SUFFIX: (file.start, file.start + file.layout.size) for file in planned}

    def reserve(self, size: int) -> None:
        """Have memory for so many bytes that is there already: the first copy would take its pages one by one."""
        self._grow(size)
        self._memory[::_PAGE] = 0

    def _grow(self, size: int) -> None:
        if size > len(self._memory):
            self._memory = np.empty(0, np.uint8)  # not both at a time
            self._memory = in_large_pages(size + size // 64)

    def _copy(self, file: _Planned) -> None:
        header = np.frombuffer(file.layout.header, np.uint8)
        self._memory[file.start : file.start + len(header)] = header
        for tensor in file.layout.tensors:
            if tensor.stop > tensor.start:
                _copy_to(self._memory[file.start + tensor.start : file.start + tensor.stop], file.leaves[tensor.name])

    def files(self) -> dict[str, Iterator[memoryview]]:
        """Return the bytes of each file, by its name, piece by piece."""
        return {name: self._pieces(start, stop) for name, (start, stop) in self._spans.items()}

    def _pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        for begin in range(start, stop, _PIECE):
            yield self._memory[begin : min(begin + _PIECE, stop)].data


def _planned(states: Mapping[str, State]) -> tuple[list[_Planned], int]:
    """Return the files of states, each with its place in a buffer, and the bytes of all of them."""
    planned, end = [], 0
    for name, state in states.items():
        document, leaves = _taken_apart(name, state)
        kinds = {leaf: (_dtype(name, leaf, value), tuple(value.shape)) for leaf, value in leaves.items()}
        layout = safetensors.lay_out(kinds, {_STATE: json.dumps(document), "format": "pt"})
        planned.append(_Planned(name, layout, leaves, end))
        end += -(-layout.size // _PAGE) * _PAGE
    return planned, end


def bytes_of(states: Mapping[str, State]) -> int:
    """Return the bytes that states take in a buffer.

    Raises
    ------
    UsageError
        An object has something in its state that cannot be saved.
    """
    return _planned(states)[1]


def require_savable(states: Mapping[str, State]) -> None:
    """Refuse objects whose states, as they are now, could not be saved.

    Raises
    ------
    UsageError
        There is something in one that is neither a tensor nor a plain value.
    """
    _planned(states)


def is_of_a_state(file: Path) -> bool:
    """Return whether a file is one that a checkpoint was written with, by its first bytes."""
    try:
        with file.open("rb") as content:
            return json.dumps(_STATE).encode() in content.read(256)
    except OSError:
        return False


def _taken_apart(name: str, state: State) -> tuple[Any, dict[str, Any]]:
    try:
        found = state.get()
    except Exception as error:
        error.add_note(f"feedline: while the state of {name} was taken for a checkpoint")
        raise
    try:
        return tree.take_apart(found, _kind_of)
    except tree.UnknownValueError as error:
        raise UsageError(
            f"run.checkpoint: in the state of {name}, {error}, which cannot be saved without pickling it: keep "
            "tensors, arrays, numbers, text, lists and dicts in it"
        ) from None


def _kind_of(value: Any) -> str | None:
    torch, tf = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if isinstance(value, np.ndarray):
        return "array"
    if torch is not None and isinstance(value, torch.Tensor):
        return "torch"
    return "tensorflow" if tf is not None and isinstance(value, tf.Tensor) else None


def _dtype(name: str, leaf: str, value: Any) -> str:
    found = str(getattr(value.dtype, "name", value.dtype)).removeprefix("torch.")
    is_plain = str(getattr(value, "layout", "torch.strided")) == "torch.strided"
    if found not in TENSOR_DTYPES or not is_plain:
        what = f"of dtype {found}" if is_plain else "sparse"
        raise UsageError(f"run.checkpoint: in the state of {name}, {leaf} is {what}, which cannot be saved")
    return found


def _copy_to(target: NDArray[np.uint8], value: Any) -> None:
    if _kind_of(value) == "torch":
        torch = sys.modules["torch"]
        # By torch, which copies with several threads, and from a device.
        place = torch.from_numpy(target).view(value.dtype).view(value.shape)
        place.copy_(value.detach())
    else:
        array = np.asarray(value)
        np.copyto(target.view(array.dtype.newbyteorder("<")).reshape(array.shape), array)  # as files have it


def read_state(opened: Opened, name: str) -> Any:
    """Return the state of an object as it was saved; arrays in it share the memory of the file, tensors are copies.

    Raises
    ------
    DataError
        There is none of that name, or it is damaged.
    """
    content = opened.content(name + SUFFIX)
    if content is None:
        has = ", ".join(file.name.removesuffix(SUFFIX) for file in opened.record.files if file.name != f"run{SUFFIX}")
        raise DataError(f"checkpoint {opened.path}: there is no {name} in it (it has {has}): start anew")
    try:
        return unpacked(content)
    except (ValueError, KeyError) as error:
        raise DataError(f"checkpoint {opened.path}: {name}{SUFFIX} is damaged: {error}") from None


def packed(name: str, state: State) -> bytes:
    """Return a small state as the bytes of a file.

    Raises
    ------
    UsageError
        There is something in it that cannot be saved.
    """
    buffer = Buffer()
    buffer.fill({name: state})
    return b"".join(piece for pieces in buffer.files().values() for piece in pieces)


def unpacked(content: Any) -> Any:
    """Return the state that the bytes of a file hold.

    Raises
    ------
    ValueError, KeyError
        They hold none.
    """
    tensors, text = safetensors.read(content)
    document = json.loads(text[_STATE])
    kinds = dict(tree.kinds_in(document))
    leaves = {leaf: _MAKERS[kinds[leaf]](content, tensor) for leaf, tensor in tensors.items()}
    return tree.put_together(document, leaves)


def _as_torch(content: Any, tensor: Tensor) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:  # in a run without it, which then says that its state is another one
        return safetensors.as_array(content, tensor)
    dtype = getattr(torch, tensor.dtype)
    if tensor.stop == tensor.start:
        return torch.empty(tensor.shape, dtype=dtype)
    copied = np.frombuffer(content, np.uint8, tensor.stop - tensor.start, tensor.start).copy()
    return torch.from_numpy(copied).view(dtype).view(tensor.shape)


def _as_tensorflow(content: Any, tensor: Tensor) -> Any:
    array = safetensors.as_array(content, tensor)
    tf = sys.modules.get("tensorflow")
    return array if tf is None else tf.constant(array)


_MAKERS: Final = {"array": safetensors.as_array, "torch": _as_torch, "tensorflow": _as_tensorflow}
