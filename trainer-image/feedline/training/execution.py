"""A whole run in this process, or of a program in a child: errors of every kind become exit codes, and a report."""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from feedline import contract
from feedline.contract import ExitCode, Report
from feedline.errors import EnvironmentInvalidError, FeedlineError, UserFunctionError
from feedline.manifest import Manifest
from feedline.training.endpoint import endpoint
from feedline.training.outcome import failure_report, finished_report, outcome, write_report
from feedline.training.process import signals
from feedline.training.run import Run

Function = Callable[[Run], object]
OnStart = Callable[[Run], object]


class StoppedEarly(KeyboardInterrupt):
    """SIGTERM while the framework is imported, before the run has taken signals over."""


def execute(
    document: Manifest,
    volumes: Mapping[str, Path],
    *,
    import_from: tuple[Path, ...] = (),
    report_path: Path | None = None,
    port: int | None = None,
    on_start: OnStart = lambda _: None,
) -> Report:
    """Run a pipeline in this process, or its own program in a child, and return the report, whatever happens.

    Parameters
    ----------
    document, volumes
        What to run, and the folder of every volume.
    import_from
        Folders put on the import path for the training function.
    report_path
        Where the report is written, too.
    port
        For the metrics endpoint; 0 takes a free one, None serves none.
    on_start
        Called with the run before the training function.
    """
    try:
        if document.train.command:
            finished = _run_program(document, volumes, import_from, port)
        else:
            finished = _run_function(document, volumes, import_from, port, on_start)
    except FeedlineError as error:
        finished = failure_report(document, error.exit_code, str(error))
    except StoppedEarly:
        finished = failure_report(document, ExitCode.TERMINATED, "stopped before the first batch")
    except KeyboardInterrupt:
        finished = failure_report(document, ExitCode.INTERRUPTED, "interrupted before the first batch")
    write_report(finished, report_path)
    return finished


def _run_function(
    document: Manifest, volumes: Mapping[str, Path], import_from: tuple[Path, ...], port: int | None, on_start: OnStart
) -> Report:
    sys.path[:0] = [str(folder) for folder in import_from if str(folder) not in sys.path]
    run = Run(document, volumes)
    error: BaseException | None = None
    try:
        function = _entrypoint(document.train.entrypoint or "")
        with endpoint(run, port), signals(run):
            on_start(run)
            try:
                function(run)
            except SystemExit as exit_request:
                if exit_request.code not in (None, 0):
                    error = UserFunctionError(f"the training function called sys.exit({exit_request.code!r})")
            except BaseException as raised:  # noqa: BLE001 - whatever a user's function raises ends in the report
                error = raised
                _show(raised)
    finally:
        run.close()
    return finished_report(run, *outcome(run, error))


def _show(error: BaseException) -> None:
    """Print the traceback of the user's own function, from their frame on; our own errors speak for themselves."""
    if isinstance(error, Exception) and not isinstance(error, FeedlineError):
        trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
        traceback.print_exception(error.with_traceback(trace))


def _entrypoint(name: str) -> Function:
    """Import ``module:function``.

    Raises
    ------
    EnvironmentInvalidError
        The module or the function is not there.
    UserFunctionError
        The module raised while it was imported.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise EnvironmentInvalidError(
            f"spec.train.entrypoint: {name} cannot be imported: there is no module {error.name} on the import path"
        ) from None
    except (Exception, SystemExit) as error:
        _show(error)
        raise UserFunctionError(f"spec.train.entrypoint: importing {module_name} raised {error!r}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise EnvironmentInvalidError(f"spec.train.entrypoint: {module_name} has no function {function_name}")
    checked: Function = function
    return checked


def _run_program(
    document: Manifest, volumes: Mapping[str, Path], import_from: tuple[Path, ...], port: int | None
) -> Report:
    """Run `spec.train.command`; the program takes its run from the environment and writes its own report."""
    spec = document.document["spec"]
    pod_fields = {name: spec[name] for name in ("backend", "data", "loader", "train")}
    with tempfile.TemporaryDirectory(prefix="feedline-") as folder:
        manifest_path, child_report = Path(folder, "manifest.json"), Path(folder, "report.json")
        manifest_path.write_text(json.dumps(pod_fields))
        environment = {
            **os.environ,
            contract.ENV_MANIFEST: str(manifest_path),
            contract.ENV_PIPELINE: document.name,
            contract.ENV_VOLUMES: json.dumps({name: str(Path(path).absolute()) for name, path in volumes.items()}),
            contract.ENV_REPORT: str(child_report),
            contract.ENV_PORT: "" if port is None else str(port),
            # For `python -m my_loop`, from whichever folder.
            "PYTHONPATH": os.pathsep.join(filter(None, [*map(str, import_from), os.environ.get("PYTHONPATH", "")])),
        }
        code = _wait_for(list(document.train.command), environment)
        if child_report.exists():
            finished: Report = json.loads(child_report.read_text())
            # The program's own code counts where it says more than "some exception".
            is_told = finished["exitCode"] != 0 or code == 0
            return finished if is_told else {**finished, **_program_failed(document, code)}
        if code == 0:
            message = "the program made no run: call feedline.Run.from_environment() and iterate run.train"
            return failure_report(document, ExitCode.USER_ERROR, message)
        return _program_failed(document, code)


def _program_failed(document: Manifest, code: int) -> Report:
    command = " ".join(document.train.command)
    # A signal is no fault of the program, such as 137 where memory ran out: its code is handed on.
    told = code if code in list(ExitCode) or code > 128 else ExitCode.USER_ERROR
    return failure_report(document, told, f"`{command}` ended with exit code {code}")


def _wait_for(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a program, hand signals on to it, and return its exit code, 128 + n for a signal n."""
    try:
        child = subprocess.Popen(command, env=dict(environment))  # noqa: S603 - it is the user's own command
    except OSError as error:
        raise EnvironmentInvalidError(f"spec.train.command: {command[0]} cannot be run ({error.strerror})") from None
    # A terminal sends Ctrl-C to the child as well; SIGTERM comes to this process alone.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
    }
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
