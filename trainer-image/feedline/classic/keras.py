"""The Keras generator: rows of mapped arrays in a new random order each epoch, as numpy batches for `fit`.

A batch is one fancy index into each array. It needs numpy only and runs on every backend of Keras, which brings the
queueing of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.classic.rows import plan
from feedline.feed import Columns, picker
from feedline.order import LastBatch


def generator(
    arrays: Mapping[str, NDArray[Any]],
    inputs: Columns,
    targets: Columns,
    batch_size: int,
    *,
    weights: Columns | None = None,
    shuffle: bool = True,
    seed: int = 0,
) -> Iterator[tuple[Any, ...]]:
    """Return an endless generator of ``(x, y)``, epoch after epoch of ``len(arrays) // batch_size`` batches.

    ::

        arrays = {"features": np.load("features.npy", mmap_mode="r"), "labels": np.load("labels.npy", mmap_mode="r")}
        steps = len(arrays["labels"]) // 32
        model.fit(generator(arrays, "features", "labels", 32), steps_per_epoch=steps, epochs=5)

    Parameters
    ----------
    arrays
        ``[rows, *row_shape]``, all with the same number of rows.
    inputs, targets, weights
        A name for one array, a list of names for a dict of them; with `weights` it yields ``(x, y, weights)``.
    batch_size
        Rows of a batch; rows that do not fill one are left out of the epoch.
    shuffle, seed
        Whether every epoch has an order of its own, and what decides them.

    Raises
    ------
    UsageError
        `batch_size` is below 1, or a name is not in `arrays`.
    DataError
        Row counts differ, or a batch is larger than the data.
    """
    pick = picker([inputs, targets, weights], arrays)
    return endless(batches(arrays, batch_size, shuffle=shuffle, seed=seed), pick)


def endless(
    epochs: Iterable[Mapping[str, Any]], pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    """Yield what `pick` makes of every batch, epoch after epoch."""
    while True:
        for batch in epochs:
            yield pick(batch)


def batches(
    arrays: Mapping[str, NDArray[Any]],
    batch_size: int,
    *,
    shuffle: bool = True,
    seed: int = 0,
    last_batch: LastBatch = "drop",
) -> "Batches":
    """Return an iterable over `arrays`; each `iter` is one epoch of dicts of ndarrays ``[batch_size, *row_shape]``.

    Takes and raises what `generator` does; ``last_batch="keep"`` makes a smaller batch of the rows that are left.
    """
    return Batches(arrays, batch_size, shuffle=shuffle, seed=seed, last_batch=last_batch)


class Batches:
    """Made by `batches`."""

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], batch_size: int, *, shuffle: bool, seed: int, last_batch: LastBatch
    ) -> None:
        self._arrays = arrays
        self._plan = plan(arrays, batch_size, last_batch)
        self._shuffle = shuffle
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return self._plan.steps

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Start the next epoch."""
        rows = self._random.permutation(self._plan.rows) if self._shuffle else np.arange(self._plan.rows)
        for step in range(self._plan.steps):
            start, stop = self._plan.span(step)
            yield {name: array[rows[start:stop]] for name, array in self._arrays.items()}
