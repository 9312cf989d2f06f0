"""The processes that measure: one for each framework, started once, told over a pipe what to measure next.

Only one of them is at work at any time. A way that fails ends as a sentence at the parent, not as a traceback, and
the others go on.
"""

import gc
import importlib
import logging
import multiprocessing
import os
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from data import Data
from ways import Way

if TYPE_CHECKING:
    from measure import Measure

_SETTLE_SECONDS = 0.05
"""For whatever was fetched ahead of the last batch to be done, before another way is measured."""


class WayFailedError(Exception):
    """A way could not be measured; the message is one line."""


class Worker:
    """The process of the ways that share a framework."""

    def __init__(self, name: str, data: Data) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, data), name=f"bench-{name}")
        self._process.start()
        theirs.close()

    def rows_per_second(self, way: Way, batch_size: int, seconds: float) -> float:
        """Measure a way once.

        Raises
        ------
        WayFailedError
            It raised something, or the process ended.
        """
        try:
            self._connection.send((way.module, way.name, batch_size, seconds))
            rate, failure = self._connection.recv()
        except (EOFError, BrokenPipeError):
            self._process.join()
            raise WayFailedError(f"its process ended with {self._process.exitcode}") from None
        if failure:
            raise WayFailedError(failure)
        return float(rate)

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


@contextmanager
def started(names: Iterable[str], data: Data) -> Iterator[dict[str, Worker]]:
    """Start a worker for each name, and end them all."""
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            workers[name] = Worker(name, data)
        yield workers
    finally:
        for worker in workers.values():
            worker.end()


def _serve(connection: Connection, data: Data) -> None:
    """Measure until the other side hangs up; the body of a worker process."""
    # A spawned process hands its way of starting on, and a DataLoader's workers would import torch in every epoch.
    multiprocessing.set_start_method(None, force=True)
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
    logging.getLogger("absl").setLevel(logging.ERROR)  # grain warns that there is no jax
    known: dict[tuple[str, int], Measure] = {}
    while True:
        try:
            module, name, batch_size, seconds = connection.recv()
            if (name, batch_size) not in known:
                makers = importlib.import_module(f"ways.{module}").MAKERS
                known[name, batch_size] = makers[name](data, batch_size)
            answer = known[name, batch_size](seconds), ""
        except (EOFError, KeyboardInterrupt):
            return
        except Exception as error:  # noqa: BLE001 - whatever a library raises belongs into the results
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}, line {frame.lineno}"
            answer = 0.0, " ".join(f"{type(error).__name__}: {error} ({where})".split())
        gc.collect()
        time.sleep(_SETTLE_SECONDS)
        connection.send(answer)
