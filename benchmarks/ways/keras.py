"""Keras on TensorFlow: its trainer's own iteration over the feed, and `fit` behind the feed, a generator, nothing.

`fit` trains the built-in model, compiled once, until the time is over; what each way gives it differs in nothing but
the batches. One ready batch again and again is what `fit` can do at most.
"""

from collections.abc import Callable, Generator
from functools import cache
from itertools import repeat
from time import perf_counter
from typing import Any

import keras
import tensorflow as tf
from data import Data, mapped, opened
from keras.src.backend.tensorflow.trainer import TFEpochIterator
from measure import Measure, pulled

from feedline import Feed
from feedline import keras as adapter
from feedline.classic import keras as classic
from feedline.feed.columns import picker
from feedline.models import task_of
from feedline.models.keras import network
from feedline.training.run import Run
from ways import training


def feed(data: Data, batch_size: int) -> Measure:
    """Take the feed's batches as Keras' trainer takes them."""
    dataset = adapter.dataset(Feed(opened(data), batch_size), "features", "labels")
    return pulled(lambda: _as_the_trainer_does(dataset), batch_size)


def _as_the_trainer_does(dataset: adapter.Dataset) -> Generator[Any]:
    iterator = TFEpochIterator(x=dataset, distribute_strategy=tf.distribute.get_strategy())
    while True:
        for _, _, batches in iterator.enumerate_epoch():
            yield next(batches)


def fit_feed(data: Data, batch_size: int) -> Measure:
    """Train behind the feed."""
    dataset = adapter.dataset(Feed(opened(data), batch_size), "features", "labels")
    return _fitted(data, batch_size, lambda: dataset)


def fit_generator(data: Data, batch_size: int) -> Measure:
    """Train behind the generator, with Keras' own queueing."""
    return _fitted(data, batch_size, lambda: classic.generator(mapped(data), "features", "labels", batch_size))


def fit_ready(data: Data, batch_size: int) -> Measure:
    """Train behind the feed's adapter, which gets one batch that lies ready, again and again."""
    ready = {name: tf.constant(array[:batch_size]) for name, array in mapped(data).items()}
    steps = data.rows // batch_size
    pick = picker(["features", "labels"], ready)
    dataset = adapter.Dataset(lambda: repeat(ready, steps), steps, pick, batch_size, is_in_order=True)
    return _fitted(data, batch_size, lambda: dataset)


def _fitted(data: Data, batch_size: int, make: Callable[[], Any]) -> Measure:
    def measure(seconds: float) -> float:
        model, watch = _model(data), _StopWatch(seconds)
        steps = data.rows // batch_size
        model.fit(make(), epochs=1_000_000, steps_per_epoch=steps, shuffle=False, callbacks=[watch], verbose=0)
        return watch.batches * batch_size / watch.elapsed_seconds

    return measure


@cache
def _model(data: Data) -> keras.Model:
    run = Run(training.pipeline(data, "keras", "Feed", batch_size=1, seconds=1), training.volumes(data))
    model = network(run, task_of(run))
    run.close()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    return model


class _StopWatch(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends `fit` when the time is over, counted from the end of the first step."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._begin: float | None = None
        self.batches = 0
        self.elapsed_seconds = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        del batch, logs
        now = perf_counter()
        if self._begin is None:
            self._begin = now
            return
        self.batches += 1
        self.elapsed_seconds = now - self._begin
        self.model.stop_training = self.elapsed_seconds >= self._seconds


MAKERS = {
    "feed-keras": feed,
    "fit-keras-feed": fit_feed,
    "fit-keras-classic": fit_generator,
    "fit-keras-ready": fit_ready,
}
