"""A feed as Keras' `fit` takes it most directly: a data adapter that passes the feed's batches through.

Keras asks an adapter for the iterable of its backend and calls `next` on it in the training thread, so batches reach
the model without tf.data, a DataLoader or a copy, and the time spent waiting can be seen. It runs on the TensorFlow
and on the torch backend. No order and no I/O in here.
"""

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import chain
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras.src.trainers import epoch_iterator
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.feed import Columns, Feed, picker

Batch = Mapping[str, Any]


def dataset(feed: Feed, inputs: Columns, targets: Columns, weights: Columns | None = None) -> "Dataset":
    """Return what `fit`, `evaluate` and `predict` take as `x`; epoch e of `fit` gets the feed's next epoch.

    ::

        model.fit(feedline.keras.dataset(feed, "features", "labels"), epochs=10)

    The feed alone says which rows make a batch, whatever ``shuffle=`` and ``batch_size=`` say. ``class_weight=`` is
    applied; ``y=`` and ``sample_weight=`` raise a `UsageError`, and so does `predict` if the feed shuffles or drops
    rows.

    Parameters
    ----------
    inputs, targets, weights
        A name for one array, a list of names for a dict of them; weights are Keras' sample weights.
    """
    native = native_batches(feed)
    pick = picker([inputs, targets, weights], feed.element_spec)
    return Dataset(lambda: iter(native), len(feed), pick, feed.batch_size, is_in_order=feed.is_in_order)


def native_batches(feed: Feed) -> Iterable[dict[str, Any]]:
    """Return the feed as an iterable of dicts of the tensors of Keras' backend; each `iter` is the next epoch.

    Raises
    ------
    EnvironmentInvalidError
        Keras runs on another backend than TensorFlow or torch.
    """
    if framework() == "tensorflow":
        from feedline.tensorflow import batches as tensorflow_batches

        return tensorflow_batches(feed)
    from feedline.pytorch import batches as pytorch_batches

    return pytorch_batches(feed)


