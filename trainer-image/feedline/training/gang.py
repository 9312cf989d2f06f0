"""A run of several processes on this machine, seen from the one that starts them: one report, and one exit code.

Each rank is a process of `rank`, started by torchrun's agent, and leaves its report in a folder. Which of them began it
where a run goes wrong is decided here: an error of a rank's own before a death, a death before one that has only lost
the others.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from feedline.contract import ENV_PEER_TIMEOUT, ExitCode, Report
from feedline.limits import computing_threads
from feedline.manifest import Manifest, pod_part
from feedline.ranks import Ended, rank_variables, start_ranks
from feedline.training.lost import by_signal
from feedline.training.outcome import failure_report
from feedline.training.output import Output
from feedline.training.peers import CULPRIT_FILE, ENV_FOLDER, PORT_FILE, STOP_FILE
from feedline.training.process import handled
from feedline.training.whole import write_text

JOB_FILE: Final = "job.json"
Progress = Callable[[], Report | None]
_DIED_BY_US: Final = frozenset({-signal.SIGTERM, -signal.SIGKILL, ExitCode.TERMINATED})


def run_ranks(
    document: Manifest,
    volumes: Mapping[str, Path],
    processes: int,
    *,
    import_from: tuple[Path, ...],
    port: int | None,
    on_start: Callable[[Progress], object],
    output: Output | None,
    is_json: bool,
) -> Report:
    """Run a pipeline in so many processes, and return one report of all of them."""
    with tempfile.TemporaryDirectory(prefix="feedline-ranks-") as name:
        folder = Path(name)
        job = {
            "name": document.name,
            "spec": pod_part(document.document["spec"]),
            "volumes": {name: str(Path(path).absolute()) for name, path in volumes.items()},
            "importFrom": [str(each) for each in import_from],
            "port": port,
            "output": None if output is None else [str(output.folder), output.run, output.is_kept],
            "isJson": is_json,
        }
        (folder / JOB_FILE).write_text(json.dumps(job))
        patience = document.document["spec"].get("policy", {}).get("peerTimeoutSeconds")
        environment = {ENV_FOLDER: name, **rank_variables(processes, computing_threads())}
        if patience is not None and ENV_PEER_TIMEOUT not in os.environ:  # which a pod has, and no policy
            environment[ENV_PEER_TIMEOUT] = str(patience)
        with _added(environment), _prefixed(folder, processes), _stopping(folder):
            on_start(lambda: _asked(folder))
            try:
                ended = start_ranks(processes, [sys.executable, "-m", "feedline.training.rank"], folder)
            except KeyboardInterrupt:
                return failure_report(
                    document, ExitCode.INTERRUPTED, "interrupted for the second time, all was ended at once"
                )
        reports = _reports(folder, processes)
        finished = reports.get(0) or failure_report(document, ExitCode.TEMPORARY, "rank 0 left no report")
        if ended.first is None:
            return finished
        return {**finished, **_blamed(document, folder, ended, reports)}


def _reports(folder: Path, processes: int) -> dict[int, Report]:
    found: dict[int, Report] = {}
    for rank in range(processes):
        with contextlib.suppress(OSError, ValueError):
            found[rank] = json.loads((folder / f"rank-{rank}.json").read_text())
    return found


def _blamed(document: Manifest, folder: Path, ended: Ended, reports: Mapping[int, Report]) -> Report:
    """Return exit code, reason and message of the rank that began it."""
    with contextlib.suppress(OSError, ValueError):
        rank = int((folder / CULPRIT_FILE).read_text())
        if rank in reports:
            return _of_rank(document, rank, reports[rank])
    codes = {rank: code for rank, code in ended.codes.items() if code not in _DIED_BY_US or rank == ended.first}
    lost = {rank for rank, each in reports.items() if each["exitCode"] == ExitCode.TEMPORARY}
    dead = [rank for rank, code in codes.items() if code < 0 and rank not in lost]
    if (stop := folder / STOP_FILE).exists() and not dead:
        stopped = reports.get(0)
        if stopped is not None and stopped["exitCode"] == int(stop.read_text()):
            return _plain(stopped)
    first = ended.first if ended.first is not None else 0
    rank = dead[0] if dead else next((each for each in codes if each not in lost), first)
    code = ended.codes.get(rank, int(ExitCode.TEMPORARY))
    if code < 0:
        return failure_report(document, 128 - code, f"rank {rank} was ended by {by_signal(-code)}")
    if rank in reports:
        return _of_rank(document, rank, reports[rank])
    return failure_report(document, code, f"rank {rank} ended with exit code {code}, and left no report")


def _of_rank(document: Manifest, rank: int, report: Report) -> Report:
    told = report["message"]
    return failure_report(document, report["exitCode"], told if told.startswith("rank ") else f"rank {rank}: {told}")


def _plain(report: Report) -> Report:
    return {"reason": report["reason"], "exitCode": report["exitCode"], "message": report["message"]}


def _asked(folder: Path) -> Report | None:
    """Return how the run does, by the chief; None where it does not say yet."""
    with contextlib.suppress(OSError, ValueError):
        port = int((folder / PORT_FILE).read_text())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/feed", timeout=2) as answer:
            report: Report = json.load(answer)
            return report
    return None


@contextlib.contextmanager
def _added(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _stopping(folder: Path) -> Iterator[None]:
    """Have SIGTERM and the first Ctrl-C ask all ranks to end at one step, and the second Ctrl-C end them at once."""

    def handle(number: int, frame: Any) -> None:
        del frame
        if (folder / STOP_FILE).exists() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            sys.stderr.write("\nfeedline: stopping after this step; Ctrl-C again to stop at once\n")
        code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED
        write_text(folder / STOP_FILE, str(int(code)))

    with handled({signal.SIGINT: handle, signal.SIGTERM: handle}):
        yield


@contextlib.contextmanager
def _prefixed(folder: Path, processes: int) -> Iterator[None]:
    """Pass on what the ranks but the first print, each line with the number of its rank before it."""
    pipes = [folder / f"out-{rank}" for rank in range(1, processes)]
    for pipe in pipes:
        os.mkfifo(pipe, 0o600)
    # Held open for writing, too, so that a reader does not see an end before the first word.
    held = [os.open(pipe, os.O_RDWR) for pipe in pipes]
    threads = [
        threading.Thread(target=_pass_on, args=(rank, pipe), name=f"feedline-rank-{rank}", daemon=True)
        for rank, pipe in enumerate(pipes, start=1)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        for thread in threads:
            thread.join(timeout=5)


def _pass_on(rank: int, pipe: Path) -> None:
    with pipe.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            sys.stderr.write(f"[rank {rank}] {line}" + ("" if line.endswith("\n") else "\n"))
            sys.stderr.flush()
