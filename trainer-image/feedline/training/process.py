"""What a training process owes the outside: signals, lines on standard error, a run for the program that is running."""

import atexit
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

from feedline import contract, manifest
from feedline.contract import ExitCode
from feedline.errors import FeedlineError, UsageError
from feedline.training.endpoint import endpoint
from feedline.training.loop import Loop
from feedline.training.outcome import finished_report, outcome, write_report

R = TypeVar("R", bound=Loop)


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what is standard error now: while a progress bar is shown, that is above the bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


@contextlib.contextmanager
def logged(formatter: logging.Formatter) -> Iterator[logging.Logger]:
    """Write what a run has to say while it goes on to standard error, one line each."""
    log, handler = logging.getLogger("feedline"), _StandardError()
    handler.setFormatter(formatter)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)


@contextlib.contextmanager
def signals(run: Loop) -> Iterator[None]:
    """Let SIGTERM and the first Ctrl-C end the run after the step at hand, and the second Ctrl-C at once."""
    process = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != process:
            # A worker that was forked inherits this handler. Ctrl-C reaches it too, and its parent will end it.
            if number == signal.SIGTERM:
                os._exit(ExitCode.TERMINATED)
            return
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, lambda *_: os._exit(ExitCode.INTERRUPTED))
            sys.stderr.write("\nfeedline: stopping after this step; Ctrl-C again to stop at once\n")
        run.stop(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_from_environment(make: Callable[[manifest.Manifest, dict[str, Path]], R]) -> R:
    """Return a run for the program that is running, with its signals, endpoint and report looked after.

    Raises
    ------
    UsageError
        There is no manifest: the program was not started by feedline.
    """
    path = Path(os.environ.get(contract.ENV_MANIFEST, contract.MANIFEST_PATH))
    try:
        text = manifest_text(path)
    except OSError:
        raise UsageError(
            f"{path}: there is no manifest here: start the program by spec.train.command and `feedline run`"
        ) from None
    document = manifest.from_pod(text, os.environ.get(contract.ENV_PIPELINE, "local"))
    run = make(document, volumes_from_environment(document))
    report_path = os.environ.get(contract.ENV_REPORT)
    port = port_from_environment(None)
    stack = contextlib.ExitStack()
    stack.enter_context(signals(run))
    stack.enter_context(endpoint(run, port))
    raised: list[BaseException] = []
    hook = sys.excepthook

    def remember(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        raised.append(error)
        if not isinstance(error, FeedlineError) and isinstance(error, Exception):
            hook(kind, error, trace)

    def finish() -> None:
        exit_code, message = outcome(run, raised[0] if raised else None)
        run.close()
        stack.close()
        write_report(finished_report(run, exit_code, message), Path(report_path) if report_path else None)

    sys.excepthook = remember
    atexit.register(finish)
    return run


def manifest_text(path: Path) -> str:
    """Return the pod's manifest; bytes that are no text are left for the JSON reader to refuse."""
    return path.read_text(encoding="utf-8", errors="replace")


def port_from_environment(default: int | None) -> int | None:
    """Return the port for the metrics; None, where the variable is empty, serves none.

    Raises
    ------
    UsageError
        It is no number.
    """
    text = os.environ.get(contract.ENV_PORT)
    if text is None:
        return default
    if text and not text.isdecimal():
        raise UsageError(f"{contract.ENV_PORT}: must be a port or empty (got {text!r})")
    return int(text) if text else None


def volumes_from_environment(document: manifest.Manifest) -> dict[str, Path]:
    """Return where the volumes lie: as the environment says, else under `/data/NAME`."""
    given = json.loads(os.environ.get(contract.ENV_VOLUMES, "{}"))
    return {name: Path(given.get(name, f"{contract.DATA_DIR}/{name}")) for name in document.volumes}
