"""What a TrainingPipeline in a cluster says of the trial that it is. Pure."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from feedline.contract import PARAMETERS_ANNOTATION, ExitCode
from feedline.manifest import Parameter
from feedline.sweeps.trials import State, Trial, flaw

Object = Mapping[str, Any]

_KEPT: Final = 4096
_STOPPED: Final = "Stopped"
_COMPLETED: Final = "Completed"
_LOST: Final = "its pod was gone before anybody had read what it reported"


def trial_of(pipeline: Object, value: str, index: int, told: Object | None = None) -> Trial:
    """Return how a trial does.

    Parameters
    ----------
    pipeline
        It, as the API server has it.
    value
        The name of the objective.
    index
        Its number.
    told
        What its trainer said last of the objective; None takes what the status has.
    """
    over, status = _end(pipeline).get("status", "Unknown") != "Unknown", pipeline.get("status", {})
    curve, rows = _curve(status.get("objective", {}) if told is None else told)
    state, message = _state(pipeline, curve, value, over=over)
    return Trial(index, _parameters(pipeline), state, curve, rows, message)


def is_lost(pipeline: Object) -> bool:
    """Return whether a trial came to its end and nobody knows what it reported then.

    Its pod was taken away when it had ended and before anybody had looked, as with the node that it was on. What it had
    told before is not what it came to.
    """
    return _is_untold(pipeline) and not _is_awaited(pipeline)


def _is_untold(pipeline: Object) -> bool:
    """Return whether a trial came to its end, and the last pod that is known neither ended well nor said so."""
    status = pipeline.get("status", {})
    # A report may be of an earlier pod, which was evicted.
    is_told = status.get("report", {}).get("exitCode") == ExitCode.OK
    is_seen = _newest(pipeline).get("exitCode") == ExitCode.OK
    return _end(pipeline).get("reason") == _COMPLETED and not is_told and not is_seen


def _newest(pipeline: Object) -> Object:
    attempts: Sequence[Object] = pipeline.get("status", {}).get("attempts", ())
    return next(iter(attempts), {})


def _is_awaited(pipeline: Object) -> bool:
    """Return whether a pod is known whose end is not: the news of it come by another way than those of its Job."""
    newest = _newest(pipeline)
    return bool(newest) and "endTime" not in newest


def _end(pipeline: Object) -> Object:
    conditions: Sequence[Object] = pipeline.get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == "Succeeded"), {})


def _parameters(pipeline: Object) -> dict[str, Parameter]:
    """Return the values that a trial was given; none where somebody took them away."""
    return _read_parameters(pipeline["metadata"].get("annotations", {}).get(PARAMETERS_ANNOTATION, ""))


@functools.lru_cache(maxsize=_KEPT)
def _read_parameters(text: str) -> dict[str, Parameter]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _curve(told: Object) -> tuple[tuple[tuple[int, float], ...], int]:
    """Return the points of a curve as rows and value, and the rows of an epoch."""
    points, best = tuple(told.get("curve", ())), told.get("best")
    if not points and best is not None:
        # Its curve found no room in what a pod may say at its end, or nobody asked for it.
        points = (f"{told.get('bestStep', 0)}:{best}",)
    return _read_curve(points, told.get("epochSteps", 0), told.get("epochSamples", 0))


@functools.lru_cache(maxsize=_KEPT)
def _read_curve(points: tuple[str, ...], steps: int, rows: int) -> tuple[tuple[tuple[int, float], ...], int]:
    found = []
    for point in points:
        step, _, value = point.partition(":")
        found.append((int(step) * rows // steps if steps else int(step), float(value)))
    return tuple(sorted(found, key=lambda each: each[0])), rows if steps else 0


def _state(pipeline: Object, curve: Sequence[tuple[int, float]], value: str, *, over: bool) -> tuple[State, str]:
    stop, end = pipeline["spec"].get("stop"), _end(pipeline)
    if over and end["status"] == "False":
        return State.FAILED, end["message"]
    if stop is not None and (not over or end["reason"] == _STOPPED):
        return State.PRUNED, stop.get("message") or "stopped by its spec.stop"
    if not over:
        return State.RUNNING, ""
    if _is_untold(pipeline):
        return (State.RUNNING, "") if _is_awaited(pipeline) else (State.FAILED, _LOST)
    why = flaw(value, curve, pipeline["status"].get("report", {}).get("values", {}))
    return (State.FAILED, why) if why else (State.COMPLETE, "")
