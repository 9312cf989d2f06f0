"""A feed as TensorFlow takes it: eager tensors that share the feed's memory, or a `tf.data.Dataset`.

Tensors are handed over by DLPack, which copies nothing. No order and no I/O in here.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from feedline.errors import UsageError
from feedline.feed import Columns, Feed, picker

Batch = dict[str, Any]


def batches(feed: Feed) -> "Batches":
    """Return an iterable over `feed`; each `iter` is the feed's next epoch.

    ::

        for batch in feedline.tensorflow.batches(feed):
            train_step(batch["features"], batch["labels"])

    A batch is a dict of eager tensors ``[batch_size, *row_shape]`` of the dtypes in `feed.element_spec`.
    Arrays that TensorFlow has no type for (strings, dates) become `tf.string`, which is a copy.
    """
    return Batches(feed)


class Batches:
    """Made by `batches`."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._convert = _converter(feed)

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return len(self.feed)

    def __iter__(self) -> Iterator[Batch]:
        """Start the feed's next epoch."""
        return self.feed.iterate(self._convert)


def dataset(feed: Feed, inputs: Columns, targets: Columns, weights: Columns | None = None) -> tf.data.Dataset:
    """Return a `tf.data.Dataset` of ``(inputs, targets)``; each iteration of it is the feed's next epoch.

    tf.data calls back into Python for every batch and runs ahead of the training loop, so that the time spent
    waiting cannot be seen there; `batches` is faster and can be measured.

    Its cardinality is the steps of an epoch, which is what Keras' `fit` takes from it. An iteration that goes on in the
    middle of an epoch has fewer batches, and one after the last of the feed's `epochs` has none.

    Parameters
    ----------
    inputs, targets, weights
        A name for one array, a list of names for a dict of them; with `weights`, elements are triples.
    """
    pick = picker([inputs, targets, weights], feed.element_spec)
    rows = feed.plan.local_batch_size if feed.plan.rows % feed.batch_size == 0 or _drops(feed) else None
    specs = {
        name: tf.TensorSpec([rows, *spec.row_shape], _tensor_type(spec.dtype))
        for name, spec in feed.element_spec.items()
    }
    is_cut_short = False

    def epoch() -> Iterator[tuple[Any, ...]]:
        nonlocal is_cut_short
        if is_cut_short:
            is_cut_short = False
            return
        strings = [name for name, spec in feed.element_spec.items() if not _is_tensor_type(spec.dtype)]
        given = 0
        for batch in feed:
            given += 1
            yield pick({**batch, **{name: _encoded(batch[name]) for name in strings}})
        is_cut_short = 0 < given < len(feed)

    # With an unknown cardinality Keras counts the steps of the first epoch, and one too many. What asserts one fails
    # after an epoch of fewer batches; what takes so many of an endless dataset does not, and is asked for no more than
    # an epoch, or for the next one where an epoch was shorter, which then has to be empty.
    return tf.data.Dataset.from_generator(epoch, output_signature=pick(specs)).repeat().take(len(feed))


def strategy() -> tf.distribute.Strategy:
    """Return what trains on all GPUs that TensorFlow sees, or all its logical CPUs; for one device, the default."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def parts(batch: Any, strategy: tf.distribute.Strategy) -> Any:
    """Return a batch in parts, one for each replica of `strategy`, as its `run` takes them.

    ::

        for batch in run.train:
            strategy.run(step, args=(feedline.tensorflow.parts(batch, run.strategy),))

    Parameters
    ----------
    batch
        Tensors ``[rows, …]`` in any structure; replica r of n gets the r-th of n equal parts of the rows.

    Raises
    ------
    UsageError
        The rows cannot be divided: replicas with other numbers of them would not count the same.
    """
    rows, replicas = _rows(batch), strategy.num_replicas_in_sync
    if rows % replicas:
        raise UsageError(
            f"a batch of {rows} rows cannot be divided among {replicas} replicas: take a batchSize that is a multiple "
            f"of {replicas}, and lastBatch: Drop"
        )
    return _parts(batch, strategy)


def _rows(batch: Any) -> int:
    return int(tf.nest.flatten(batch)[0].shape[0])


def _parts(batch: Any, strategy: tf.distribute.Strategy) -> Any:
    rows, replicas = _rows(batch), strategy.num_replicas_in_sync

    def part(context: Any) -> Any:
        replica = context.replica_id_in_sync_group
        start, stop = rows * replica // replicas, rows * (replica + 1) // replicas
        return tf.nest.map_structure(lambda tensor: tensor[start:stop], batch)

    return batch if replicas == 1 else strategy.experimental_distribute_values_from_function(part)


class Replicas(tf.distribute.DistributedDataset):  # type: ignore[misc]
    """Batches in parts, as Keras takes them within a strategy.

    To `evaluate` and `predict`, parts may differ by a row: what they count is weighted by rows, and gradients are not.

    Parameters
    ----------
    start
        Starts the next epoch for whoever asks, given by its frame; returns whether it is trained on, and the batches.
    strategy
        Whose replicas get the parts.
    """

    def __init__(
        self, start: Callable[[FrameType | None], tuple[bool, Iterator[Any]]], strategy: tf.distribute.Strategy
    ) -> None:
        self._start, self._strategy = start, strategy

    def __iter__(self) -> Iterator[Any]:
        is_trained_on, batches = self._start(inspect.currentframe())
        return map(self._trained_on if is_trained_on else self._looked_at, batches)

    def _trained_on(self, batch: Any) -> Any:
        return parts(batch, self._strategy)

    def _looked_at(self, batch: Any) -> Any:
        rows, replicas = _rows(batch), self._strategy.num_replicas_in_sync
        if rows < replicas:
            raise UsageError(
                f"a batch of {rows} rows has none for some of {replicas} replicas: take another batchSize, or other "
                "rows to validate"
            )
        return _parts(batch, self._strategy)


def _drops(feed: Feed) -> bool:
    return feed.plan.last_batch == "drop"


def _converter(feed: Feed) -> Callable[[tuple[NDArray[Any], ...]], Iterable[tuple[Any, ...]]]:
    shares = [_is_tensor_type(spec.dtype) for spec in feed.element_spec.values()]

    def convert(views: tuple[NDArray[Any], ...]) -> Iterable[tuple[Any, ...]]:
        # Text is copied for all batches of a slot at once: a copy costs its call rather than its bytes.
        columns = (
            map(_shared, view) if ours else tf.unstack(tf.constant(_encoded(view)))
            for view, ours in zip(views, shares, strict=True)
        )
        return zip(*columns, strict=True)

    return convert


def _shared(batch: NDArray[Any]) -> tf.Tensor:
    """Return a tensor over the batch's memory: it starts on 64 bytes, or TensorFlow would end the process."""
    return tf.experimental.dlpack.from_dlpack(batch.__dlpack__())


def _encoded(batch: NDArray[Any]) -> NDArray[np.bytes_]:
    """Return strings as bytes, in UTF-8; anything else as its text."""
    return batch if batch.dtype.kind == "S" else np.strings.encode(batch.astype(np.str_), "utf-8")


def _is_tensor_type(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufc" and dtype.itemsize <= 16 and dtype.char != "g"


def _tensor_type(dtype: np.dtype[Any]) -> tf.DType:
    return tf.as_dtype(dtype) if _is_tensor_type(dtype) else tf.string
