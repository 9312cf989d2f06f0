"""A run of several processes, seen from the one that starts those of a machine: one report, and one exit code.

Each rank is a process of `rank`. Where there are other machines, pods of one Job, one
whose ranks end for what happened elsewhere stays until it is taken away: only the pod that began it counts as failed.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from feedline.contract import ENV_PEER_TIMEOUT, PEER_TIMEOUT_SECONDS, ExitCode, Report
from feedline.limits import computing_threads
from feedline.manifest import Manifest, pod_part
from feedline.ranks import GONE, Meeting, Ranks, Site, meet, rank_variables
from feedline.training.blame import End, judged
from feedline.training.outcome import failure_report
from feedline.training.output import Output
from feedline.training.process import StoppedEarly, handled
from feedline.training.ranks_folder import ENV_FOLDER, RanksFolder

Progress = Callable[[], Report | None]
_LOOK_SECONDS: Final = 0.1
# The first pod's end is the Job's, which then ends the others, whose logs would be gone.
_LEAVE_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 1.0
_RANK: Final = "feedline.training.rank"
# The last one comes with the first optimizer or distributed module, and takes longer than all others.
_IMPORTED: Final = ("feedline.pytorch", "torch._dynamo")


def run_ranks(
    document: Manifest,
    volumes: Mapping[str, Path],
    processes: int,
    *,
    site: Site,
    import_from: tuple[Path, ...],
    port: int | None,
    on_start: Callable[[Progress], object],
    output: Output | None,
    is_json: bool,
) -> Report:
    """Run a pipeline in so many processes on this machine, and return one report of all of them.

    Raises
    ------
    StoppedEarly
        It was ended before all ranks could hear that.
    """
    ranks = range(site.node * processes, (site.node + 1) * processes)
    with tempfile.TemporaryDirectory(prefix="feedline-ranks-") as name:
        folder = RanksFolder(Path(name))
        job = {
            "name": document.name,
            "spec": pod_part(document.document["spec"]),
            "volumes": {name: str(Path(path).absolute()) for name, path in volumes.items()},
            "importFrom": [str(each) for each in import_from],
            "port": port,
            "output": None if output is None else [str(output.folder), output.run, output.is_kept],
            "isJson": is_json,
        }
        folder.job.write_text(json.dumps(job))
        patience = _peer_timeout(document)
        variables = {ENV_FOLDER: name, **rank_variables(processes, computing_threads())}
        variables[ENV_PEER_TIMEOUT] = str(patience)
        with _added(variables):
            local = Ranks(_RANK, () if "command" in document.document["spec"]["train"] else _IMPORTED)
            meeting = meet(site)
        with _added(variables), _prefixed(folder, ranks), _stopping(folder, ranks):
            on_start(lambda: _asked(folder))
            try:
                ended = local.run(meeting, processes)
            except KeyboardInterrupt as error:
                if isinstance(error, StoppedEarly):
                    raise
                return failure_report(
                    document, ExitCode.INTERRUPTED, "interrupted for the second time, all was ended at once"
                )
            end = judged(document, folder, ended, ranks)
            return end.report if site.nodes == 1 else _left(document, folder, meeting, end, patience)


def _peer_timeout(document: Manifest) -> int:
    # A pod has it in its environment, and no policy.
    policy = document.document["spec"].get("policy", {})
    return int(os.environ.get(ENV_PEER_TIMEOUT, policy.get("peerTimeoutSeconds", PEER_TIMEOUT_SECONDS)))


def _left(document: Manifest, folder: RanksFolder, meeting: Meeting, end: End, patience: int) -> Report:
    """Return the report, at a time when the end of this pod does not harm the others."""
    node, board = meeting.site.node, meeting.board()
    others = [f"left/{each}" for each in range(1, meeting.site.nodes)]
    with contextlib.suppress(RuntimeError, OSError):
        if end.report["exitCode"] == ExitCode.OK:
            if node:
                board.leave(f"left/{node}", b"")
            elif board.wait(others, _LEAVE_SECONDS):
                time.sleep(_LAST_SECONDS)
            return end.report
        board.leave(GONE, str(node).encode())
    if end.is_own:
        return end.report
    due = time.monotonic() + patience
    while folder.stop_code() is None and time.monotonic() < due:
        time.sleep(_LOOK_SECONDS)
    if folder.stop_code() is None or end.report["exitCode"] == ExitCode.TERMINATED:
        return end.report
    told = f"ended with the other pods: {end.report['message']}"
    return {**end.report, **failure_report(document, ExitCode.TERMINATED, told)}


def _asked(folder: RanksFolder) -> Report | None:
    """Return how the run does, by the chief; None where it does not say yet."""
    with contextlib.suppress(OSError, ValueError):
        port = int(folder.port.read_text())
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
def _stopping(folder: RanksFolder, ranks: Sequence[int]) -> Iterator[None]:
    """Have SIGTERM and the first Ctrl-C ask all ranks to end at one step, and the second Ctrl-C end them at once.

    SIGTERM ends them at once, too, while one is not far enough to hear it, as where it waits for a pod that is gone.
    """

    def handle(number: int, frame: Any) -> None:
        del frame
        is_again = folder.stop_code() is not None
        if is_again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            sys.stderr.write("\nfeedline: stopping after this step; Ctrl-C again to stop at once\n")
        folder.ask_to_stop(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED)
        if number == signal.SIGTERM and not is_again and not folder.all_listen(ranks):
            raise StoppedEarly

    with handled({signal.SIGINT: handle, signal.SIGTERM: handle}):
        yield


@contextlib.contextmanager
def _prefixed(folder: RanksFolder, ranks: Sequence[int]) -> Iterator[None]:
    """Pass on what the ranks but the chief print, each line with the number of its rank before it."""
    pipes = {rank: folder.pipe(rank) for rank in ranks if rank}
    for pipe in pipes.values():
        os.mkfifo(pipe, 0o600)
    # Held open for writing, too, so that a reader does not see an end before the first word.
    held = [os.open(pipe, os.O_RDWR) for pipe in pipes.values()]
    threads = [
        threading.Thread(target=_pass_on, args=(rank, pipe), name=f"feedline-rank-{rank}", daemon=True)
        for rank, pipe in pipes.items()
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
