"""HDF5 files: each dataset becomes a `.npy` file of its own, however it lies in the file.

In chunks or compressed: h5py reads it, some rows at a time. What is of no type that numpy has, such as text of any
length, is left out. What lies in other files is refused, since a file could name any.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from feedline.errors import DataError, printable
from feedline.files import hdf5_datasets, hdf5_dtype, hdf5_file
from feedline.pack.members import Member, is_file_name, join
from feedline.pack.npy import Staging
from feedline.pack.source import opened

_BLOCK_BYTES: Final = 1 << 23
_MOST_BYTES: Final = 1 << 28
"""Of whole chunks: where these are long and narrow, they are read again for each part of them."""


@dataclass(frozen=True)
class _Dataset(Member):
    """A dataset in a file; `rows` are read at once, whole chunks of them."""

    rows: int

    def blocks(self, staging: Staging) -> Iterator[bytes]:  # noqa: ARG002
        native = self.dtype.newbyteorder("=")
        with hdf5_file(str(self.path), str(self.path)) as file:
            dataset = file[self.entry]
            if hdf5_dtype(dataset) != (self.dtype, self.shape):
                raise DataError(f"{self.path} was changed while it was packed: pack it again")
            if not self.shape:
                yield np.asarray(dataset[()]).astype(native).tobytes()
                return
            for start in range(0, self.shape[0], self.rows):
                yield dataset[start : start + self.rows].astype(native, copy=False).tobytes()


def members(paths: Sequence[Path]) -> tuple[dict[str, list[_Dataset]], tuple[str, ...]]:
    """Return the datasets of the files by name, each with its parts in the order of `paths`, and what was left out.

    Raises
    ------
    InputMissingError
        A file is missing or may not be read.
    DataError
        A file is damaged, holds no dataset, or differs from the first one.
    EnvironmentInvalidError
        h5py is not installed.
    """
    found: dict[str, list[_Dataset]] = {}
    left: dict[str, str] = {}
    for path in paths:
        here: dict[str, _Dataset] = {}
        with opened(path), hdf5_file(str(path), str(path)) as file:
            for entry, dataset in hdf5_datasets(file):
                found_as = hdf5_dtype(dataset)
                if found_as is None:
                    left[entry] = f"{printable(entry)} in {path} is no numbers or fixed-width text, and was left out."
                    continue
                name = entry.replace("/", ".")
                if name in here or not is_file_name(name):
                    raise DataError(f"{path}: {entry!r} is no name for a file: rename that dataset")
                if dataset.external or dataset.is_virtual:
                    raise DataError(f"{path}: {entry} lies in other files: pack those, or copy it to a file of its own")
                dtype, shape = found_as
                here[name] = _Dataset(path, entry, shape, dtype, _rows_at_once(dataset, shape, dtype))
        if not here:
            raise DataError(f"{path} holds no datasets of numbers: give a file with at least one")
        join(found, here, path, "datasets")
    return found, tuple(left.values())


def _rows_at_once(dataset: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return how many rows are read at once: whole chunks, each of which is decompressed as a whole."""
    row_bytes = max(1, dtype.itemsize * math.prod(shape[1:]))
    chunk = dataset.chunks[0] if dataset.chunks else 1
    return max(1, min(chunk * max(1, _BLOCK_BYTES // (chunk * row_bytes)), _MOST_BYTES // row_bytes))
