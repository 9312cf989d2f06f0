"""A sweep on one machine: its trials are processes, and their folders are all that is remembered of them.

DIR/sweep.yaml          what is swept
DIR/NAME-0.yaml         a trial, as `feedline run` takes it: it exists from here on
DIR/NAME-0.stop.json    that it is to end early, and why
DIR/NAME-0.log          what its process says
DIR/NAME-0/             what it leaves: history, report, checkpoints
"""

import contextlib
import functools
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from feedline.contract import FATAL_EXIT_CODES, ExitCode
from feedline.errors import DataError, FeedlineError, UsageError
from feedline.local.processes import Process, Starter
from feedline.manifest import (
    Loader,
    Manifest,
    ManifestError,
    Parameter,
    Sweep,
    parameters_of,
    parse,
    parse_sweep,
    read,
    read_sweep,
    to_yaml,
)
from feedline.sweeps import Decision, State, Trial, decide, flaw, suggest
from feedline.training import (
    Reported,
    is_finished,
    is_in_use,
    lock,
    make_fresh,
    remove_weights,
    report_in,
    run_of,
    write_text,
)

SWEEP: Final = "sweep.yaml"
_LOOK_SECONDS: Final = 0.5
_ATTEMPTS: Final = 3
"""The first one among them."""
Watch = Callable[[Sequence[Trial]], object]
Rows = Callable[[Manifest], int]


