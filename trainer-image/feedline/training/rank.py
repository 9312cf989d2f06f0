"""The process of one rank, `python -m feedline.training.rank`: runs what the folder says that started it."""

import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from feedline import manifest
from feedline.contract import ExitCode
from feedline.ranks import Board, Place, end_with_parent
from feedline.training.execution import execute
from feedline.training.gang import JOB_FILE
from feedline.training.output import Output
from feedline.training.peers import ENV_FOLDER
from feedline.training.process import JsonLines, logged

_OVER: Final = "over"
_CONNECT_SECONDS: Final = 5.0


def main() -> int:
    """Run this rank's part; return its exit code."""
    end_with_parent()
    # The process that has started it asks all ranks at once, and by a file.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, place = Path(os.environ[ENV_FOLDER]), Place.of(os.environ)
    if place.local_rank:
        pipe = os.open(folder / f"out-{place.local_rank}", os.O_WRONLY)
        os.dup2(pipe, sys.stdout.fileno())
        os.dup2(pipe, sys.stderr.fileno())
        os.close(pipe)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    job = json.loads((folder / JOB_FILE).read_text())
    document = manifest.from_pod(json.dumps(job["spec"]), job["name"])
    where = job["output"]
    output = None if where is None else Output(Path(where[0]), where[1], is_kept=where[2])
    formatter = JsonLines() if job["isJson"] else logging.Formatter("feedline: %(message)s")
    report = folder / f"rank-{place.local_rank}.json"
    # The progress is asked for there, by whoever has started this.
    port = (0 if job["port"] is None else job["port"]) if place.is_chief else None
    with logged(formatter) as log:
        if not place.is_chief:
            log.setLevel(logging.WARNING)
        finished = execute(
            document,
            {name: Path(path) for name, path in job["volumes"].items()},
            import_from=tuple(Path(each) for each in job["importFrom"]),
            report_path=report,
            port=port,
            output=output,
        )
    _leave_together(place, finished["exitCode"])
    return finished["exitCode"]


def _leave_together(place: Place, code: int) -> None:
    """End behind the chief, which has more to do: the agent ends all others as soon as one has failed."""
    if place.is_chief or code in (ExitCode.OK, ExitCode.TERMINATED, ExitCode.INTERRUPTED):
        with contextlib.suppress(RuntimeError, OSError):
            board = Board.connect(os.environ, _CONNECT_SECONDS)
            if place.is_chief:
                board.leave(_OVER, b"")
            else:
                board.wait([_OVER])


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # A framework that waits for ranks that are gone must not keep this one.
    os._exit(code)
