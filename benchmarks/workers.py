"""The processes that measure: one for each framework, started once, told what to measure next.

Only one of them is at work at any time. A way that fails ends as a sentence at the parent, not as a traceback, and
the others go on.
"""

import gc
import importlib
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data import Data
from ways import Way

from feedline.compare import worker

if TYPE_CHECKING:
    from measure import Measure

_SETTLE_SECONDS = 0.05
"""For whatever was fetched ahead of the last batch to be done, before another way is measured."""


class WayFailedError(Exception):
    """A way could not be measured; the message is one line."""


class Worker:
    """The process of the ways that share a framework."""

    def __init__(self, process: worker.Worker) -> None:
        self._process = process

    def rows_per_second(self, way: Way, batch_size: int, seconds: float) -> float:
        """Measure a way once.

        Raises
        ------
        WayFailedError
            It raised something, or the process ended.
        """
        try:
            rate, failure = self._process.ask(way.module, way.name, batch_size, seconds)
        except worker.WorkerEndedError as ended:
            raise WayFailedError(str(ended)) from None
        if failure:
            raise WayFailedError(failure)
        return float(rate)


@contextmanager
def started(names: Iterable[str], data: Data) -> Iterator[dict[str, Worker]]:
    """Start a worker for each name, and end them all."""
    with worker.started(make_answer, dict.fromkeys(names, (data,))) as processes:
        yield {name: Worker(process) for name, process in processes.items()}


def make_answer(data: Data) -> Callable[[str, str, int, float], tuple[float, str]]:
    """Return what measures a way in its process: rows per second, and what went wrong, empty where nothing did."""
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
    logging.getLogger("absl").setLevel(logging.ERROR)  # grain warns that there is no jax
    known: dict[tuple[str, int], Measure] = {}

    def answer(module: str, name: str, batch_size: int, seconds: float) -> tuple[float, str]:
        try:
            if (name, batch_size) not in known:
                makers = importlib.import_module(f"ways.{module}").MAKERS
                known[name, batch_size] = makers[name](data, batch_size)
            rate, failure = known[name, batch_size](seconds), ""
        except Exception as error:  # noqa: BLE001 - whatever a library raises belongs into the results
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}, line {frame.lineno}"
            rate, failure = 0.0, " ".join(f"{type(error).__name__}: {error} ({where})".split())
        gc.collect()
        time.sleep(_SETTLE_SECONDS)
        return rate, failure

    return answer
