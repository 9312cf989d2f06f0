"""What an API server would hold about a pipeline, its Job and its pods, and what is asserted of the words about it."""

from feedline.cli.explain import explain
from feedline.cli.seen import Seen

UID, JOB_UID, POD_UID = "uid-of-the-pipeline", "uid-of-the-job", "uid-of-the-pod"
SLOW = {
    "steps": 812,
    "targetSteps": 2000,
    "waitPermille": 341,
    "feedSamplesPerSecond": 121_000,
    "modelSamplesPerSecond": 337_000,
    "verdict": {"inputBound": True, "cause": "PageFaults", "advice": "Try loader.residency: Memory (2 GB of 8 GB)."},
}
FAST = {**SLOW, "waitPermille": 12, "verdict": {"inputBound": False, "cause": "None", "advice": "The model is slow."}}


def conditions(**given):
    """Return conditions from ``TYPE=(status, reason, message)``."""
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, (status, reason, message) in given.items()
    ]


def pipeline(
    state="Pending", message="the operator's words", *, succeeded="Unknown", spec=None, metadata=None, **status
):
    given = {"Succeeded": (succeeded, state, message), "InputBound": ("Unknown", "NoNumbers", "rank 0 did not answer")}
    return {
        "metadata": {"name": "digits", "uid": UID, "generation": 2, **(metadata or {})},
        "spec": {"backend": "pytorch", "data": {"volumes": [{"name": "digits"}]}, **(spec or {})},
        "status": {"observedGeneration": 2, "conditions": conditions(**given), **status},
    }


def job(owner=UID, *, suspend=False, labels=None, kind="TrainingPipeline", volumes=(), **given):
    return {
        "metadata": {
            "name": "digits",
            "uid": JOB_UID,
            "labels": labels or {},
            "ownerReferences": [{"uid": owner, "kind": kind, "name": "digits"}],
        },
        "spec": {"suspend": suspend, "template": {"spec": {"volumes": [*volumes]}}},
        "status": {"conditions": conditions(**given)},
    }


def pod(
    phase="Pending",
    *,
    node="gpu-7",
    waiting=None,
    deleted=False,
    name="digits-0-abcde",
    of="digits",
    claims=(),
    volumes=(),
    **given,
):
    """Return a pod; `claims` are mounted as the operator names the volumes, `of` is its pipeline, if any."""
    metadata = {"name": name, "uid": POD_UID, "creationTimestamp": "2026-01-01T00:00:00Z"}
    if of:
        metadata["labels"] = {"feedline.dev/pipeline": of}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    containers = [{"name": "trainer", "image": "train:1", "state": {"waiting": waiting}}] if waiting else []
    mounted = [
        {"name": f"data-{number}", "persistentVolumeClaim": {"claimName": claim}} for number, claim in enumerate(claims)
    ]
    return {
        "metadata": metadata,
        "spec": {**({"nodeName": node} if node else {}), "volumes": [*mounted, *volumes]},
        "status": {"phase": phase, "conditions": conditions(**given), "containerStatuses": containers},
    }


def event(uid, reason, message, kind="Warning", time="2026-01-01T00:00:00Z", **times):
    return {
        "involvedObject": {"uid": uid},
        "reason": reason,
        "message": message,
        "type": kind,
        "lastTimestamp": time,
        **times,
    }


def node(ready, message=""):
    return {"gpu-7": {"status": {"conditions": conditions(Ready=(ready, "NodeStatus", message))}}}


def workload(active=True, **given):
    return {
        "metadata": {"name": "job-digits-1"},
        "spec": {"active": active},
        "status": {"conditions": conditions(**given)},
    }


def seen(pipeline, **others):
    return Seen("digits", "team-a", pipeline, **others)


def assert_told(seen, told, advice):
    """Assert that the cause is named in these words, with this advice or none."""
    explanation = explain(seen)
    assert told in explanation.sentence
    if advice:
        assert advice in explanation.advice
    else:
        assert explanation.advice == ""


def assert_plain(seen):
    """Assert that what is told of it is one line that ends once, in which everything is filled in."""
    explanation = explain(seen)
    for said in (explanation.sentence, explanation.advice):
        assert said.count("\n") == 0
        assert not said.endswith("..")
        assert "{" not in said.replace("""'{"spec":{"suspend":false}}'""", "")
