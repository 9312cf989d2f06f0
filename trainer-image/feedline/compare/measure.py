"""Compare backends, engines and residency over the same rows: one process for each backend, interleaved and repeated.

A figure here is a median over rounds that visit every cell in turn, so that a slow moment of the machine hits all of
them; whether the cells deliver the same data is shown by a hash of their rows that does not depend on their order.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feedline.compare.cells import Cell, Result
from feedline.compare.work import make_answer
from feedline.compare.worker import Worker, WorkerEndedError, started
from feedline.contract import ExitCode
from feedline.errors import FeedlineError


def compare(
    path: Path,
    overrides: Sequence[str],
    volumes: Mapping[str, Path],
    cells: Sequence[Cell],
    *,
    rounds: int,
    steps: int,
    output: Path | None = None,
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
    output
        Where the whole run of each backend leaves what it makes, a folder each; None: nowhere.
    on_progress
        Called with the name of what is measured next.

    Raises
    ------
    FeedlineError
        A run failed; the class tells why.
    """
    results = {cell: Result() for cell in cells}
    backends = sorted({cell.backend for cell in cells})
    with started(make_answer, dict.fromkeys(backends, (path, dict(volumes)))) as workers:
        for cell in cells:
            worker, result = workers[cell.backend], results[cell]
            on_progress(f"{cell}: rows")
            result.rows_hash = _ask(worker, "hash", [*overrides, *cell.overrides])
            if not any(results[other].values for other in cells if other.backend == cell.backend):
                on_progress(f"{cell}: training")
                folder = output / cell.backend if output is not None else None
                result.values = _ask(worker, "train", [*overrides, *cell.overrides], folder)["values"]
        for number in range(rounds):
            for cell in cells:
                on_progress(f"{cell}: round {number + 1} of {rounds}")
                changes = [*overrides, *cell.overrides, f"spec.train.steps={steps}"]
                report = _ask(workers[cell.backend], "train", changes)
                results[cell].rates.append(report["samplesPerSecond"])
                if "waitPermille" in report:
                    results[cell].wait_permille.append(report["waitPermille"])
    return results


def _ask(worker: Worker, what: str, overrides: list[str], output: Path | None = None) -> Any:
    """Have something done with the changed manifest and return the answer."""
    try:
        failure, answer = worker.ask(what, overrides, output)
    except WorkerEndedError as ended:
        raise _failed(ExitCode.TEMPORARY, str(ended)) from None
    if failure is not None:
        raise _failed(*failure)
    return answer


def _failed(exit_code: int, message: str) -> FeedlineError:
    error = FeedlineError(message)
    error.exit_code = ExitCode(exit_code)
    return error
