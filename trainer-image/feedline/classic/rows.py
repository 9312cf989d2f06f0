"""The rows that the classic ways read, as ``np.load`` gives them, and how an epoch is cut from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError, UsageError
from feedline.files import open_arrays
from feedline.order import LastBatch, Plan


def load(paths: Mapping[str, Path], start: int, stop: int, in_memory: bool) -> dict[str, NDArray[Any]]:  # noqa: FBT001
    """Return rows `start` to `stop` of each file as ``np.load`` gives them.

    Parameters
    ----------
    paths
        One `.npy` file for each name.
    start, stop
        Rows to use, the same of every file.
    in_memory
        Read the rows into memory now, instead of mapping the file.

    Returns
    -------
    dict of ndarray
        ``[stop - start, *row_shape]`` of the dtype in the file: a read-only `numpy.memmap`, or an ndarray.

    Raises
    ------
    InputMissingError
        A file is missing or may not be read.
    DataError
        A file is no usable `.npy` file, or row counts differ, or there are fewer rows than `stop`.
    UsageError
        The range of rows is empty.
    """
    # numpy's own messages name neither the file nor the remedy, and a file cut short would end the process.
    open_arrays({name: [path] for name, path in paths.items()}, (start, stop))
    mapped = {name: np.load(path, mmap_mode="r", allow_pickle=False)[start:stop] for name, path in paths.items()}
    return {name: np.array(rows) for name, rows in mapped.items()} if in_memory else mapped


def plan(arrays: Mapping[str, NDArray[Any]], batch_size: int, last_batch: LastBatch) -> Plan:
    """Return the arithmetic of an epoch over `arrays`, which must have the same number of rows.

    Raises
    ------
    UsageError
        `batch_size` is below 1 or `last_batch` unknown.
    DataError
        Row counts differ, or a batch is larger than the data.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size: must be at least 1 (got {batch_size})")
    if last_batch not in ("drop", "keep"):
        raise UsageError(f"last_batch: must be drop or keep (got {last_batch!r})")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise DataError(f"arrays must have the same number of rows: {told or 'there are none'}")
    rows = next(iter(counts.values()))
    if batch_size > rows:
        raise DataError(f"a batch of {batch_size} is larger than the data, which have {rows} rows")
    return Plan(rows, batch_size, last_batch)