class LocalSweep:
    """A sweep in a folder.

    Parameters
    ----------
    folder
        Where it lies; `run` makes it.
    sweep
        What is swept.
    rows
        Returns the rows of an epoch of a trial.
    options
        What `feedline run` gets for each trial besides, such as where volumes lie.
    import_from
        A folder of modules of the trials.
    """

    def __init__(self, folder: Path, sweep: Sweep, rows: Rows, options: Sequence[str], import_from: Path) -> None:
        self.folder, self.sweep = folder.absolute(), sweep
        self._rows, self._options = rows, tuple(options)
        document = parse(sweep.pipeline_of(0, {}))
        self._grace = document.grace_seconds
        self._starter = Starter(document, import_from)
        self._processes: dict[int, Process] = {}
        self._stopped: dict[int, float] = {}  # when a process was told to end
        self._attempts: dict[int, int] = {}

    def trials(self) -> list[Trial]:
        """Return all trials that there are, as they are now."""
        return read_trials(self.folder, self.sweep, self._rows)

    def run(self, watch: Watch, *, resumes: bool) -> Decision:
        """Run trials until the sweep is done; return how it ended. Whatever ends this ends the trials, too.

        Parameters
        ----------
        watch
            Gets the trials at each look.
        resumes
            Whether to go on with the sweep that lies in the folder.

        Raises
        ------
        UsageError
            Something lies in the folder that is not to be gone on with, or another process runs this sweep.
        EnvironmentInvalidError
            What the algorithm takes is not installed.
        """
        suggest(self.sweep, 0, [])
        with self._claimed():
            write_down(self.folder, self.sweep, resumes=resumes)
            self._free_room()
            try:
                while True:
                    self._reap()
                    trials = self.trials()
                    watch(trials)
                    decision = decide(self.sweep, trials)
                    if decision.is_finished and (decision.failure or not self._processes):
                        return decision
                    for stop in decision.stop:
                        self._stop(stop.index, stop.message)
                    # What has begun goes on before others begin.
                    stopped = {stop.index for stop in decision.stop}
                    unfinished = [each.index for each in trials if each.state == State.RUNNING]
                    for index in (each for each in unfinished if each not in stopped and self._is_idle(each)):
                        if len(self._processes) < self.sweep.parallel:
                            self._start(index)
                    for index in decision.start:
                        if len(self._processes) < self.sweep.parallel and index not in self._processes:
                            self._begin(index, self.trials())
                    time.sleep(_LOOK_SECONDS)
            finally:
                self._end()

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = lock(self.folder)
        except BlockingIOError:
            raise UsageError(f"--output {self.folder}: another sweep is running there: wait for it") from None
        except OSError as error:
            raise UsageError(f"--output {self.folder}: cannot be made ({error.strerror}): name another place") from None
        try:
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _is_idle(self, index: int) -> bool:
        """Return whether nobody is at work on a trial; of a sweep that was killed one may be about to end."""
        return index not in self._processes and not is_in_use(self._file(index))

    def _begin(self, index: int, trials: Sequence[Trial]) -> None:
        """Write down a trial, which exists then, and start it; of one that was deleted nothing is left."""
        for ending in (".stop.json", ".log"):
            self._file(index, ending).unlink(missing_ok=True)
        if run_of(self._file(index)) is not None:
            try:
                make_fresh(self._file(index))
            except UsageError:
                return  # whoever trained it is about to end
        values = suggest(self.sweep, index, trials)
        if values is None:
            return
        pipeline = self.sweep.pipeline_of(index, values)
        write_text(self._file(index, ".yaml"), to_yaml(pipeline))
        self._attempts.pop(index, None)
        with contextlib.suppress(ManifestError):  # a combination that nobody checked: it has failed, and says why
            parse(pipeline)
            self._start(index)

    def _start(self, index: int) -> None:
        self._attempts[index] = self._attempts.get(index, 0) + 1
        output = self._file(index)
        arguments = [str(self._file(index, ".yaml")), "--output", str(output), *self._options]
        arguments += ["--resume"] if run_of(output) is not None else []
        self._processes[index] = self._starter.start(arguments, self._file(index, ".log"))

    def _reap(self) -> None:
        """Take note of processes that ended; one that could be cured by another attempt gets one."""
        for index, process in list(self._processes.items()):
            code = process.poll()
            if code is None:
                if time.monotonic() > self._stopped.get(index, math.inf) + self._grace:
                    process.send_signal(signal.SIGKILL)
                continue
            del self._processes[index]
            if was_stopped := self._stopped.pop(index, None) is not None:
                self._free(self._file(index))
            report = report_in(self._file(index)) or {}
            is_told = report.get("exitCode") == code
            if was_stopped or (is_told and (code == ExitCode.OK or code in FATAL_EXIT_CODES)):
                continue
            if code in FATAL_EXIT_CODES or self._attempts[index] >= _ATTEMPTS:
                self._note(index, State.FAILED, self._why(index, code, report if is_told else {}))

    def _why(self, index: int, code: int, report: Mapping[str, Any]) -> str:
        """Return why a trial failed."""
        if "message" in report:
            return str(report["message"])
        if code < 0:
            return f"its process was killed by {signal.Signals(-code).name}, {self._attempts[index]} times"
        with contextlib.suppress(OSError):
            log = self._file(index, ".log").read_text(errors="replace").strip()
            if code in FATAL_EXIT_CODES and log:
                return log.rpartition("\n")[2]
        return f"its process ended with {code}, {self._attempts[index]} times"

    def _stop(self, index: int, message: str) -> None:
        self._note(index, State.PRUNED, message)
        self._terminate(index)
        if index not in self._processes:
            self._free(self._file(index))

    def _note(self, index: int, state: State, message: str) -> None:
        """Write down what becomes of a trial that its own report does not say."""
        write_text(self._file(index, ".stop.json"), json.dumps({"state": state, "message": message}) + "\n")

    def _terminate(self, index: int) -> None:
        """Have a trial save itself and end, as a pod does."""
        process = self._processes.get(index)
        if process is not None and index not in self._stopped:
            process.send_signal(signal.SIGTERM)
            self._stopped[index] = time.monotonic()

    def _end(self) -> None:
        """End all trials; those that do not within their grace are killed, and so are all at a second Ctrl-C."""
        try:
            for index in self._processes:
                self._terminate(index)
            until = time.monotonic() + self._grace
            for process in self._processes.values():
                process.wait(max(0.0, until - time.monotonic()))
        finally:
            for process in self._processes.values():
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
            self._processes.clear()
            self._free_room()

    def _free_room(self) -> None:
        """Remove the weights of all trials that were ended early, whoever was there then."""
        for file in self.folder.glob(f"{self.sweep.name}-*.stop.json"):
            self._free(file.with_name(file.name.removesuffix(".stop.json")))

    @staticmethod
    def _free(output: Path) -> None:
        """Remove the weights of a trial if it was ended early, so that nobody goes on with it."""
        noted = _noted(output.with_name(f"{output.name}.stop.json"))
        if noted is not None and noted[0] == State.PRUNED and not is_finished(output) and not is_in_use(output):
            remove_weights(output)

    def _file(self, index: int, ending: str = "") -> Path:
        return self.folder / f"{self.sweep.name}-{index}{ending}"


