"""What is said of an array besides its path: in which format it is stored, under which name, and what its rows are."""

import operator
import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from feedline.errors import UsageError, edge
from feedline.files.windows import Window

Format = Literal["Npy", "Raw", "Npz", "Hdf5", "Safetensors"]
SUFFIXES: dict[str, Format] = {
    ".npy": "Npy",
    ".npz": "Npz",
    ".h5": "Hdf5",
    ".hdf5": "Hdf5",
    ".safetensors": "Safetensors",
}
"""Formats that are known by the name of a file."""
_OF_MANY = ("Npz", "Hdf5", "Safetensors")
_MOST = 2**48


@dataclass(frozen=True)
class Stored:
    """An array that is stored in something else than a `.npy` file of its own, or whose rows are windows.

    ::

        tokens = feedline.Stored("train.bin", format="Raw", dtype="uint16", shape=(1024,), offset=1024)
        features = feedline.Stored("run.h5", member="group/features")
        arrays = feedline.open_arrays({"features": features})

    Parameters
    ----------
    path
        The file; it may have a ``*`` in its last part.
    format
        ``"Npy"``, ``"Raw"`` (numbers without a header), ``"Npz"`` (not compressed), ``"Hdf5"`` (contiguous; takes h5py)
        or ``"Safetensors"``; None goes by the suffix, and takes what has none of these for `.npy`.
    member
        The array in a file that holds several: a name, in HDF5 a path of groups. None: the only one.
    dtype, shape, offset
        Of a raw file: of one element (`numpy.dtype` reads it); of one row, ``()`` for one element; and the bytes before
        the first row.
    window
        What of the first axis makes up a row; None: one element.

    Raises
    ------
    UsageError
        They do not go together.
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    format: Format | None = None
    member: str | None = None
    dtype: str | None = None
    shape: Sequence[int] = ()
    offset: int = 0
    window: Window | None = None

    @edge()
    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, os.PathLike)):
            raise UsageError(f"path: must be a path (got {self.path!r})")
        known = get_args(Format)
        if self.format not in (None, *known):
            raise UsageError(f"{self.path}: format must be one of {', '.join(known)} (got {self.format!r})")
        if not isinstance(self.window, Window | None):
            raise UsageError(f"{self.path}: window must be a feedline.Window (got {self.window!r})")
        shape, offset = _integers(self.path, "shape", self.shape), _integers(self.path, "offset", (self.offset,))[0]
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "offset", offset)
        kind = format_of(self)
        if self.member is not None and kind not in _OF_MANY:
            this = "the pattern tells none" if "*" in Path(self.path).suffix else f"this is {kind}"
            raise UsageError(f"{self.path}: a member is of format Npz, Hdf5 or Safetensors, and {this}: give format")
        if kind != "Raw":
            if self.dtype is not None or shape or offset:
                raise UsageError(f"{self.path}: dtype, shape and offset are of format Raw; {kind} says them itself")
            return
        if self.dtype is None:
            raise UsageError(f"{self.path}: format Raw needs dtype, such as uint16 or float32")
        if any(not 1 <= length <= _MOST for length in shape):
            raise UsageError(f"{self.path}: shape must be lengths of at least 1 (got {list(shape)})")
        if not 0 <= offset <= _MOST:
            raise UsageError(f"{self.path}: offset must be at least 0 (got {offset})")
        dtype_of(self)


def format_of(stored: Stored) -> Format:
    """Return the format that was said, or that the name tells."""
    return stored.format or SUFFIXES.get(Path(stored.path).suffix.lower(), "Npy")


def dtype_of(stored: Stored) -> np.dtype[Any]:
    """Return the dtype of a raw file.

    Raises
    ------
    UsageError
        It is none, or none that a file could hold.
    """
    try:
        dtype = np.dtype(stored.dtype)
    except (TypeError, ValueError, SyntaxError):
        raise UsageError(f"{stored.path}: {stored.dtype!r} is no dtype: name one such as uint16 or float32") from None
    if dtype.hasobject or dtype.itemsize == 0 or dtype.subdtype is not None:
        raise UsageError(f"{stored.path}: {stored.dtype!r} cannot be read from a file: name one such as uint16")
    return dtype


def _integers(path: str | os.PathLike[str], name: str, values: Any) -> tuple[int, ...]:
    """Return plain ints, of any kind of integer; a single one is one length."""
    try:
        if not isinstance(values, Sequence) or isinstance(values, str):
            values = (values,)
        return tuple(operator.index(value) for value in values)
    except TypeError:
        raise UsageError(f"{path}: {name} must be integers (got {values!r})") from None


class Opened(NamedTuple):
    """A file whose header is to be read."""

    path: Path
    descriptor: int
    size: int

    @property
    def same(self) -> str:
        """Where a library finds the file that was opened, though another may have its name now."""
        return f"/proc/self/fd/{self.descriptor}"
