"""How a run ended: its exit code, its message and its report, which is written whatever happens."""

import contextlib
import json
import sys
import traceback
from pathlib import Path

from feedline import contract
from feedline.contract import REASONS, ExitCode, Report
from feedline.errors import FeedlineError, StopTraining
from feedline.manifest import Manifest
from feedline.training import report
from feedline.training.loop import Loop
from feedline.training.lost import lost_process
from feedline.training.whole import write_text


def outcome(run: Loop, error: BaseException | None) -> tuple[int, str]:
    """Return the exit code, 128 + n for a signal n, and the message for how a training function ended."""
    train = run.train
    if error is None and train.steps == 0:
        return ExitCode.USER_ERROR, "the training function never took a batch: iterate run.train within run.epochs()"
    match error:
        case None:
            goal = f"of {run.target_steps} steps" if run.target_steps else "steps, before its time was over"
            told = "completed" if run.limit_reached(train) else f"stopped after {train.steps} {goal}"
            return ExitCode.OK, told + _unnamed(run)
        case StopTraining():
            word = "interrupted" if error.exit_code == ExitCode.INTERRUPTED else "terminated"
            return error.exit_code, f"{word} after {train.steps} of {run.target_steps or 'unlimited'} steps"
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED, f"interrupted after {train.steps} steps"
        case FeedlineError():
            return error.exit_code, _from_worker(str(error)).removeprefix(f"feedline.errors.{type(error).__name__}: ")
        case _:
            said = _from_worker("".join(traceback.format_exception_only(error)))
            return lost_process(error) or (ExitCode.USER_ERROR, said)


def _unnamed(run: Loop) -> str:
    """Say that the objective was not among what was reported; "" where it was."""
    if run.aim is None or run.aim.newest is not None:
        return ""
    named = f"run.report named {', '.join(run.values)}" if run.values else "run.report was never called"
    return f"; spec.objective: {run.aim.objective.value} was never reported ({named})"


def _from_worker(text: str) -> str:
    """Return the last line of the traceback that torch makes the message of a worker's error; other text as it is."""
    return text.strip().rpartition("\n")[2] if "\nOriginal Traceback" in text else text.strip()


def finished_report(run: Loop, exit_code: int, message: str) -> Report:
    """Return the report of a run that ended."""
    run.metrics.state = "done" if exit_code == ExitCode.OK else "failed"
    return {**run.summary(), **failure_report(run.manifest, exit_code, message)}


def failure_report(document: Manifest, exit_code: int, message: str) -> Report:
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
        try:
            write_text(path, json.dumps(finished, indent=2, ensure_ascii=False) + "\n")
        except (OSError, ValueError) as error:
            sys.stderr.write(f"feedline: the report cannot be written to {path} ({error})\n")
    log = Path(contract.TERMINATION_LOG)
    with contextlib.suppress(OSError):
        if log.is_file():  # the kubelet makes it
            log.write_bytes(report.termination_message(finished))