def write_down(folder: Path, sweep: Sweep, *, resumes: bool) -> None:
    """Write in an empty folder what is swept, or see to it that the sweep that lies there is this one.

    Raises
    ------
    UsageError
        Something lies there, and is not to be gone on with, or is something else.
    """
    file = folder / SWEEP
    if not file.exists():
        if any(folder.iterdir()):
            raise UsageError(f"--output {folder}: is no sweep, and something lies there: name another folder")
        write_text(file, to_yaml(sweep.document))
        return
    if not resumes:
        raise UsageError(f"--output {folder}: there is a sweep: go on with it by --resume, or name another folder")
    there = sweep_in(folder)
    if _meaning(there.document) != _meaning(sweep.document):
        raise UsageError(
            f"--output {folder}: there is another sweep: what is swept, how and over which template cannot change; "
            "name another folder"
        )
    write_text(file, to_yaml(sweep.document))


def sweep_in(folder: Path) -> Sweep:
    """Return the sweep that lies in a folder, whose trials were checked when it was written down.

    Raises
    ------
    ManifestError
        It is none any more; the file is named.
    """
    file = folder / SWEEP
    with _named(file):
        return parse_sweep(read_sweep(file), is_accepted=True)


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """Name the file in what is wrong with what it says."""
    try:
        yield
    except ManifestError as error:
        told = [each if each.startswith(str(file)) else f"{file}: {each}" for each in error.problems]
        raise ManifestError(told) from None


def _meaning(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the trials of a sweep mean: all but how many, how fast, and when it ends besides."""
    left_out = ("trials", "parallel", "maxFailed", "onFinish", "suspend", "stop", "ttlSecondsAfterFinished")
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
    modified, output = file.stat().st_mtime_ns, file.with_suffix("")
    parameters = _parameters(file, modified, sweep)
    try:
        document = _manifest(file, modified)
    except ManifestError as error:
        return Trial(index, parameters, State.FAILED, message="; ".join(error.problems))
    try:
        epoch = rows(document)
    except FeedlineError:
        epoch = 0  # the trial itself will say so
    curve = _curve(output, sweep.objective.value, epoch, document.loader)
    state, message = _state(file, output, sweep, curve)
    return Trial(index, parameters, state, curve, epoch, message)


@functools.cache
def _document(file: Path, modified_ns: int) -> dict[str, Any]:
    """Return what a trial is as it was written down; it is read once."""
    del modified_ns
    with _named(file):
        return read(file)


@functools.cache
def _manifest(file: Path, modified_ns: int) -> Manifest:
    """Return what a trial is; it is checked once."""
    return parse(_document(file, modified_ns))


def _parameters(file: Path, modified_ns: int, sweep: Sweep) -> dict[str, Parameter]:
    found = parameters_of(_document(file, modified_ns))
    if set(found) != {each.name for each in sweep.parameters}:
        raise DataError(f"{file}: is no trial of this sweep: it does not say its parameters")
    return found


def _state(file: Path, output: Path, sweep: Sweep, curve: Sequence[tuple[int, float]]) -> tuple[State, str]:
    report = report_in(output) or {}
    code = report.get("exitCode")
    # Or it came to its end before it could be stopped.
    if code != ExitCode.OK and (noted := _noted(file.with_suffix(".stop.json"))) is not None:
        return noted
    if code in tuple(FATAL_EXIT_CODES):
        return State.FAILED, str(report.get("message", ""))
    if code != ExitCode.OK:
        return State.RUNNING, ""
    why = flaw(sweep.objective.value, curve, report.get("values", {}))
    return (State.FAILED, why) if why else (State.COMPLETE, "")


def _noted(file: Path) -> tuple[State, str] | None:
    """Return what was noted of a trial: that it was ended early or has failed, and why."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        noted = json.loads(file.read_bytes())
        return State(noted["state"]), str(noted["message"])
    return None


def _curve(output: Path, value: str, rows: int, loader: Loader) -> tuple[tuple[int, float], ...]:
    """Return the rows trained on and the value, of each line of a history that has it.

    An epoch counts as all of its rows, also where some do not fill a batch: so trials of other batch sizes have come as
    far at its end. Where nobody says how many they are, each step counts as a batch.
    """
    rest = rows % loader.batch_size
    steps = rows // loader.batch_size + (1 if rest and loader.last_batch == "keep" else 0)
    of_step = Fraction(rows, steps) if steps else Fraction(loader.batch_size)
    return _reported(output, value).curve(of_step)


@functools.cache
def _reported(output: Path, value: str) -> Reported:
    return Reported(output, value)
