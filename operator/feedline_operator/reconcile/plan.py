"""What is to be done about a pipeline, for whoever can do it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class CreateJob:
    """POST this Job. That it is there already, and ours, is success."""

    body: Mapping[str, Any]


@dataclass(frozen=True)
class CreateService:
    """POST this Service. That it is there already, and ours, is success."""

    body: Mapping[str, Any]


@dataclass(frozen=True)
class EvictPod:
    """Take a pod away by the Eviction API, if it has this uid still: its Job replaces it, and does not count it."""

    name: str
    uid: str


@dataclass(frozen=True)
class DeleteJob:
    """DELETE the Job with this uid in the foreground, so that it is there until its pods are gone."""

    uid: str


@dataclass(frozen=True)
class DeletePipeline:
    """DELETE the pipeline, if it still is what was seen."""

    uid: str
    resource_version: str


Action = CreateService | CreateJob | DeleteJob | EvictPod | DeletePipeline


@dataclass(frozen=True)
class Transition:
    """An Event to write once the status says so. `kind` is Normal or Warning."""

    kind: str
    reason: str
    message: str


@dataclass(frozen=True)
class Policy:
    """What of the operator's settings decides about pipelines.

    `images` are the trainer's images by backend, for pipelines that name none. `security` holds the user and groups of
    pods whose pipeline names none: fields of `spec.pod.securityContext`.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    security: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The status is written first, then the actions are carried out, then the transitions told.

    `status` is the whole new status, None where it is right already. `again` is when to look again though nothing
    may have happened. `ask` is the running trainer whose feed is to be asked, as (pod uid, address). `look_at` are
    the uids of objects whose Events would tell why nothing runs.
    """

    status: Mapping[str, Any] | None = None
    actions: tuple[Action, ...] = ()
    transitions: tuple[Transition, ...] = ()
    again: datetime | None = None
    ask: tuple[str, str] | None = None
    look_at: tuple[str, ...] = ()
