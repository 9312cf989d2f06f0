"""What was seen of one pipeline and of what belongs to it, and the questions that every policy asks of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feedline.contract import API_GROUP, CONTAINER, KIND, LABEL_INDEX

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Sample:
    """What a running trainer said of its feed."""

    pod_uid: str
    time: datetime
    report: Object


@dataclass(frozen=True)
class Warned:
    """A Warning event about the Job or a pod, the newest of its kind."""

    reason: str
    message: str


@dataclass(frozen=True)
class Refusal:
    """Why the API server did not take the Job.

    `invalid` where it never will: the Job itself is wrong. Otherwise (a quota, a webhook, a Job of that name that
    belongs to somebody else) it may, later.
    """

    message: str
    invalid: bool = False


@dataclass(frozen=True)
class Observed:
    """One pipeline, and what is known about it.

    `job` is the Job of its name, whoever owns it; `pods` are those with its label, also some that are gone, marked by
    ``gone``, whose end is not yet recorded. `warnings` is None until Events were asked for.
    """

    pipeline: Object
    job: Object | None = None
    pods: tuple[Object, ...] = ()
    sample: Sample | None = None
    warnings: tuple[Warned, ...] | None = None
    refusal: Refusal | None = None


def condition(thing: Object, kind: str) -> Object | None:
    """Return the condition of that type."""
    for entry in thing.get("status", {}).get("conditions", ()):
        if entry["type"] == kind:
            return entry  # type: ignore[no-any-return]
    return None


def holds(thing: Object, kind: str) -> bool:
    """Return whether the condition of that type is True."""
    found = condition(thing, kind)
    return found is not None and found["status"] == "True"


def controller(thing: Object) -> Object | None:
    """Return the owner reference of the controlling owner."""
    for owner in thing["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            return owner  # type: ignore[no-any-return]
    return None


def owned_by(thing: Object, uid: str) -> bool:
    """Return whether the object with that uid controls this one."""
    owner = controller(thing)
    return owner is not None and owner["uid"] == uid


def owner_of_kind(thing: Object, kind: str) -> Object | None:
    """Return the owner reference of the controlling owner, if it is one of feedline's kinds."""
    owner = controller(thing)
    is_of_kind = owner is not None and owner["kind"] == kind and owner["apiVersion"].startswith(API_GROUP + "/")
    return owner if is_of_kind else None


def is_of_pipeline(thing: Object) -> bool:
    """Return whether a Job or a Service belongs to a pipeline, to this or to an earlier one of the name."""
    return owner_of_kind(thing, KIND) is not None


def deleting(thing: Object) -> bool:
    """Return whether the object is on its way out."""
    return "deletionTimestamp" in thing["metadata"]


def job_end(job: Object) -> Object | None:
    """Return the condition that says that a Job has ended, well or not; none of its pods is left running then."""
    for kind in ("Complete", "Failed"):
        if holds(job, kind):
            return condition(job, kind)
    return None


def index_of(pod: Object) -> int:
    """Return the number of a pod in its Job."""
    return int(pod["metadata"].get("labels", {}).get(LABEL_INDEX) or 0)


def container_state(pod: Object) -> Object:
    """Return the state of the trainer's container: running, waiting or terminated, or nothing yet."""
    statuses: Sequence[Object] = pod.get("status", {}).get("containerStatuses", ())
    for status in statuses:
        if status["name"] == CONTAINER:
            return status.get("state", {})  # type: ignore[no-any-return]
    return {}


def ended(pod: Object) -> bool:
    """Return whether nothing runs in a pod any more, nor will."""
    return (
        "gone" in pod
        or pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        or "terminated" in container_state(pod)
    )
