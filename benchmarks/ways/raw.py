"""Batches of ndarrays: what the machine can do, the feed itself, and the generator that people hand to Keras."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from data import ROW_BYTES, Data, mapped, opened
from measure import Measure, epochs, pulled
from numpy.typing import NDArray

from feedline import Feed
from feedline.classic import keras as classic
from feedline.feed.gather import SLOT_BYTES

Arrays = dict[str, NDArray[Any]]


def take_loop(data: Data, batch_size: int) -> Measure:
    """Gather one batch after the other into the same memory, in this thread."""
    return pulled(lambda: _taken(mapped(data), batch_size), batch_size)


def _taken(arrays: Arrays, rows_at_once: int) -> Generator[Arrays]:
    slots = {name: np.empty((rows_at_once, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
    total = len(arrays["labels"])
    random = np.random.default_rng()
    while True:
        order = random.permutation(total)
        for start in range(0, total - rows_at_once + 1, rows_at_once):
            rows = order[start : start + rows_at_once]
            for name, array in arrays.items():
                np.take(array, rows, 0, slots[name], "clip")
            yield slots


def two_threads(data: Data, batch_size: int) -> Measure:
    """Gather in two threads at once as much as the feed does in one go; nothing is handed over."""
    rows_at_once = min(batch_size * max(1, SLOT_BYTES // (batch_size * ROW_BYTES)), data.rows)
    gather = pulled(lambda: _taken(mapped(data), rows_at_once), rows_at_once)

    def measure(seconds: float) -> float:
        with ThreadPoolExecutor(2) as threads:
            return sum(threads.map(gather, [seconds, seconds]))

    return measure


def feed(data: Data, batch_size: int, *, parts: bool = False) -> Measure:
    """Take the feed's own batches."""
    batches = Feed(opened(data, parts=parts), batch_size)
    return pulled(lambda: epochs(batches), batch_size)


def keras_generator(data: Data, batch_size: int) -> Measure:
    """Take the batches of the generator by themselves, without Keras around it."""
    batches = classic.batches(mapped(data), batch_size)
    return pulled(lambda: epochs(batches), batch_size)


MAKERS = {
    "take": take_loop,
    "two-threads": two_threads,
    "feed": feed,
    "feed-8-files": partial(feed, parts=True),
    "keras-generator": keras_generator,
}
