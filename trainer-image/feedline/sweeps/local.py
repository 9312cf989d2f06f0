"""A sweep on one machine: its trials are processes, and their folders are all that is remembered of them.

DIR/sweep.yaml          what is swept
DIR/NAME-0.yaml         a trial, as `feedline run` takes it: it exists from here on
DIR/NAME-0.stop.json    that it is to end early, and why
DIR/NAME-0.log          what its process says
DIR/NAME-0/             what it leaves: history, report, checkpoints
"""

import contextlib
import csv
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from feedline.contract import FATAL_EXIT_CODES, ExitCode
from feedline.errors import DataError, FeedlineError, UsageError
from feedline.manifest import Manifest, Parameter, Sweep, parameters_of, parse, parse_sweep, read, read_sweep, to_yaml
from feedline.sweeps.decide import Decision, decide
from feedline.sweeps.suggest import suggest
from feedline.sweeps.trials import State, Trial
from feedline.training import HISTORY, is_in_use, report_in, run_of, write_text

SWEEP: Final = "sweep.yaml"
_LOOK_SECONDS: Final = 0.5
_ATTEMPTS: Final = 3
# A trial is not to train on when the sweep is gone, whatever has ended it: it saves itself, as a pod does.
_PROGRAM: Final = """
import signal
from feedline.ranks import end_with_parent
end_with_parent(signal.SIGTERM)
from feedline.cli import main
main()
"""

Watch = Callable[[Sequence[Trial]], object]
Rows = Callable[[Manifest], int]


