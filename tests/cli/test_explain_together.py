"""`feedline why`, of pods that train together: how many run, and what keeps the others from it."""

import pytest
from objects import FAST, JOB_UID, POD_UID, assert_plain, assert_told, event, job, pipeline, pod, seen

TOGETHER = {"spec": {"resources": {"nodes": 3}}}
NO_ROOM = ("False", "Unschedulable", "0/5 nodes are available: 5 Insufficient nvidia.com/gpu. preemption: 0/5 nodes.")
ATTACHED = 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) digits-0-a'


def numbered(index, phase="Running", **given):
    found = pod(phase, name=f"digits-{index}-a", **given)
    found["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] = str(index)
    if phase == "Running":
        found["metadata"]["uid"] = f"pod-{index}"
    return found


def with_proxy(index):
    found = numbered(index)
    found["spec"]["containers"] = [{"name": "trainer"}, {"name": "istio-proxy"}]
    return found


CASES = [
    pytest.param(
        seen(
            pipeline(**TOGETHER),
            job=job(),
            pods=[numbered(0), numbered(2, "Pending", node=None, PodScheduled=NO_ROOM), numbered(1)],
        ),
        "2 of 3 pods of digits run; digits-2-a waits for a node: 0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
        "Ask for less in spec.resources",
        id="no node has room for one",
    ),
    pytest.param(
        seen(
            pipeline(**TOGETHER),
            job=job(),
            pods=[numbered(0), numbered(1, "Pending"), numbered(2, "Pending", waiting={"reason": "ErrImagePull"})],
        ),
        "1 of 3 pods of digits run; digits-2-a cannot start, ErrImagePull: image train:1.",
        "spec.image",
        id="a wrong image on one node",
    ),
    pytest.param(
        seen(
            pipeline(**TOGETHER),
            job=job(),
            pods=[
                numbered(0, claims=["runs"]),
                numbered(1, claims=["runs"]),
                numbered(2, "Pending", node="gpu-8", claims=["runs"]),
            ],
            events=[event(POD_UID, "FailedAttachVolume", ATTACHED)],
            neighbours=[numbered(0, claims=["runs"]), numbered(1, claims=["runs"])],
        ),
        "digits-2-a cannot start on node gpu-8: the volume of claim runs is attached to node gpu-7",
        "Pods on several nodes need a ReadWriteMany claim; with this one, take resources.nodes 1.",
        id="a claim for one node",
    ),
    pytest.param(
        seen(
            pipeline("Running", **TOGETHER, feed=FAST),
            job=job(),
            pods=[with_proxy(0), with_proxy(1), with_proxy(2)],
        ),
        "digits is training on 3 nodes, step 812 of 2000 (40 %): the model is the bottleneck",
        "",
        id="all of them train",
    ),
    pytest.param(
        seen(pipeline("Running", **TOGETHER), job=job(), pods=[with_proxy(0), with_proxy(1), with_proxy(2)]),
        "All 3 pods of digits run and have not begun to train: container istio-proxy, which something injected, may keep",
        'Set spec.pod.annotations sidecar.istio.io/inject: "false"',
        id="a mesh between them",
    ),
    pytest.param(
        seen(
            pipeline(**TOGETHER),
            job=job(),
            events=[event(JOB_UID, "FailedCreate", 'pods "digits-1-" is forbidden: exceeded quota: gpus')],
        ),
        "digits gets no pod",
        "Free some of the quota",
        id="none may be created",
    ),
]


@pytest.mark.parametrize(("seen", "told", "advice"), CASES)
def test_the_cause_is_named(seen, told, advice):
    assert_told(seen, told, advice)


@pytest.mark.parametrize(("seen", "told", "advice"), CASES)
def test_it_is_one_plain_sentence(seen, told, advice):
    del told, advice
    assert_plain(seen)
