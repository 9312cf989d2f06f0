"""What a training process owes the outside: signals, the report in its files, the metrics endpoint.

Serves a run in this process, whether feedline called the training function or the user's program made the run
itself. The report is written however the process ends, unless by a signal that cannot be handled.
"""

import atexit
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder

from feedline import contract, manifest, report
from feedline.contract import REASONS, ExitCode, Report
from feedline.errors import EnvironmentInvalidError, FeedlineError, StopTraining, UsageError

if TYPE_CHECKING:
    from feedline.run import Run


def outcome(run: "Run", error: BaseException | None) -> tuple[ExitCode, str]:
    """Return the exit code and the message for how a training function ended."""
    train = run.train
    if error is None and train.steps == 0:
        return ExitCode.USER_ERROR, "the training function never took a batch: iterate run.train within run.epochs()"
    match error:
        case None:
            goal = f"of {run.target_steps} steps" if run.target_steps else "steps, before its time was over"
            return ExitCode.OK, "completed" if run.limit_reached(train) else f"stopped after {train.steps} {goal}"
        case StopTraining():
            word = "interrupted" if error.exit_code == ExitCode.INTERRUPTED else "terminated"
            return error.exit_code, f"{word} after {train.steps} of {run.target_steps or 'unlimited'} steps"
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED, f"interrupted after {train.steps} steps"
        case FeedlineError():
            return error.exit_code, str(error)
        case _:
            return ExitCode.USER_ERROR, "".join(traceback.format_exception_only(error)).strip()


def finished_report(run: "Run", exit_code: ExitCode, message: str) -> Report:
    """Return the report of a run that ended."""
    run.metrics.state = "done" if exit_code == ExitCode.OK else "failed"
    return {**report.summarize(run), **failure_report(run.manifest, exit_code, message)}


def failure_report(document: "manifest.Manifest", exit_code: int, message: str) -> Report:
    """Return what can be said of a run that could not even be opened, or was killed (128 + the signal)."""
    return {
        "pipeline": document.name,
        "backend": document.backend,
        "engine": document.loader.engine,
        "reason": REASONS.get(exit_code, "Killed"),
        "exitCode": int(exit_code),
        "message": report.sentence(message),
    }


def write_report(finished: Report, path: Path | None) -> None:
    """Write the report to `path`, all or nothing, and to the pod's termination message where there is one."""
    if path is not None:
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(json.dumps(finished, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            sys.stderr.write(f"feedline: the report cannot be written to {path} ({error.strerror})\n")
    log = Path(contract.TERMINATION_LOG)
    with contextlib.suppress(OSError):
        if log.is_file():  # the kubelet makes it
            log.write_bytes(report.termination_message(finished))


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
def signals(run: "Run") -> Iterator[None]:
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


@contextlib.contextmanager
def endpoint(run: "Run", port: int | None) -> Iterator[int | None]:
    """Serve `/metrics`, `/feed` and `/healthz` on `port`; 0 takes a free one, None serves nothing.

    Raises
    ------
    EnvironmentInvalidError
        The port is taken.
    """
    if port is None:
        yield None
        return
    try:
        server = _Server(("", port), _handler(run))
    except (OSError, OverflowError) as error:
        raise EnvironmentInvalidError(f"port {port}: cannot serve metrics there ({error})") from None
    thread = threading.Thread(target=server.serve_forever, name="feedline-metrics", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a scraper that hung up; a fault of ours is worth its traceback."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _handler(run: "Run") -> type[BaseHTTPRequestHandler]:
    def metrics(accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        return encode(run.metrics.registry), content_type

    def feed(accept: str) -> tuple[bytes, str]:
        del accept
        return json.dumps(report.summarize(run)).encode(), "application/json"

    def health(accept: str) -> tuple[bytes, str]:
        del accept
        return b"ok\n", "text/plain"

    pages: dict[str, Callable[[str], tuple[bytes, str]]] = {"/metrics": metrics, "/feed": feed, "/healthz": health}

    class Handler(BaseHTTPRequestHandler):
        timeout = 10
        server_version = "feedline"
        sys_version = ""

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404, "try /metrics, /feed or /healthz")
                return
            body, content_type = page(self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing: a scrape every few seconds is no news."""

    return Handler


def run_from_environment(make: "type[Run]") -> "Run":
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


def volumes_from_environment(document: "manifest.Manifest") -> dict[str, Path]:
    """Return where the volumes lie: as the environment says, else under `/data/NAME`."""
    given = json.loads(os.environ.get(contract.ENV_VOLUMES, "{}"))
    return {name: Path(given.get(name, f"{contract.DATA_DIR}/{name}")) for name in document.volumes}
