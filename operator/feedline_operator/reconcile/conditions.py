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
    return [_condition(condition(pipeline, kind), kind, values[kind], pipeline, now) for kind in ORDER]


def _condition(
    previous: Object | None, kind: str, value: tuple[str, str, str], pipeline: Object, now: datetime
) -> dict[str, Any]:
    status, reason, message = value
    turned = previous is None or previous["status"] != status
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message[:_MAX_MESSAGE],
        "observedGeneration": pipeline["metadata"]["generation"],
        "lastTransitionTime": times.write(now) if turned or previous is None else previous["lastTransitionTime"],
    }
