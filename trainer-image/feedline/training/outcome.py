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


def outcome(run: Loop, error: BaseException | None) -> tuple[ExitCode, str]:
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


def finished_report(run: Loop, exit_code: ExitCode, message: str) -> Report:
    """Return the report of a run that ended."""
    run.metrics.state = "done" if exit_code == ExitCode.OK else "failed"
    return {**report.summarize(run.snapshot()), **failure_report(run.manifest, exit_code, message)}


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
