"""What the store keeps of an object: the fields that something here reads, and no more.

A thousand pipelines with their Jobs and pods stay small, and what is not kept cannot be relied on by accident.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from feedline.contract import (
    DISCARD_ANNOTATION,
    LABEL_INDEX,
    LABEL_PIPELINE,
    PARAMETERS_ANNOTATION,
    STOPPED_ANNOTATION,
    SUSPENDED_ANNOTATION,
)

Kind = Literal["pipeline", "job", "pod", "sweep"]
Object = Mapping[str, Any]

_METADATA: Final = (
    *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"),
    *("labels", "ownerReferences"),
)
_ANNOTATIONS: Final = (DISCARD_ANNOTATION, PARAMETERS_ANNOTATION, STOPPED_ANNOTATION, SUSPENDED_ANNOTATION)
_JOB_STATUS: Final = ("startTime", "completionTime", "active", "failed", "succeeded", "conditions")
_POD_STATUS: Final = ("phase", "reason", "message", "startTime", "podIP")
_CONDITION: Final = ("type", "status", "reason", "message", "lastTransitionTime")
_POD_CONDITIONS: Final = frozenset({"PodScheduled", "DisruptionTarget"})


def _custom(thing: Object) -> Object:
    metadata = _only(thing["metadata"], _METADATA)
    if annotations := _only(thing["metadata"].get("annotations") or {}, _ANNOTATIONS):
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": thing["spec"], "status": thing.get("status", {})}


def _job(thing: Object) -> Object:
    status = _only(thing.get("status", {}), _JOB_STATUS)
    if "conditions" in status:
        status["conditions"] = [_only(entry, _CONDITION) for entry in status["conditions"]]
    spec = {"suspend": thing["spec"].get("suspend", False)}
    return {"metadata": _child_metadata(thing), "spec": spec, "status": status}


def _pod(thing: Object) -> Object:
    status = thing.get("status", {})
    conditions = [
        _only(entry, _CONDITION) for entry in status.get("conditions", ()) if entry["type"] in _POD_CONDITIONS
    ]
    containers = [_only(entry, ("name", "state")) for entry in status.get("containerStatuses", ())]
    return {
        "metadata": _child_metadata(thing),
        "spec": _only(thing["spec"], ("nodeName",)),
        "status": {**_only(status, _POD_STATUS), "conditions": conditions, "containerStatuses": containers},
    }


def _child_metadata(thing: Object) -> dict[str, Any]:
    return {
        **_only(thing["metadata"], _METADATA),
        "labels": _only(thing["metadata"]["labels"], (LABEL_PIPELINE, LABEL_INDEX)),
    }


def _only(thing: Object, fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: thing[field] for field in fields if field in thing}


SLIM: Final[dict[Kind, Callable[[Object], Object]]] = {
    "pipeline": _custom,
    "job": _job,
    "pod": _pod,
    "sweep": _custom,
}
