"""Pipelines, Jobs and pods as the API server would show them, from the few words in which a case differs.

Times are seconds since the pipeline was created. Everything else is what the base documents say; a change is merged
into them, and null takes a field away.
"""

import json
from datetime import UTC, datetime, timedelta

from mergepatch import merge

from feedline.contract import API_GROUP, API_VERSION, CONTAINER, KIND, LABEL_INDEX, LABEL_PIPELINE
from feedline_operator.reconcile import Policy

CREATED = datetime(2026, 1, 1, 10, 0, 0, tzinfo=UTC)
PIPELINE_UID, JOB_UID = "uid-of-the-pipeline", "uid-of-the-job"
POLICY = Policy({"pytorch": "trainer.example/pytorch:1"})

SPEC = {
    "backend": "pytorch",
    "data": {
        "volumes": [{"name": "digits", "persistentVolumeClaim": {"claimName": "digits"}}],
        "train": {"arrays": [{"name": "features", "path": "digits/features.npy", "role": "Input"}]},
    },
    "loader": {"batchSize": 32},
    "train": {"entrypoint": "feedline.models:train", "epochs": 1},
    "resources": {},
    "policy": {"maxRetries": 3},
    "pod": {},
    "suspend": False,
}
PIPELINE = {
    "metadata": {
        "name": "digits",
        "namespace": "team",
        "uid": PIPELINE_UID,
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": "2026-01-01T10:00:00Z",
    },
    "spec": SPEC,
    "status": {},
}


def moment(seconds):
    """Return the time this many seconds after the pipeline was created."""
    return CREATED + timedelta(seconds=seconds)


def at(seconds):
    """Return that time as the API server writes it."""
    return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition_list(given):
    """Return conditions from ``{TYPE: [status, reason, message]}``, all of which turned at the very beginning."""
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": 1,
            "lastTransitionTime": at(0),
        }
        for kind, (status, reason, message) in given.items()
    ]


CONDITIONS = {
    "Succeeded": ["Unknown", "Starting", "words"],
    "Accepted": ["True", "Accepted", "The spec is valid."],
    "PodsReady": ["False", "Starting", "words"],
    "InputBound": ["Unknown", "NoNumbers", "words"],
    "CheckpointsHealthy": ["Unknown", "NoOutput", "words"],
    "Suspended": ["False", "NotSuspended", "spec.suspend is false."],
}


def pipeline(conditions=None, **change):
    """Return a pipeline; `conditions` are those that differ from `CONDITIONS`, None where none were written yet."""
    document = merge(PIPELINE, change)
    if conditions is not None:
        document["status"]["conditions"] = condition_list(CONDITIONS | conditions)
    return document


def owner(uid, kind, name="digits"):
    """Return the reference of a controlling owner."""
    version = f"{API_GROUP}/{API_VERSION}" if kind == KIND else "batch/v1"
    return {"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": True}


def job(*, started=2, suspended=None, failed=None, ended=None, deleting=None, foreign=False, of=PIPELINE_UID, **change):
    """Return a Job.

    Parameters
    ----------
    started
        When Kubernetes started it, None if it has not.
    suspended
        When a queue manager suspended it.
    failed
        How many of its pods failed and counted.
    ended
        [condition, reason, message, time] of its end.
    deleting
        When it was deleted.
    foreign
        Whether it belongs to nobody.
    of
        Uid of the pipeline that it belongs to.
    """
    status = {"startTime": at(started)} if started is not None and suspended is None else {}
    listed = []
    if suspended is not None:
        listed.append(_condition("Suspended", "JobSuspended", "Job suspended", suspended))
    if failed is not None:
        status["failed"] = failed
    if ended is not None:
        listed.append(_condition(*ended))
    if listed:
        status["conditions"] = listed
    metadata = {
        "name": "digits",
        "namespace": "team",
        "uid": JOB_UID,
        "resourceVersion": "2",
        "creationTimestamp": at(1),
        "labels": {LABEL_PIPELINE: "digits"},
        "ownerReferences": [] if foreign else [owner(of, KIND)],
    }
    if deleting is not None:
        metadata["deletionTimestamp"] = at(deleting)
    return merge({"metadata": metadata, "spec": {"suspend": suspended is not None}, "status": status}, change)


def pod(
    *,
    name="a",
    index=0,
    created=3,
    running=None,
    waiting=None,
    exit=None,  # noqa: A002 - the cases read better
    ended=None,
    message="",
    why="Error",
    disrupted=None,
    unschedulable=None,
    deleting=None,
    gone=False,
    beside=(),
    of=JOB_UID,
    **change,
):
    """Return a pod.

    Parameters
    ----------
    index
        Its number in its Job.
    running
        Since when its container runs or ran.
    waiting
        [reason, message] of a container that waits.
    exit, ended, message, why
        Exit code of its container, when it ended, its termination message, and the runtime's word for it.
    disrupted
        Kubernetes' reason for taking the pod away.
    unschedulable
        The scheduler's message.
    deleting
        When its grace period ends or ended.
    gone
        Whether it is not in the API any more.
    beside
        Containers that run beside the trainer's, whatever that does.
    of
        Uid of the Job that it belongs to.
    """
    listed = []
    if unschedulable is not None:
        listed.append({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unschedulable})
    if disrupted is not None:
        listed.append({"type": "DisruptionTarget", "status": "True", "reason": disrupted})
    status = {"phase": "Pending", "conditions": listed}
    state = None
    if exit is not None:
        if isinstance(message, dict):
            message = json.dumps(message)
        began = {} if running is None else {"startedAt": at(running)}
        finished = {} if ended is None else {"finishedAt": at(ended)}
        state = {"terminated": {"exitCode": exit, "reason": why, "message": message, **began, **finished}}
        status["phase"] = "Succeeded" if exit == 0 else "Failed"
    elif running is not None:
        state = {"running": {"startedAt": at(running)}}
        status |= {"phase": "Running", "podIP": "203.0.113.7"}
    elif waiting is not None:
        state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
    status["containerStatuses"] = [] if state is None else [{"name": CONTAINER, "state": state}]
    if beside:
        running_on = {"running": {"startedAt": at(created)}}
        status["containerStatuses"] += [{"name": each, "state": running_on} for each in beside]
        status["phase"] = "Running"
    metadata = {
        "name": f"digits-{index}-{name}",
        "namespace": "team",
        "uid": f"pod-{name}",
        "resourceVersion": "3",
        "creationTimestamp": at(created),
        "labels": {LABEL_PIPELINE: "digits", LABEL_INDEX: str(index)},
        "ownerReferences": [owner(of, "Job")],
    }
    if deleting is not None:
        metadata["deletionTimestamp"] = at(deleting)
    spec = {} if unschedulable is not None else {"nodeName": "node-1"}
    document = merge({"metadata": metadata, "spec": spec, "status": status}, change)
    return document | {"gone": True} if gone else document


def _condition(kind, reason, message, time):
    return {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": at(time)}
