"""Trials as the pipelines that they are: how one is made, and whose it is."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from feedline.contract import DISCARD_ANNOTATION, LABEL_SWEEP, LABEL_TRIAL, STOPPED_ANNOTATION, SWEEP_KIND
from feedline.manifest import Parameter, Sweep
from feedline.sweeps import State, Trial, trial_of
from feedline_operator.build import own_folder, owner
from feedline_operator.reconcile import Sample, owned_by
from feedline_operator.reconcile.conditions import is_over
from feedline_operator.reconcile.observed import owner_of_kind

Object = Mapping[str, Any]

_MOST_DISCARDS: Final = 32
"""Folders whose weights go when a trial begins: those that were ended last. The operator itself reaches no volume."""
_WEIGHT: Final = 10
"""Of a node whose memory has the data of another trial, against whatever else a scheduler prefers."""


def sweep_of(pipeline: Object) -> str | None:
    """Return the name of the sweep that a pipeline is a trial of, None where it is none."""
    found = owner_of_kind(pipeline, SWEEP_KIND)
    return None if found is None else str(found["name"])


def build(
    document: Object,
    sweep: Sweep,
    index: int,
    values: Mapping[str, Parameter],
    others: Sequence[tuple[Object, Trial]] = (),
) -> dict[str, Any]:
    """Return the TrainingPipeline of a trial.

    Parameters
    ----------
    document
        The sweep as it is in the cluster.
    sweep
        The same, read.
    index, values
        Which trial it is, and its parameters.
    others
        The trials before it, with their pipelines.
    """
    pipeline = sweep.pipeline_of(index, values)
    metadata = pipeline["metadata"]
    metadata["namespace"] = document["metadata"]["namespace"]
    metadata["labels"] = {**metadata.get("labels", {}), LABEL_SWEEP: sweep.name, LABEL_TRIAL: str(index)}
    metadata["ownerReferences"] = [owner(SWEEP_KIND, document["metadata"])]
    if ended := [own_folder(each["metadata"]) for each, trial in others if _is_of_no_use(each, trial)]:
        metadata.setdefault("annotations", {})[DISCARD_ANNOTATION] = ",".join(ended[-_MOST_DISCARDS:])
    pod = pipeline["spec"].setdefault("pod", {})
    pod.setdefault("affinity", _near(sweep.name))
    return pipeline


def _is_of_no_use(pipeline: Object, trial: Trial) -> bool:
    """Return whether nobody goes on with what a trial has saved: the sweep, and no person, has ended it early."""
    is_ours = STOPPED_ANNOTATION in pipeline["metadata"].get("annotations", {})
    return is_ours and trial.state == State.PRUNED and is_over(pipeline) and "output" in pipeline["spec"]


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
            told = None if sample is None or is_over(pipeline) else sample.report.get("objective", {})
            found.append((pipeline, trial_of(pipeline, sweep.objective.value, int(number), told)))
    return sorted(found, key=lambda each: each[1].index)
