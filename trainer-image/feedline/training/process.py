"""What a training process owes the outside: signals, lines on standard error, a run for the program that is running."""

import atexit
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, TypeVar

from feedline import contract, manifest
from feedline.contract import ExitCode
from feedline.errors import FeedlineError, UsageError, UserFunctionError
from feedline.ranks import Place, Site, end_with_parent
from feedline.training.endpoint import endpoint
from feedline.training.loop import Loop
from feedline.training.outcome import finished_report, outcome, write_report
from feedline.training.output import Output

R = TypeVar("R", bound=Loop)


class StoppedEarly(KeyboardInterrupt):
    """SIGTERM while the framework is imported, before the run has taken signals over."""


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what is standard error now: while a progress bar is shown, that is above the bar."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class JsonLines(logging.Formatter):
    """One JSON object a line; a message may be an object too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        message = record.msg if isinstance(record.msg, dict) else record.getMessage()
        return json.dumps({"level": record.levelname, "message": message}, separators=(",", ":"))


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
def handled(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Have signals handled so meanwhile, and afterwards as before; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals(run: Loop) -> Iterator[None]:
    """Let SIGTERM and the first Ctrl-C end the run after the step at hand, and the second Ctrl-C at once.

    Of several ranks each is ended at once by SIGTERM, since it is sent where another one is gone, and Ctrl-C is left to
    the process that has started them: it asks all of them to end at the same step.
    """
    process = os.getpid()
    if run.peers is not None:
        with handled({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}):
            yield
        return

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

    with handled({signal.SIGINT: handle, signal.SIGTERM: handle}):
        yield


@contextlib.contextmanager
def no_longer_stopped(run: Loop) -> Iterator[None]:
    """Let only a second Ctrl-C end a process whose training has ended, and whose report is about to be written.

    Of several ranks each may be ended: who has started them says how they ended.
    """
    if run.peers is not None:
        yield
        return

    def next_time(*_: object) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(ExitCode.INTERRUPTED))

    with handled({signal.SIGINT: next_time, signal.SIGTERM: signal.SIG_IGN}):
        yield


def forget_children() -> None:
    """Let no child's death be noticed any more, now that the training has ended.

    torch's handler of SIGCHLD raises for a worker that died, wherever the main thread is: for the second one that would
    be in the middle of the report (in 2 of 20 runs, torch 2.15), or of this.
    """
    is_forgotten = threading.current_thread() is not threading.main_thread()
    while not is_forgotten:
        with contextlib.suppress(RuntimeError):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            is_forgotten = True


def end_if_lost(exit_code: int) -> None:
    """End the process here and now if it has lost a helper to a signal (128 + n).

    torch's handler of SIGCHLD may have left a queue of multiprocessing locked, for which the interpreter would wait at
    its exit for ever.
    """
    if exit_code > 128 and exit_code not in list(ExitCode):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def output_from_environment() -> Output | None:
    """Return the folder that the environment names for what the run leaves behind; None where it names none."""
    folder = os.environ.get(contract.ENV_OUTPUT)
    if not folder:
        return None
    discards = os.environ.get(contract.ENV_DISCARD, "").split(",")
    return Output(Path(folder), os.environ.get(contract.ENV_RUN) or None, discards=discards)


def run_from_environment(make: Callable[[manifest.Manifest, dict[str, Path], Output | None], R]) -> R:
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
    output = output_from_environment()
    place = Place.of(os.environ)
    if place.world > 1:
        end_with_parent()
    if output is not None and place.is_chief:
        output.begin(document)
    run = make(document, volumes_from_environment(document), output)
    report_path = os.environ.get(contract.ENV_REPORT)
    port = port_from_environment(None)
    handlers, served = contextlib.ExitStack(), contextlib.ExitStack()
    handlers.enter_context(signals(run))
    served.enter_context(endpoint(run, port))
    raised: list[BaseException] = []
    hook, has_left = sys.excepthook, _noted_exits(run)

    def remember(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        forget_children()
        raised.append(error)
        is_first = run.peers is None or run.peers.is_to_tell(error)
        if is_first and not isinstance(error, FeedlineError) and isinstance(error, Exception):
            hook(kind, error, trace)

    def finish() -> None:
        error = raised[0] if raised else has_left()
        ended = run.ended(error)
        if isinstance(ended, _LeftError):
            ended = None  # with which code, and how bad that is, who started it knows
        handlers.enter_context(no_longer_stopped(run))
        if ended is not error and isinstance(ended, Exception) and not isinstance(ended, FeedlineError):
            hook(type(ended), ended, ended.__traceback__)
        exit_code, message = outcome(run, ended)
        run.close()
        served.close()
        finished = finished_report(run, exit_code, message)
        if output is not None:
            output.close()
            write_report(finished, output.report)
        write_report(finished, Path(report_path) if report_path else None)
        end_if_lost(exit_code)

    sys.excepthook = remember
    atexit.register(finish)
    return run


class _LeftError(UserFunctionError):
    """A program has left by `sys.exit` in the middle."""


def _noted_exits(run: Loop) -> Callable[[], _LeftError | None]:
    """Have calls of `sys.exit` be noted: the interpreter tells nobody with which code it ends.

    Returns
    -------
    callable
        Returns the error as which a program has left; None where it has not, or well, or when all was done.
    """
    leave = sys.exit
    exits: list[tuple[object, int]] = []

    def note(code: Any = None, /) -> NoReturn:
        exits.append((code, run.train.steps))
        leave(code)

    def has_left() -> _LeftError | None:
        code, steps = exits[-1] if exits else (None, 0)
        # Who took a batch afterwards has not left by it.
        if code in (None, 0) or steps != run.train.steps or run.limit_reached(run.train):
            return None
        return _LeftError(f"the program called sys.exit({code!r})")

    sys.exit = note
    return has_left


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
    if text and not _is_port(text):
        raise UsageError(f"{contract.ENV_PORT}: must be a port or empty (got {text[:40]!r})")
    return int(text) if text else None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 1 << 16


def processes_from_environment() -> int:
    """Return how many processes of this pod train together.

    Raises
    ------
    UsageError
        It is no number.
    """
    return _number(contract.ENV_PROCESSES, 1, contract.MAX_PROCESSES)


def site_from_environment() -> Site:
    """Return which pod this is of those that train together.

    Raises
    ------
    UsageError
        The environment says it in no way that can be read.
    """
    nodes = _number(contract.ENV_NODES, 1, contract.MAX_NODES)
    if nodes == 1:
        return Site()
    host, _, port = os.environ.get(contract.ENV_PEERS, "").rpartition(":")
    if not host or not _is_port(port):
        told = os.environ.get(contract.ENV_PEERS, "")[:80]
        raise UsageError(f"{contract.ENV_PEERS}: must be HOST:PORT of the first of {nodes} pods (got {told!r})")
    return Site(_number(contract.ENV_INDEX, 0, nodes - 1), nodes, host, int(port))


def _number(name: str, least: int, most: int) -> int:
    text = os.environ.get(name, str(least))
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and least <= int(text) <= most):
        raise UsageError(f"{name}: must be from {least} to {most} (got {text[:40]!r})")
    return int(text)


def volumes_from_environment(document: manifest.Manifest) -> dict[str, Path]:
    """Return where the volumes lie: as the environment says, else under `/data/NAME`.

    Raises
    ------
    UsageError
        The environment says it in no way that can be read.
    """
    try:
        given = json.loads(os.environ.get(contract.ENV_VOLUMES, "{}"))
        known = {name: Path(folder) for name, folder in given.items()}
    except (ValueError, AttributeError, TypeError):
        raise UsageError(f"{contract.ENV_VOLUMES}: must be JSON, an object of folders by volume") from None
    return {name: known.get(name, Path(f"{contract.DATA_DIR}/{name}")) for name in document.volumes}
