"""A whole run in this process, or of a program in a child: errors of every kind become exit codes, and a report."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from feedline import contract
from feedline.contract import ExitCode, Report
from feedline.errors import EnvironmentInvalidError, FeedlineError, UsageError, UserFunctionError, told
from feedline.limits import thread_variables
from feedline.manifest import Manifest, pod_part
from feedline.ranks import Place, Site
from feedline.training import backends
from feedline.training.endpoint import endpoint
from feedline.training.gang import Progress, run_ranks
from feedline.training.lost import by_signal
from feedline.training.outcome import failure_report, finished_report, outcome, write_report
from feedline.training.output import Output, run_of
from feedline.training.peers import require_ranks
from feedline.training.process import StoppedEarly, forget_children, handled, no_longer_stopped, signals
from feedline.training.ranks_folder import RanksFolder
from feedline.training.run import Run
from feedline.training.transforms import imported, show
from feedline.training.whole import write_text

Function = Callable[[Run], object]
OnStart = Callable[[Progress], object]
_ALONE: Final = Site()


def execute(
    document: Manifest,
    volumes: Mapping[str, Path],
    *,
    import_from: tuple[Path, ...] = (),
    report_path: Path | None = None,
    port: int | None = None,
    on_start: OnStart = lambda _: None,
    output: Output | None = None,
    processes: int = 1,
    site: Site = _ALONE,
    is_json: bool = False,
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
        Called before the training function, with what returns how the run does.
    output
        Where it leaves what it makes, the report among it; None: nowhere.
    processes, site, is_json
        How many processes of this machine train together, with which other machines, and whether they log as JSON.
    """
    with contextlib.ExitStack() as until_told:
        # Before a framework, the user's modules or their program are loaded, and with them what counts CPUs.
        os.environ.update(thread_variables(os.environ))
        are_started = False
        try:
            _require_file(report_path)
            if processes * site.nodes > 1:
                backends.require_backend(document.backend)
                require_ranks(document, processes * site.nodes)
                are_started = True
                finished = run_ranks(
                    document,
                    volumes,
                    processes,
                    site=site,
                    import_from=import_from,
                    port=port,
                    on_start=on_start,
                    output=output,
                    is_json=is_json,
                )
            elif document.train.command:
                finished = _run_program(document, volumes, import_from, port, output)
            else:
                finished = _run_function(document, volumes, import_from, port, on_start, output, until_told)
        except FeedlineError as error:
            finished = failure_report(document, error.exit_code, str(error))
        except Exception as error:  # noqa: BLE001 - nothing that goes wrong before a loop runs may leave no report
            ours = told(error)
            if ours is None:
                traceback.print_exception(error)
                message = f"this is a fault of feedline and not yours, please report it: {error!r}"
                finished = failure_report(document, ExitCode.TEMPORARY, message)
            else:
                finished = failure_report(document, ours.exit_code, str(ours))
        except StoppedEarly:
            finished = failure_report(document, ExitCode.TERMINATED, "stopped before the first batch")
        except KeyboardInterrupt:
            finished = failure_report(document, ExitCode.INTERRUPTED, "interrupted before the first batch")
        if output is not None:
            output.close()
            # A program of one's own begins it in its own process.
            is_program = bool(document.train.command) and finished["exitCode"] != ExitCode.USAGE
            is_of_ranks = are_started and run_of(output.folder) == output.run
            if output.is_begun or is_of_ranks or (is_program and output.folder.is_dir()):
                write_report(finished, output.report)
        write_report(finished, report_path)
        return finished


def _require_file(report_path: Path | None) -> None:
    """Refuse a report that could not be written at the end."""
    if report_path is not None and (report_path.is_dir() or not report_path.name):
        raise UsageError(f"the report cannot be written to {report_path}, which is a folder: name a file")