def framework() -> str:
    """Return what Keras runs on as a backend of ours, `tensorflow` or `pytorch`.

    Raises
    ------
    EnvironmentInvalidError
        Keras runs on something else.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "torch"):
        raise EnvironmentInvalidError(f"KERAS_BACKEND: must be tensorflow or torch for a feed (it is {backend})")
    return "tensorflow" if backend == "tensorflow" else "pytorch"


class Dataset(DataAdapter):  # type: ignore[misc]
    """Epochs of ``(inputs, targets)`` for Keras; made by `dataset`.

    Keras takes a batch to see its shapes before it trains an unbuilt model and then starts over. Such a look is told
    from an epoch by what Keras does next: it ends an epoch only after it has asked for the iterator of the next one.
    The batch that was looked at is put back, so that none is lost.

    Parameters
    ----------
    start_epoch, steps, batch_size
        Starts the next epoch, its batches, and the rows of one.
    pick
        Makes ``(inputs, targets)`` or ``(inputs, targets, weights)`` of a batch.
    is_in_order
        Whether an epoch is all rows in the order of the files, as `predict` needs them.
    """

    def __init__(
        self,
        start_epoch: Callable[[], Iterator[Batch]],
        steps: int,
        pick: Callable[[Batch], tuple[Any, ...]],
        batch_size: int,
        *,
        is_in_order: bool,
    ) -> None:
        self._start_epoch = start_epoch
        self._steps = steps
        self._pick = pick
        self._batch_size = batch_size
        self._is_in_order = is_in_order
        self._class_weights: WeakKeyDictionary[Any, ClassWeights] = WeakKeyDictionary()  # of whom Keras asks with
        self._epoch: Generator[tuple[Any, ...]] | None = None
        self._first: list[tuple[Any, ...]] = []  # the newest batch, if it is the first of its epoch
        self._asked_again = False  # whether an iterator was asked for since the newest batch
        self._looked_at = False

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._epoch_for(inspect.currentframe())

    def _epoch_for(self, frame: FrameType | None) -> Iterator[tuple[Any, ...]]:
        """Return the next epoch for whoever called a method, given by its frame."""
        self._asked_again = True
        batches: Iterator[tuple[Any, ...]] = self._batches()
        asking = _asking(frame)
        if asking is None:
            return batches
        batches = self._whole(batches, _call_of(asking).f_code.co_name)
        class_weights = self._class_weights.get(asking.f_locals["self"])
        return map(class_weights, batches) if class_weights is not None else batches

    def on_epoch_end(self) -> None:
        """Put the batch back if it was taken for a look."""
        self._looked_at = bool(self._first) and not self._asked_again

    def forget(self) -> None:
        """Forget what was asked for: the next epoch begins where the feed is then."""
        if self._epoch is not None:
            self._epoch.close()
        self._epoch, self._first, self._looked_at = None, [], False

    def _batches(self) -> Generator[tuple[Any, ...]]:
        # A generator: the epoch begins with its first batch, since Keras makes iterators that it does not use.
        put_back = self._first if self._looked_at else []
        if self._epoch is None or not put_back:
            if self._epoch is not None:
                self._epoch.close()
            self._epoch = self._picked()
        self._looked_at = False
        for number, batch in enumerate(chain(put_back, self._epoch)):
            self._asked_again = False
            self._first = [batch] if number == 0 else []
            yield batch
        self._first = []  # who comes to the end has not only looked

    def _picked(self) -> Generator[tuple[Any, ...]]:
        for batch in self._start_epoch():
            yield self._pick(batch)

    def _whole(self, batches: Iterator[tuple[Any, ...]], method: str) -> Generator[tuple[Any, ...]]:
        """Yield batches; an epoch that has fewer than its steps ends as `method` of Keras can bear it."""
        given = 0
        for batch in batches:
            given += 1
            yield batch
        if given == self._steps:
            return
        if method == "predict":
            raise UsageError(
                f"predict: the feed had {given} of {self._steps} batches, since it went on in the middle of an epoch "
                "or its epochs are used up: make a new one"
            )
        if framework() == "tensorflow":
            # An iterator that merely ends at the begin of a step is an UnboundLocalError of Keras' there.
            from tensorflow.errors import OutOfRangeError

            raise OutOfRangeError(None, None, f"the feed had {given} of {self._steps} batches")

    def _begin(self, asking: FrameType) -> None:
        """Take in what stands beside the dataset in a call of Keras, and raise `UsageError` for what it cannot give."""
        given, call = asking.f_locals, _call_of(asking)
        method = call.f_code.co_name
        self._refuse(method, given.get("y"), given.get("sample_weight"))
        if method == "predict" and not self._is_in_order:
            raise UsageError(
                "predict: the feed shuffles or drops rows, so that predictions would not be those of the rows in "
                'their order: make it with shuffle="none" and last_batch="keep"'
            )
        if given.get("class_weight") is not None:
            self._class_weights[given["self"]] = ClassWeights(given["class_weight"])
        # Validation is asked for after the first epoch, and what stands beside it is known now. (Then it is without
        # shuffle, and the frame is let alone: before Python 3.13, one that is read keeps the batch that it has.)
        validation = call.f_locals.get("val_x") if given.get("shuffle") else None
        if isinstance(validation, Dataset):
            beside = (call.f_locals.get(name) for name in ("val_y", "val_sample_weight"))
            validation._refuse("fit: validation_data", *beside)  # noqa: SLF001 - it is of this class

    @staticmethod
    def _refuse(where: str, y: object, sample_weight: object) -> None:
        if y is not None:
            raise UsageError(f"{where}: y stands beside a feed, which has its targets in it: leave y out")
        if sample_weight is not None:
            raise UsageError(
                f"{where}: sample_weight stands beside a feed: save the weights of all rows as an array of it, and "
                "name that as weights= of feedline.keras.dataset, or give it the role Weight in a manifest"
            )

    def get_tf_dataset(self) -> Any:
        """Return itself: Keras' TensorFlow trainer iterates whatever is iterable; in a strategy, what divides it."""
        frame = inspect.currentframe()
        strategy = frame.f_back.f_locals.get("distribute_strategy") if frame is not None and frame.f_back else None
        if strategy is None or strategy.num_replicas_in_sync == 1:
            return self
        from feedline.tensorflow import Replicas

        return Replicas(lambda frame: (_method(frame) == "fit", self._epoch_for(frame)), strategy)

    def get_torch_dataloader(self) -> "Dataset":
        """Return itself: Keras' torch trainer iterates whatever is iterable."""
        return self

    def get_numpy_iterator(self) -> Iterator[tuple[Any, ...]]:
        """Return an iterator over the next epoch."""
        return iter(self)

    @property
    def num_batches(self) -> int:
        """Batches of an epoch; Keras asks first of all what a call needs, which is when that is looked at."""
        asking = _asking(inspect.currentframe())
        if asking is not None and asking.f_code.co_name == "__init__":
            self._begin(asking)
        return self._steps

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool:
        """Keras asks only for jax; batches are handed through as they are."""
        return False

    @property
    def partial_batch_size(self) -> None:
        """See `has_partial_batch`."""
        return


