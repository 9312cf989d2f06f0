"""The PyTorch way: a map-style Dataset over mapped arrays, in a `DataLoader` with worker processes.

Every row is copied out of the mapping by itself, collated to a batch, and comes from its worker through shared
memory. Invariant: a worker has the rows by inheriting or re-opening the mapping, never by a copy of the data.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, default_collate

from feedline.classic.rows import load, plan
from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.order import LastBatch

Batch = dict[str, Any]


def loader(
    paths: Mapping[str, Path],
    start: int,
    stop: int,
    batch_size: int,
    *,
    in_memory: bool,
    workers: int,
    shuffle: bool,
    seed: int,
    last_batch: LastBatch,
    device: torch.device,
) -> "Batches":
    """Return an iterable over rows `start` to `stop` of the files; each `iter` is one epoch of a `DataLoader`.

    A batch is a dict of tensors ``[batch_size, *row_shape]`` on `device`; arrays that torch has no type for (strings,
    dates) are lists. Closing the iterator, or letting go of it, ends the worker processes.

    Parameters
    ----------
    paths, start, stop, in_memory
        As `feedline.classic.load` takes them.
    batch_size
        Rows of a batch.
    workers
        Worker processes; 0 loads in the calling one.
    shuffle, seed
        Whether every epoch has an order of its own, and what decides them.
    last_batch
        ``"drop"`` omits the rows that do not fill a batch, ``"keep"`` makes a smaller one of them.
    device
        Batches are copied there; for a CUDA device they are pinned first.

    Raises
    ------
    InputMissingError, DataError
        A file is missing or unusable, row counts differ, or a batch is larger than the data.
    UsageError
        An argument is out of range.
    EnvironmentInvalidError
        `device` is a CUDA device and there is none.
    """
    if workers < 0:
        raise UsageError(f"workers: must be at least 0 (got {workers})")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentInvalidError("device: there is no CUDA device here, or torch was built without CUDA")
    rows = Rows(paths, start, stop, in_memory=in_memory)
    plan(rows.arrays, batch_size, last_batch)
    data_loader = DataLoader(
        rows,
        batch_size,
        shuffle=shuffle,
        num_workers=workers,
        collate_fn=_collated,
        pin_memory=device.type == "cuda",
        drop_last=last_batch == "drop",
        # One generator for the whole run: each epoch draws its order, and its workers' seeds, from where it stands.
        generator=torch.Generator().manual_seed(seed),
    )
    return Batches(data_loader, device)


class Rows(Dataset[Batch]):  # type: ignore[misc]
    """Rows of `.npy` files as a map-style dataset.

    It pickles as its arguments: a `numpy.memmap` would be pickled with all its data where workers are not forked.
    """

    def __init__(self, paths: Mapping[str, Path], start: int, stop: int, *, in_memory: bool) -> None:
        self._arguments = (dict(paths), start, stop, in_memory)
        self.arrays = load(*self._arguments)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, row: int) -> Batch:
        return {name: _value(array, row) for name, array in self.arrays.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, self._arguments


def _reopened(paths: Mapping[str, Path], start: int, stop: int, in_memory: bool) -> Rows:  # noqa: FBT001
    return Rows(paths, start, stop, in_memory=in_memory)


def _value(array: NDArray[Any], row: int) -> Any:
    """Return one row as a tensor, or as Python's own type where torch has none for it."""
    if array.dtype.kind in "biufc" and array.dtype.char not in "gG":
        # A copy: torch warns of memory that is read-only, as the mapping is.
        return torch.from_numpy(np.array(array[row]))
    return array[row].tolist()


def _collated(rows: list[Batch]) -> Batch:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: default_collate(values) if isinstance(values[0], torch.Tensor) else values
        for name, values in columns.items()
    }


class Batches:
    """Made by `loader`."""

    def __init__(self, data_loader: "DataLoader[Batch]", device: torch.device) -> None:
        self._data_loader = data_loader
        self._device = device

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self._data_loader)

    def __iter__(self) -> Iterator[Batch]:
        """Start the next epoch."""
        for batch in self._data_loader:
            yield {
                name: value.to(self._device, non_blocking=True) if isinstance(value, torch.Tensor) else value
                for name, value in batch.items()
            }
