"""The process of one rank: runs what the folder says that started it."""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from feedline import manifest
from feedline.contract import ExitCode
from feedline.ranks import Board, Place
from feedline.training.execution import execute
from feedline.training.output import Output
from feedline.training.process import JsonLines, logged
from feedline.training.ranks_folder import ENV_FOLDER, RanksFolder

_OVER: Final = "over"
_CONNECT_SECONDS: Final = 5.0


def main() -> int:
    """Run this rank's part; return its exit code."""
    # The process that has started it asks all ranks at once, and by a file.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, place = RanksFolder(Path(os.environ[ENV_FOLDER])), Place.of(os.environ)
    if not place.is_chief:
        pipe = os.open(folder.pipe(place.rank), os.O_WRONLY)
        os.dup2(pipe, sys.stdout.fileno())
        os.dup2(pipe, sys.stderr.fileno())
        os.close(pipe)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    job = json.loads(folder.job.read_text())
    document = manifest.from_pod(json.dumps(job["spec"]), job["name"])
    where = job["output"]
    output = None if where is None else Output(Path(where[0]), where[1], is_kept=where[2])
    formatter = JsonLines() if job["isJson"] else logging.Formatter("feedline: %(message)s")
    # The chief is asked there how the training does, by whoever has started it; of other pods one rank tells its own.
    is_asked = place.is_chief or (place.local_rank == 0 and job["port"])
    port = (0 if job["port"] is None else job["port"]) if is_asked else None
    with logged(formatter) as log:
        if not place.is_chief:
            log.setLevel(logging.WARNING)
        finished = execute(
            document,
            {name: Path(path) for name, path in job["volumes"].items()},
            import_from=tuple(Path(each) for each in job["importFrom"]),
            report_path=folder.report(place.rank),
            port=port,
            output=output,
        )
    code: int = finished["exitCode"]
    if not _left_together(place, code):
        folder.suffer(place.rank)
        return ExitCode.TERMINATED
    return code


def _left_together(place: Place, code: int) -> bool:
    """End behind the chief, which has more to do; return whether that came to its end.

    The ranks of a machine are ended as soon as one of them has failed, and a pod that has ended well never runs again.
    """
    if not place.is_chief and code not in (ExitCode.OK, ExitCode.TERMINATED, ExitCode.INTERRUPTED):
        return True
    try:
        board = Board.connect(os.environ, _CONNECT_SECONDS)
        if place.is_chief:
            board.leave(_OVER, str(code).encode())
            return True
        board.wait([_OVER])
        return int(board.read(_OVER)) == code
    except (RuntimeError, OSError):  # the chief is gone, and with it what it has not told
        return place.is_chief or code != ExitCode.OK
