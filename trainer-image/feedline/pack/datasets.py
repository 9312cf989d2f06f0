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
from feedline.pack.npy import NpyWriter, Staging
from feedline.pack.source import Progress, opened

_BLOCK_BYTES: Final = 1 << 23
_MOST_BYTES: Final = 1 << 28
"""Of whole chunks: where these are long and narrow, they are read again for each part of them."""


@dataclass(frozen=True)
class _Dataset:
    """A dataset in a file; `rows` are read at once, whole chunks of them."""

    path: Path
    entry: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: int

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


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
                if name in here or name.startswith(".") or not name.isprintable() or set(name) & set("\\:"):
                    raise DataError(f"{path}: {entry!r} is no name for a file: rename that dataset")
                if dataset.external or dataset.is_virtual:
                    raise DataError(f"{path}: {entry} lies in other files: pack those, or copy it to a file of its own")
                dtype, shape = found_as
                here[name] = _Dataset(path, entry, shape, dtype, _rows_at_once(dataset, shape, dtype))
        if not here:
            raise DataError(f"{path} holds no datasets of numbers: give a file with at least one")
        if found and here.keys() != found.keys():
            raise DataError(f"{path}: its datasets have other names than those of {paths[0]}: pack them apart")
        for name, dataset in here.items():
            _check_continues(found.setdefault(name, []), dataset)
            found[name].append(dataset)
    return found, tuple(left.values())


def unpack(found: dict[str, list[_Dataset]], staging: Staging, progress: Progress) -> dict[str, NpyWriter]:
    """Write each dataset as ``NAME.npy``, and return the writers by file name.

    Raises
    ------
    DataError
        A file is damaged.
    StorageError
        The disk is full, or failed.
    """
    total = sum(part.bytes for parts in found.values() for part in parts)
    done = 0
    writers = {}
    for name, parts in found.items():
        shape, dtype = joined(parts)
        writer = staging.array(f"{name}.npy", dtype, shape)
        offset = 0
        for part in parts:
            for block in _blocks(part, dtype):
                writer.write_bytes(block, offset)
                offset += len(block)
                progress("Writing", done + offset, total)
        done += offset
        writers[f"{name}.npy"] = writer
    return writers


def joined(parts: Sequence[_Dataset]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of an array of some parts, one after the other."""
    first = parts[0]
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:]) if first.shape else ()
    return shape, first.dtype.newbyteorder("=")


def _rows_at_once(dataset: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return how many rows are read at once: whole chunks, each of which is decompressed as a whole."""
    row_bytes = max(1, dtype.itemsize * math.prod(shape[1:]))
    chunk = dataset.chunks[0] if dataset.chunks else 1
    return max(1, min(chunk * max(1, _BLOCK_BYTES // (chunk * row_bytes)), _MOST_BYTES // row_bytes))


def _check_continues(before: Sequence[_Dataset], dataset: _Dataset) -> None:
    if not before:
        return
    first = before[0]
    same = first.shape[1:] == dataset.shape[1:] and first.dtype.newbyteorder("=") == dataset.dtype.newbyteorder("=")
    if not first.shape or not dataset.shape or not same:
        raise DataError(
            f"{dataset.path}: {dataset.entry} does not continue that of {first.path}, "
            f"{list(dataset.shape)} {dataset.dtype} after {list(first.shape)} {first.dtype}: pack them apart"
        )


def _blocks(part: _Dataset, dtype: np.dtype[Any]) -> Iterator[bytes]:
    """Yield the bytes of a dataset in C order and this machine's byte order."""
    with hdf5_file(str(part.path), str(part.path)) as file:
        dataset = file[part.entry]
        if hdf5_dtype(dataset) != (part.dtype, part.shape):
            raise DataError(f"{part.path} was changed while it was packed: pack it again")
        if not part.shape:
            yield np.asarray(dataset[()]).astype(dtype).tobytes()
            return
        for start in range(0, part.shape[0], part.rows):
            yield dataset[start : start + part.rows].astype(dtype, copy=False).tobytes()
