"""A feed as Keras' `fit` takes it most directly: a data adapter that passes the feed's batches through.

Keras asks an adapter for the iterable of its backend and calls `next` on it in the training thread, so batches reach
the model without tf.data, a DataLoader or a copy, and the time spent waiting can be seen. It runs on the TensorFlow
and on the torch backend. No order and no I/O in here.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import keras
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from feedline.errors import EnvironmentInvalidError
from feedline.feed import Columns, Feed, picker

Batch = Mapping[str, Any]


def dataset(feed: Feed, inputs: Columns, targets: Columns, weights: Columns | None = None) -> "Dataset":
    """Return what `fit` and `evaluate` take as `x`: epoch e of `fit` gets the feed's next epoch, whatever `shuffle=`.

    ::

        model.fit(feedline.keras.dataset(feed, "features", "labels"), epochs=10)

    Parameters
    ----------
    inputs, targets, weights
        A name for one array, a list of names for a dict of them; weights are Keras' sample weights.
    """
    native = native_batches(feed)
    return Dataset(lambda: iter(native), len(feed), picker([inputs, targets, weights], feed.arrays), feed.batch_size)


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
    """

    def __init__(
        self,
        start_epoch: Callable[[], Iterator[Batch]],
        steps: int,
        pick: Callable[[Batch], tuple[Any, ...]],
        batch_size: int,
    ) -> None:
        self._start_epoch = start_epoch
        self._steps = steps
        self._pick = pick
        self._batch_size = batch_size
        self._epoch: Generator[tuple[Any, ...]] | None = None
        self._first: list[tuple[Any, ...]] = []  # the newest batch, if it is the first of its epoch
        self._asked_again = False  # whether an iterator was asked for since the newest batch
        self._looked_at = False

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        self._asked_again = True
        return self._batches()

    def on_epoch_end(self) -> None:
        """Put the batch back if it was taken for a look."""
        self._looked_at = bool(self._first) and not self._asked_again

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

    def _picked(self) -> Generator[tuple[Any, ...]]:
        for batch in self._start_epoch():
            yield self._pick(batch)

    def get_tf_dataset(self) -> "Dataset":
        """Return itself: Keras' TensorFlow trainer iterates whatever is iterable."""
        return self

    def get_torch_dataloader(self) -> "Dataset":
        """Return itself: Keras' torch trainer iterates whatever is iterable."""
        return self

    def get_numpy_iterator(self) -> Iterator[tuple[Any, ...]]:
        """Return an iterator over the next epoch."""
        return iter(self)

    @property
    def num_batches(self) -> int:
        """Batches of an epoch."""
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
