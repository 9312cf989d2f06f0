"""The list of conditions: always all of them, in the same order, each with the time of its last turn."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from feedline_operator.reconcile import times
from feedline_operator.reconcile.observed import Object, condition

SUCCEEDED: Final = "Succeeded"
ACCEPTED: Final = "Accepted"
PODS_READY: Final = "PodsReady"
INPUT_BOUND: Final = "InputBound"
CHECKPOINTS_HEALTHY: Final = "CheckpointsHealthy"
SUSPENDED: Final = "Suspended"
ORDER: Final = (SUCCEEDED, ACCEPTED, PODS_READY, INPUT_BOUND, CHECKPOINTS_HEALTHY, SUSPENDED)
_MAX_MESSAGE: Final = 4096


def is_over(pipeline: Object) -> bool:
    """Return whether a pipeline has ended, well or not, as its status was written last."""
    found = condition(pipeline, SUCCEEDED)
    return found is not None and found["status"] != "Unknown"


def conditions(pipeline: Object, values: Mapping[str, tuple[str, str, str]], now: datetime) -> list[dict[str, Any]]:
    """Return the conditions with these (status, reason, message), one for each of `ORDER`."""
    return [turned(pipeline, kind, values[kind], now) for kind in ORDER]


def turned(thing: Object, kind: str, value: tuple[str, str, str], now: datetime) -> dict[str, Any]:
    """Return the condition of a pipeline or a sweep with this (status, reason, message), and when its status turned."""
    previous, (status, reason, message) = condition(thing, kind), value
    stays = previous is not None and previous["status"] == status
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message[:_MAX_MESSAGE],
        "observedGeneration": thing["metadata"]["generation"],
        "lastTransitionTime": previous["lastTransitionTime"] if previous is not None and stays else times.write(now),
    }