class LocalSweep:
    """A sweep in a folder.

    Parameters
    ----------
    folder
        Where it lies; `begin` makes it.
    sweep
        What is swept.
    rows
        Returns the rows of an epoch of a trial.
    options
        What `feedline run` gets for each trial besides, such as where volumes lie.
    import_from
        Folders put on the import path of trials.
    """

    def __init__(
        self, folder: Path, sweep: Sweep, rows: Rows, options: Sequence[str] = (), import_from: Sequence[Path] = ()
    ) -> None:
        self.folder, self.sweep = folder.absolute(), sweep
        self._rows, self._options, self._import_from = rows, tuple(options), tuple(import_from)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._attempts: dict[int, int] = {}

    def trials(self) -> list[Trial]:
        """Return all trials that there are, as they are now."""
        return read_trials(self.folder, self.sweep, self._rows)

    def run(self, watch: Watch) -> Decision:
        """Run trials until the sweep is done; return how it ended. Whatever ends this ends the trials, too.

        Raises
        ------
        UsageError
            Another process runs this sweep.
        """
        with self._claimed():
            try:
                while True:
                    self._reap()
                    trials = self.trials()
                    watch(trials)
                    decision = decide(self.sweep, trials)
                    for stop in decision.stop:
                        self._stop(stop.index, stop.message)
                    for index in decision.start:
                        self._begin(index, self.trials())
                    self._go_on(decision)
                    if decision.is_finished and not self._processes:
                        watch(self.trials())
                        return decision
                    time.sleep(_LOOK_SECONDS)
            finally:
                self._end()

    @contextlib.contextmanager
    def _claimed(self) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"--output {self.folder}: another sweep is running there: wait for it") from None
        else:
            yield
        finally:
            os.close(descriptor)

    def _begin(self, index: int, trials: Sequence[Trial]) -> None:
        """Write down a trial, which exists then, and start it."""
        values = suggest(self.sweep, index, trials)
        write_text(self._file(index, ".yaml"), to_yaml(self.sweep.trial(index, values)))
        self._start(index)

    def _go_on(self, decision: Decision) -> None:
        """Start the trials that run no more and have not come to an end, such as those of a sweep that is resumed."""
        if decision.failure:
            return
        for trial in self.trials():
            is_idle = trial.state == State.RUNNING and trial.index not in self._processes
            # Of a sweep that was killed a trial may be about to end.
            if is_idle and not is_in_use(self._file(trial.index)):
                self._start(trial.index)

    def _start(self, index: int) -> None:
        self._attempts[index] = self._attempts.get(index, 0) + 1
        output = self._file(index)
        command = [sys.executable, "-c", _PROGRAM, "run", str(self._file(index, ".yaml")), "--output", str(output)]
        command += [*self._options, *(["--resume"] if run_of(output) is not None else [])]
        paths = [*map(str, self._import_from), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with self._file(index, ".log").open("ab") as log:
            self._processes[index] = subprocess.Popen(  # noqa: S603 - our own program
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is this process's: it ends the trials in its own way
            )

    def _reap(self) -> None:
        """Take note of processes that ended; one that could be cured by another attempt gets one."""
        for index, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self._processes[index]
            report = report_in(self._file(index))
            is_told = report is not None and report.get("exitCode") == code
            is_final = code == ExitCode.OK or code in FATAL_EXIT_CODES
            if is_final and is_told:
                continue
            if not is_final and self._attempts[index] < _ATTEMPTS and not self._file(index, ".stop.json").exists():
                continue
            self._fail(index, code, report)

    def _fail(self, index: int, code: int, report: Mapping[str, Any] | None) -> None:
        """Write down that a trial failed of which its own report does not say so."""
        if self._file(index, ".stop.json").exists():
            return
        said = (report or {}).get("message") or f"its process ended with {code}"
        log = self._file(index, ".log")
        last = log.read_text(errors="replace").strip().rpartition("\n")[2] if report is None and log.exists() else ""
        message = f"{last or said} (see {log.name})"
        write_text(self._file(index, ".stop.json"), json.dumps({"state": State.FAILED, "message": message}) + "\n")

    def _stop(self, index: int, message: str) -> None:
        write_text(self._file(index, ".stop.json"), json.dumps({"state": State.PRUNED, "message": message}) + "\n")
        process = self._processes.get(index)
        if process is not None:
            process.send_signal(signal.SIGTERM)

    def _end(self) -> None:
        """End all trials, as a pod is ended: they save themselves."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    def _file(self, index: int, ending: str = "") -> Path:
        return self.folder / f"{self.sweep.name}-{index}{ending}"


def begin(folder: Path, sweep: Sweep, *, resumes: bool) -> None:
    """Make a sweep's folder, or see to it that the one that lies there is this one.

    Raises
    ------
    UsageError
        Something lies there, and is not to be gone on with, or is something else.
    """
    file = folder / SWEEP
    if not file.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"--output {folder}: is no sweep, and something lies there: name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, to_yaml(sweep.document))
        return
    if not resumes:
        raise UsageError(f"--output {folder}: there is a sweep: go on with it by --resume, or name another folder")
    there = parse_sweep(read_sweep(file))
    if _meaning(there.document) != _meaning(sweep.document):
        raise UsageError(
            f"--output {folder}: there is another sweep: what is swept, how and over which template cannot change; "
            "name another folder"
        )
    write_text(file, to_yaml(sweep.document))


def _meaning(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the trials of a sweep mean: all but how many, how fast, and how many of them may fail."""
    left_out = ("trials", "parallel", "maxFailed")
    return {
        "name": document["metadata"]["name"],
        **{field: value for field, value in document["spec"].items() if field not in left_out},
    }


def read_trials(folder: Path, sweep: Sweep, rows: Rows) -> list[Trial]:
    """Return the trials that lie in a sweep's folder."""
    found = []
    for file in folder.glob(f"{sweep.name}-*.yaml"):
        number = file.stem.removeprefix(f"{sweep.name}-")
        if number.isdecimal():
            found.append(_trial(file, int(number), sweep, rows))
    return sorted(found, key=lambda each: each.index)


def _trial(file: Path, index: int, sweep: Sweep, rows: Rows) -> Trial:
    document = _manifest(file, file.stat().st_mtime_ns)
    output = file.with_suffix("")
    curve = _curve(output / HISTORY, sweep.objective.value, document.loader.batch_size)
    state, message = _state(file, output, sweep, curve)
    try:
        epoch = rows(document)
    except FeedlineError:
        epoch = 0  # the trial itself will say so
    return Trial(index, _parameters(file, document, sweep), state, curve, epoch, message)


@functools.cache
def _manifest(file: Path, modified_ns: int) -> Manifest:
    """Return what a trial is; it is checked once."""
    del modified_ns
    return parse(read(file))


def _parameters(file: Path, document: Manifest, sweep: Sweep) -> dict[str, Parameter]:
    found = parameters_of(document)
    if set(found) != {each.name for each in sweep.parameters}:
        raise DataError(f"{file}: is no trial of this sweep: it does not say its parameters")
    return found


def _state(file: Path, output: Path, sweep: Sweep, curve: Sequence[tuple[int, float]]) -> tuple[State, str]:
    report = report_in(output) or {}
    code = report.get("exitCode")
    if code != ExitCode.OK:  # or it came to its end before it could be stopped
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            stopped = json.loads(file.with_suffix(".stop.json").read_bytes())
            return State(stopped["state"]), str(stopped["message"])
    if code in FATAL_EXIT_CODES:
        return State.FAILED, str(report.get("message", ""))
    if code != ExitCode.OK:
        return State.RUNNING, ""
    if not Trial(0, {}, State.COMPLETE, tuple(curve)).values:
        told = ", ".join(sorted(report.get("values", {}))) or "nothing"
        return State.FAILED, f"{sweep.objective.value} was never reported as a number; reported was {told}"
    return State.COMPLETE, ""


def _curve(file: Path, value: str, batch_size: int) -> tuple[tuple[int, float], ...]:
    """Return the rows trained on and the value, of each line of a history that has it."""
    found: list[tuple[int, float]] = []
    with contextlib.suppress(OSError, ValueError), file.open(newline="", encoding="utf-8") as lines:
        found.extend(
            (int(line["step"]) * batch_size, float(line[value])) for line in csv.DictReader(lines) if line.get(value)
        )
    return tuple(found)
