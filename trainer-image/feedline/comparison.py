"""Compare backends, engines and residency over the same rows: one process for each backend, interleaved and repeated.

A figure here is a median over rounds that visit every cell in turn, so that a slow moment of the machine hits all of
them; whether the cells deliver the same data is shown by a hash of their rows that does not depend on their order.
"""

import contextlib
import hashlib
import multiprocessing
import signal
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from feedline import manifest
from feedline.contract import ExitCode, Report
from feedline.errors import FeedlineError

_HASHED_ROWS = 4096
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Cell:
    """One way to feed one backend."""

    backend: str
    engine: str
    residency: str

    @property
    def overrides(self) -> list[str]:
        """The changes to the manifest that make this cell."""
        return [
            f"spec.backend={self.backend}",
            f"spec.loader.engine={self.engine}",
            f"spec.loader.residency={self.residency}",
        ]

    def __str__(self) -> str:
        return f"{self.backend} {self.engine} {self.residency}"


@dataclass
class Result:
    """What a cell has shown.

    Attributes
    ----------
    rows_hash
        Sum of the hashes of its rows; equal for cells that deliver the same rows.
    rates
        Rows per second of each round, without the first step.
    wait_permille
        Of each round; empty where the time cannot be seen.
    values
        What the whole training run reported last, such as ``val_accuracy``.
    """

    rows_hash: str = ""
    rates: list[int] = field(default_factory=list)
    wait_permille: list[int] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    @property
    def median_rate(self) -> float:
        """Median of the rounds, rows per second."""
        return statistics.median(self.rates)


def compare(
    path: Path,
    overrides: Sequence[str],
    volumes: Mapping[str, Path],
    cells: Sequence[Cell],
    *,
    rounds: int,
    steps: int,
    on_progress: Callable[[str], object] = lambda _: None,
) -> dict[Cell, Result]:
    """Measure every cell.

    Parameters
    ----------
    path, overrides, volumes
        The manifest, changes to it, and the folder of every volume.
    cells
        What to compare; a cell's first run of a backend trains as the manifest says, for its `values`.
    rounds, steps
        Timed runs of each cell, and the length of one.
    on_progress
        Called with the name of what is measured next.

    Raises
    ------
    FeedlineError
        A run failed; the class tells why.
    """
    results = {cell: Result() for cell in cells}
    with _workers({cell.backend for cell in cells}, path, volumes) as workers:
        for cell in cells:
            worker, result = workers[cell.backend], results[cell]
            on_progress(f"{cell}: rows")
            result.rows_hash = worker.ask("hash", [*overrides, *cell.overrides])
            if not any(results[other].values for other in cells if other.backend == cell.backend):
                on_progress(f"{cell}: training")
                result.values = worker.ask("train", [*overrides, *cell.overrides])["values"]
        for number in range(rounds):
            for cell in cells:
                on_progress(f"{cell}: round {number + 1} of {rounds}")
                changes = [*overrides, *cell.overrides, f"spec.train.steps={steps}"]
                report = workers[cell.backend].ask("train", changes)
                results[cell].rates.append(report["samplesPerSecond"])
                if "waitPermille" in report:
                    results[cell].wait_permille.append(report["waitPermille"])
    return results


class _Worker:
    """The process of one backend."""

    def __init__(self, backend: str, path: Path, volumes: Mapping[str, Path]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, path, dict(volumes)), name=f"feedline-{backend}", daemon=False
        )
        self._process.start()
        theirs.close()

    def ask(self, what: str, overrides: list[str]) -> Any:
        """Have something done with the changed manifest and return the answer."""
        self._connection.send((what, overrides))
        try:
            kind, answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise _failed(ExitCode.TEMPORARY, f"the process ended with {self._process.exitcode}") from None
        if kind == "failed":
            raise _failed(*answer)
        return answer

    def interrupt(self) -> None:
        """Have the process leave what it is doing."""
        self._process.terminate()

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


@contextlib.contextmanager
def _workers(backends: set[str], path: Path, volumes: Mapping[str, Path]) -> Iterator[dict[str, _Worker]]:
    workers: dict[str, _Worker] = {}
    try:
        for backend in sorted(backends):
            workers[backend] = _Worker(backend, path, volumes)
        yield workers
    except BaseException:
        for worker in workers.values():
            worker.interrupt()
        raise
    finally:
        for worker in workers.values():
            worker.end()


def _failed(exit_code: int, message: str) -> FeedlineError:
    error = FeedlineError(message)
    error.exit_code = ExitCode(exit_code)
    return error


def _serve(connection: Connection, path: Path, volumes: Mapping[str, Path]) -> None:
    """Answer until the other side hangs up; the body of a worker process."""
    # Ctrl-C reaches every process; the one that asked ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A spawned process hands its way of starting on: a DataLoader's workers would import torch anew in every epoch.
    multiprocessing.set_start_method(None, force=True)
    while True:
        try:
            what, overrides = connection.recv()
        except EOFError:
            return
        try:
            document = manifest.parse(manifest.read(path, overrides))
            answer = _hash(document, volumes) if what == "hash" else _train(document, volumes, path)
        except FeedlineError as error:
            with contextlib.suppress(ConnectionError):  # nobody listens after Ctrl-C
                connection.send(("failed", (int(error.exit_code), str(error))))
            return
        else:
            connection.send(("done", answer))


def _train(document: manifest.Manifest, volumes: Mapping[str, Path], path: Path) -> Report:
    from feedline.launch import execute

    finished = execute(document, volumes, import_from=(path.resolve().parent, Path.cwd()))
    if finished["exitCode"] != ExitCode.OK:
        raise _failed(finished["exitCode"], f"{document.backend} {document.loader.engine}: {finished['message']}")
    return finished


def _hash(document: manifest.Manifest, volumes: Mapping[str, Path]) -> str:
    """Return a hash of the set of the first rows, read once by the cell's own loader."""
    from feedline import sources
    from feedline.run import Run

    arrays = sources.open_split(document, document.train_data, volumes)
    start = document.train_data.start
    stop = start + min(arrays.rows, _HASHED_ROWS)
    changed = {**document.document, "spec": {**document.document["spec"]}}
    spec = changed["spec"]
    spec["data"] = {**spec["data"], "train": {**spec["data"]["train"], "rows": {"start": start, "stop": stop}}}
    spec["loader"] = {
        **spec["loader"],
        "lastBatch": "Keep",
        "batchSize": min(document.loader.batch_size, stop - start),
    }
    run = Run(manifest.parse(changed), volumes)
    try:
        return f"{sum(_row_hashes(run)) & _MASK:016x}"
    finally:
        run.close()


def _row_hashes(run: Any) -> Iterator[int]:
    for batch in run.train:
        columns = [(name, _rows(batch[name])) for name in sorted(batch)]
        for number in range(len(columns[0][1])):
            digest = hashlib.blake2b(digest_size=8)
            for name, rows in columns:
                digest.update(name.encode() + b"\0" + rows[number])
            yield int.from_bytes(digest.digest(), "big")


def _rows(column: Any) -> list[bytes]:
    """Return the bytes of each row of a native column; text as UTF-8, whatever the framework makes of it."""
    import numpy as np

    array = np.asarray(column)
    if array.dtype.kind in "OSU":
        texts = array.reshape(len(array), -1).tolist()
        return ["\0".join(_text(each) for each in row).encode() for row in texts]
    return [row.tobytes() for row in np.ascontiguousarray(array)]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