class ClassWeights:
    """Adds to ``(inputs, targets)`` the weights that ``class_weight=`` has for the classes of the targets.

    Targets are classes, or rows of which the largest value tells the class; a class without a weight has 1.
    """

    def __init__(self, class_weight: Mapping[int, float]) -> None:
        self._others = max(class_weight, default=-1) + 1
        weights = np.ones(self._others + 1, keras.backend.floatx())
        for label, weight in class_weight.items():
            weights[label] = weight
        self._weights = keras.ops.convert_to_tensor(weights)

    def __call__(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the batch with the weights of its rows."""
        if len(batch) > 2:
            raise UsageError("fit: class_weight stands beside a feed that has weights of rows: leave one of them out")
        inputs, targets = batch
        if isinstance(targets, dict):
            raise UsageError("fit: class_weight is for one target, and the feed has a dict of them")
        labels = targets
        if len(targets.shape) > 1:
            labels = keras.ops.argmax(targets, -1) if targets.shape[-1] > 1 else keras.ops.squeeze(targets, -1)
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(labels.dtype)):
            labels = keras.ops.round(labels)
        labels = keras.ops.cast(labels, "int32")
        is_known = keras.ops.logical_and(labels >= 0, labels < self._others)
        return inputs, targets, keras.ops.take(self._weights, keras.ops.where(is_known, labels, self._others))


# Keras takes a data adapter for x as it is, and drops what stands beside it without a word: `get_data_adapter` gives
# y, sample_weight and class_weight only to adapters that it makes itself, of types that go through tf.data, DataLoaders
# or threads of its own. The frame of the EpochIterator that asks still has them, and some frames up is the method that
# it asks for. Frames are only read here; a function of ours in the place of Keras' would change it for everybody.


def _asking(frame: FrameType | None) -> FrameType | None:
    """Return the frame of Keras' EpochIterator that called a method, given by its frame; None if anybody else did."""
    caller = frame.f_back if frame is not None else None
    return caller if caller is not None and caller.f_globals.get("__name__") == epoch_iterator.__name__ else None


def _method(frame: FrameType | None) -> str:
    """Return the name of the `fit`, `evaluate` or `predict` in which an EpochIterator called a method."""
    asking = _asking(frame)
    return _call_of(asking).f_code.co_name if asking is not None else ""


def _call_of(frame: FrameType) -> FrameType:
    """Return the frame of the `fit`, `evaluate` or `predict` that a frame belongs to; itself if there is none."""
    found: FrameType | None = frame
    while found is not None:
        is_of_keras = found.f_globals.get("__name__", "").startswith("keras.")
        if is_of_keras and found.f_code.co_name in {"fit", "evaluate", "predict"}:
            return found
        found = found.f_back
    return frame
