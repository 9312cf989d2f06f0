"""Events to tell: one when a pipeline turns to a state that a person wants to hear of, none for the ordinary steps.

A pipeline that just runs through tells of its end alone; every step on the way is in its conditions.
"""

from typing import Final

from feedline_operator.reconcile.conditions import CHECKPOINTS_HEALTHY, INPUT_BOUND, SUCCEEDED
from feedline_operator.reconcile.observed import Object, condition
from feedline_operator.reconcile.outcome import IMAGE_PULL_FAILED, RETRYING, SUSPENDED
from feedline_operator.reconcile.plan import Transition

_TOLD: Final = {SUSPENDED: "Normal", RETRYING: "Warning", IMAGE_PULL_FAILED: "Warning"}
_MAX_MESSAGE: Final = 1024


def transitions(previous: Object, status: Object) -> tuple[Transition, ...]:
    """Return the Events about the turn from one status to the next."""
    was, now = ({"status": part} for part in (previous, status))
    told = []
    before, after = condition(was, SUCCEEDED), condition(now, SUCCEEDED)
    if after is not None and (before is None or before["reason"] != after["reason"]):
        kind = {"True": "Normal", "False": "Warning"}.get(after["status"]) or _TOLD.get(after["reason"])
        if kind is not None:
            told.append(Transition(kind, after["reason"], after["message"][:_MAX_MESSAGE]))
    if (bound := condition(now, INPUT_BOUND)) is not None and bound["status"] == "True":
        before = condition(was, INPUT_BOUND)
        if before is None or before["status"] != "True":
            told.append(Transition("Warning", INPUT_BOUND, bound["message"][:_MAX_MESSAGE]))
    if (saving := condition(now, CHECKPOINTS_HEALTHY)) is not None and saving["status"] == "False":
        before = condition(was, CHECKPOINTS_HEALTHY)
        if before is None or before["status"] != "False":
            told.append(Transition("Warning", f"Checkpoints{saving['reason']}", saving["message"][:_MAX_MESSAGE]))
    return tuple(told)