def _run_function(
    document: Manifest,
    volumes: Mapping[str, Path],
    import_from: tuple[Path, ...],
    port: int | None,
    on_start: OnStart,
    output: Output | None,
    until_told: contextlib.ExitStack,
) -> Report:
    sys.path[:0] = [str(folder) for folder in import_from if str(folder) not in sys.path]
    if output is not None and Place.of(os.environ).is_chief:
        output.begin(document)
    run = Run(document, volumes, output)
    try:
        function = imported(document.train.entrypoint or "", "spec.train.entrypoint")
        until_told.enter_context(signals(run))
        with endpoint(run, port) as served:
            folder = RanksFolder.of_environment()
            if folder is not None and served is not None and run.is_chief:
                write_text(folder.port, str(served))
            on_start(run.summary)
            error = _raised_by(function, run)
            if error is None or run.peers is None or run.peers.is_to_tell(error):
                show(error)
            ended = run.ended(error)
            until_told.enter_context(no_longer_stopped(run))
            if ended is not error:
                show(ended)
    finally:
        run.close()
    return finished_report(run, *outcome(run, ended))


def _raised_by(function: Function, run: Run) -> BaseException | None:
    """Return what a user's function raises: whatever it is, it ends in the report."""
    try:
        return _first_raised_by(function, run)
    except BaseException as another:  # noqa: BLE001 - for a second child's death, while the first error was handled
        return another.__context__ or another


def _first_raised_by(function: Function, run: Run) -> BaseException | None:
    try:
        function(run)
    except SystemExit as exit_request:
        if exit_request.code not in (None, 0):
            return UserFunctionError(f"the training function called sys.exit({exit_request.code!r})")
    except BaseException as raised:  # noqa: BLE001
        return raised
    finally:
        forget_children()
    return None


def _run_program(
    document: Manifest,
    volumes: Mapping[str, Path],
    import_from: tuple[Path, ...],
    port: int | None,
    output: Output | None,
) -> Report:
    """Run `spec.train.command`; the program takes its run from the environment and writes its own report."""
    with tempfile.TemporaryDirectory(prefix="feedline-") as folder:
        manifest_path, child_report = Path(folder, "manifest.json"), Path(folder, "report.json")
        manifest_path.write_text(json.dumps(pod_part(document.document["spec"])))
        environment = {
            **os.environ,
            contract.ENV_MANIFEST: str(manifest_path),
            contract.ENV_PIPELINE: document.name,
            contract.ENV_VOLUMES: json.dumps({name: str(Path(path).absolute()) for name, path in volumes.items()}),
            contract.ENV_REPORT: str(child_report),
            contract.ENV_PORT: "" if port is None else str(port),
            **_told(output),
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


def _told(output: Output | None) -> dict[str, str]:
    """Return the variables by which a program learns where its output is."""
    if output is None:
        return {contract.ENV_OUTPUT: ""}
    return {contract.ENV_OUTPUT: str(output.folder) if output.is_kept else "", contract.ENV_RUN: output.run}


def _program_failed(document: Manifest, code: int) -> Report:
    command = " ".join(document.train.command)
    # A signal is no fault of the program, such as 137 where memory ran out: its code is handed on.
    told = code if code in list(ExitCode) or code > 128 else ExitCode.USER_ERROR
    why = by_signal(code - 128)
    return failure_report(document, told, f"`{command}` ended with exit code {code}" + (f": {why}" if why else ""))


def _wait_for(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a program, hand signals on to it, and return its exit code, 128 + n for a signal n."""
    try:
        child = subprocess.Popen(command, env=dict(environment))  # noqa: S603 - it is the user's own command
    except OSError as error:
        raise EnvironmentInvalidError(f"spec.train.command: {command[0]} cannot be run ({error.strerror})") from None
    # A terminal sends Ctrl-C to the child as well; SIGTERM comes to this process alone.
    with handled({signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: lambda *_: child.terminate()}):
        while (code := _ended(child)) is None:
            pass
    return code if code >= 0 else 128 - code


def _ended(child: "subprocess.Popen[bytes]") -> int | None:
    # Not for ever: a signal that comes just before the wait begins wakes nobody, and would be handed on too late.
    try:
        return child.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return None
