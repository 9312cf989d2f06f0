"""`spec.stop`: the training ends early, and well: its Job goes; the pipeline is Stopped once its pods have ended."""

from feedline.contract import ExitCode
from feedline_operator.reconcile.outcome import RUNNING, STOPPED, Outcome, active
from feedline_operator.reconcile.view import View

_WELL = frozenset({ExitCode.OK, ExitCode.TERMINATED})


def stopped(view: View) -> Outcome | None:
    """Return how a pipeline stands that was asked to stop; None for one that was not."""
    if (stop := view.spec.get("stop")) is None:
        return None
    if view.own_job is not None:
        return active(RUNNING, "Stopping, by spec.stop: the training saves itself and ends.")
    why = stop.get("message")
    last = view.attempts[0] if view.attempts else {}
    said = f"; its last attempt ended {last['reason']}: {last.get('message', '')}" if _failed(last) else ""
    return Outcome("True", STOPPED, (f"Stopped by spec.stop: {why}" if why else "Stopped by spec.stop.") + said)


def _failed(attempt: dict[str, object]) -> bool:
    return "exitCode" in attempt and attempt["exitCode"] not in _WELL
