"""Whether a run could go on from what it has saved, as a condition: how old that is, what keeps it from being newer."""

import math
from datetime import datetime
from typing import Final

from feedline_operator.reconcile import times
from feedline_operator.reconcile.observed import Object

_STALE_AFTER: Final = 3
"""Intervals without a checkpoint."""
_GRACE_SECONDS: Final = 30  # Kubernetes' own
_GRACE_STEP_SECONDS: Final = 30


def checkpoints_healthy(  # noqa: PLR0911 - one for each reason
    spec: Object, report: Object | None, running_since: datetime | None, now: datetime
) -> tuple[str, str, str]:
    """Return status, reason and message of the condition CheckpointsHealthy.

    Parameters
    ----------
    spec
        The pipeline's.
    report
        The newest numbers of the newest attempt, None if there are none.
    running_since
        Since when its container runs; None where none does.
    """
    if "output" not in spec:
        return "Unknown", "NoOutput", "spec.output is not set: what the run makes is gone with its pod."
    if report is None:
        return "Unknown", "NoNumbers", "The trainer has not been asked for its feed yet, or cannot be reached."
    saved = report.get("checkpoint")
    if saved is None:
        return "Unknown", "NotUsed", "The training saves nothing to go on from: its function calls no run.checkpoint."
    if "error" in saved:
        return (
            "False",
            "Failing",
            f"Since {saved.get('failingSince', '?')} no checkpoint can be written: {saved['error']}",
        )
    if (seconds := _needed_seconds(saved, report)) > (grace := _grace(spec)):
        enough = math.ceil(seconds * 1.25 / _GRACE_STEP_SECONDS) * _GRACE_STEP_SECONDS
        told = f"A step and a save take {seconds:.0f} s, the grace is {grace} s: set pod.terminationGracePeriodSeconds"
        return "False", "GraceTooShort", f"{told}: {enough}, or what was trained since the last checkpoint is lost."
    every, last = saved.get("everySeconds", 0), times.parse(saved.get("time"))
    if every and running_since is not None:
        since = max(running_since, last) if last is not None else running_since
        if (now - since).total_seconds() > _STALE_AFTER * every:
            what = f"since {times.write(since)}" if last is None else f"since the one of {saved['time']}"
            return "False", "Stale", f"No checkpoint was written {what}, and one is due every {every} s."
    if last is None:
        return "True", "NothingDue", "No checkpoint was due yet."
    return "True", "Saved", f"The newest checkpoint is that of step {saved.get('step', 0)}."


def _needed_seconds(saved: Object, report: Object) -> float:
    """Return how long a pod takes to end well: the rest of a step, and a save."""
    save = saved.get("milliseconds", 0) / 1e3
    return float(save + report.get("stepMicros", {}).get("p99", 0) / 1e6 if save else 0.0)


def _grace(spec: Object) -> int:
    return int(spec.get("pod", {}).get("terminationGracePeriodSeconds", _GRACE_SECONDS))
