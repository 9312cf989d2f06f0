"""Batches of TensorFlow tensors: the shuffle queue, tf.data around numpy, and the feed."""

from collections.abc import Generator
from typing import Any

import numpy as np
import tensorflow as tf
from data import ROW_SHAPE, Data, mapped, opened
from measure import Measure, epochs, pulled

from feedline import Feed
from feedline import tensorflow as adapter
from feedline.classic import keras as classic_generator
from feedline.classic import tensorflow as classic


def thread_runner(data: Data, batch_size: int) -> Measure:
    """Dequeue from a `RandomShuffleQueue` that two threads fill."""
    batches = classic.batches(mapped(data), batch_size)
    return pulled(lambda: epochs(batches), batch_size)


def from_generator(data: Data, batch_size: int) -> Measure:
    """Have tf.data call a generator that makes whole batches, ahead of need."""
    dataset = tf.data.Dataset.from_generator(
        lambda: classic_generator.generator(mapped(data), "features", "labels", batch_size),
        output_signature=(tf.TensorSpec((batch_size, *ROW_SHAPE), tf.float32), tf.TensorSpec((batch_size,), tf.int32)),
    ).prefetch(tf.data.AUTOTUNE)
    return pulled(lambda: epochs(dataset), batch_size)


def numpy_function(data: Data, batch_size: int) -> Measure:
    """Have tf.data index whole batches by `tf.numpy_function`, several at once and ahead of need."""
    return pulled(lambda: _indexed(data, batch_size), batch_size)


def _indexed(data: Data, batch_size: int) -> Generator[Any]:
    features, labels = mapped(data).values()
    steps = data.rows // batch_size
    random = np.random.default_rng()

    def lookup(rows: tf.Tensor) -> Any:
        return tf.numpy_function(lambda each: (features[each], labels[each]), [rows], (tf.float32, tf.int32))

    while True:
        order = random.permutation(data.rows)[: steps * batch_size].reshape(steps, batch_size)
        dataset = tf.data.Dataset.from_tensor_slices(order).map(lookup, num_parallel_calls=tf.data.AUTOTUNE)
        yield from dataset.prefetch(tf.data.AUTOTUNE)


def feed(data: Data, batch_size: int) -> Measure:
    """Take the feed's batches as eager tensors."""
    batches = adapter.batches(Feed(opened(data), batch_size))
    return pulled(lambda: epochs(batches), batch_size)


MAKERS = {
    "thread-runner": thread_runner,
    "from-generator": from_generator,
    "numpy-function": numpy_function,
    "feed-tensorflow": feed,
}
