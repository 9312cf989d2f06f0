"""Trials as the pipelines that they are: how one is made, and what it says of how it does."""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from feedline.contract import (
    API_GROUP,
    API_VERSION,
    LABEL_SWEEP,
    LABEL_TRIAL,
    PARAMETERS_ANNOTATION,
    SWEEP_KIND,
)
from feedline.manifest import Parameter, Sweep
from feedline.sweeps import State, Trial
from feedline_operator.reconcile import Sample, owned_by
from feedline_operator.reconcile.conditions import SUCCEEDED, is_over
from feedline_operator.reconcile.observed import condition, controller
from feedline_operator.reconcile.outcome import STOPPED

Object = Mapping[str, Any]

_WEIGHT: Final = 10
"""Of a node whose memory has the data of another trial, against whatever else a scheduler prefers."""
_KEPT: Final = 4096


def sweep_of(pipeline: Object) -> str | None:
    """Return the name of the sweep that a pipeline is a trial of, None where it is none."""
    owner = controller(pipeline)
    if owner is None or owner["kind"] != SWEEP_KIND or not owner["apiVersion"].startswith(API_GROUP + "/"):
        return None
    return str(owner["name"])


def build(document: Object, sweep: Sweep, index: int, values: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the TrainingPipeline of a trial.

    Parameters
    ----------
    document
        The sweep as it is in the cluster.
    sweep
        The same, read.
    index, values
        Which trial it is, and its parameters.
    """
    owner, pipeline = document["metadata"], sweep.pipeline_of(index, values)
    metadata = pipeline["metadata"]
    metadata["namespace"] = owner["namespace"]
    metadata["labels"] = {**metadata.get("labels", {}), LABEL_SWEEP: sweep.name, LABEL_TRIAL: str(index)}
    metadata["ownerReferences"] = [
        {
            "apiVersion": f"{API_GROUP}/{API_VERSION}",
            "kind": SWEEP_KIND,
            "name": sweep.name,
            "uid": owner["uid"],
            "controller": True,
        }
    ]
    pod = pipeline["spec"].setdefault("pod", {})
    pod.setdefault("affinity", _near(sweep.name))
    return pipeline


def _near(name: str) -> dict[str, Any]:
    """Return a preference for nodes with other trials: they read the same files, whose pages are in memory there."""
    term = {"labelSelector": {"matchLabels": {LABEL_SWEEP: name}}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"weight": _WEIGHT, "podAffinityTerm": term}]
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def trials_of(
    document: Object, sweep: Sweep, children: Sequence[tuple[Object, Sample | None]]
) -> list[tuple[Object, Trial]]:
    """Return the pipelines of a sweep's own trials with how each does, in the order of their numbers."""
    found = []
    for pipeline, sample in children:
        number = pipeline["metadata"]["name"].removeprefix(f"{sweep.name}-")
        if owned_by(pipeline, document["metadata"]["uid"]) and number.isdecimal() and str(int(number)) == number:
            found.append((pipeline, _trial(pipeline, sample, sweep.objective.value, int(number))))
    return sorted(found, key=lambda each: each[1].index)


def _trial(pipeline: Object, sample: Sample | None, value: str, index: int) -> Trial:
    status = pipeline.get("status", {})
    over = is_over(pipeline)
    told = status.get("objective", {}) if over or sample is None else sample.report.get("objective", {})
    curve, rows = _curve(told)
    state, message = _state(pipeline, curve, value, over=over)
    return Trial(index, _parameters(pipeline), state, curve, rows, message)


def _parameters(pipeline: Object) -> dict[str, Parameter]:
    """Return the values that a trial was given; none where somebody took them away."""
    return _read_parameters(pipeline["metadata"].get("annotations", {}).get(PARAMETERS_ANNOTATION, ""))


@functools.lru_cache(maxsize=_KEPT)
def _read_parameters(text: str) -> dict[str, Parameter]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _curve(told: Object) -> tuple[tuple[tuple[int, float], ...], int]:
    """Return the points of a curve as rows and value, and the rows of an epoch."""
    return _read_curve(
        tuple(told.get("curve", ())), told.get("epochSteps", 0), told.get("epochSamples", 0), told.get("best")
    )


@functools.lru_cache(maxsize=_KEPT)
def _read_curve(
    points: tuple[str, ...], steps: int, rows: int, best: str | None
) -> tuple[tuple[tuple[int, float], ...], int]:
    found = []
    for point in points:
        step, _, value = point.partition(":")
        found.append((int(step) * rows // steps if steps else int(step), float(value)))
    if not found and best is not None:
        # Its curve found no room in what a pod may say at its end.
        found = [(0, float(best))]
    return tuple(sorted(found, key=lambda each: each[0])), rows if steps else 0


def _state(pipeline: Object, curve: Sequence[tuple[int, float]], value: str, *, over: bool) -> tuple[State, str]:
    stop = pipeline["spec"].get("stop")
    end = condition(pipeline, SUCCEEDED) or {}
    if over and end["status"] == "False":
        return State.FAILED, end["message"]
    if stop is not None and (not over or end["reason"] == STOPPED):
        return State.PRUNED, stop.get("message") or "stopped by its spec.stop"
    if not over:
        return State.RUNNING, ""
    if not curve:
        told = ", ".join(sorted(pipeline["status"].get("report", {}).get("values", {}))) or "nothing"
        return State.FAILED, f"{value} was never reported; reported was {told}"
    if not any(math.isfinite(each) for _, each in curve):
        return State.FAILED, f"{value} was never a finite number"
    return State.COMPLETE, ""
