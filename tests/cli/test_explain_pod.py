"""`feedline why`, of a pod: what its own status says of what keeps it back, and a node that is lost with it."""

import pytest
from objects import assert_plain, assert_told, job, node, pipeline, pod, seen

UNSCHEDULABLE = (
    "False",
    "Unschedulable",
    "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes.",
)
ONE_POD_ONLY = (
    "0/2 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access "
    "mode, 1 node(s) didn't match PersistentVolume's node affinity. preemption: 0/2 nodes are available: 2 Preemption is "
    "not helpful for scheduling."
)
LOST = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")

CASES = [
    pytest.param(
        seen(pipeline(), job=job(), pods=[pod(node=None, PodScheduled=UNSCHEDULABLE)]),
        "digits waits for a node: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        "Ask for less in spec.resources",
        id="no node has room",
    ),
    pytest.param(
        seen(
            pipeline(),
            pods=[pod(node=None, PodScheduled=("False", "Unschedulable", 'persistentvolumeclaim "digits" not found'))],
        ),
        'persistentvolumeclaim "digits" not found',
        "kubectl get pvc -n team-a",
        id="a claim that is not there",
    ),
    pytest.param(
        seen(pipeline(), pods=[pod(waiting={"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x:1"'})]),
        'digits cannot start, ImagePullBackOff: Back-off pulling image "x:1".',
        "imagePullSecrets",
        id="an image that cannot be pulled",
    ),
    pytest.param(
        seen(pipeline(), pods=[pod(waiting={"reason": "ErrImageNeverPull"})]),
        "image train:1",
        "spec.image",
        id="no message",
    ),
    pytest.param(
        seen(pipeline(), pods=[pod(waiting={"reason": "CreateContainerConfigError", "message": "secret not found"})]),
        "secret not found",
        "Create what is missing",
        id="a configuration that is not there",
    ),
    pytest.param(
        seen(
            pipeline(),
            pods=[
                pod(node=None, PodScheduled=("False", "Unschedulable", ONE_POD_ONLY)),
            ],
        ),
        "node(s) didn't match PersistentVolume's node affinity.",
        "Delete the pod that uses the claim",
        id="a claim for one pod",
    ),
    pytest.param(
        seen(pipeline("Running"), pods=[pod("Running", deleted=True)], nodes=node(*LOST[::2])),
        "digits hangs: its pod digits-0-abcde is on node gpu-7, which is not ready (Kubelet stopped posting node status),",
        "kubectl delete pod digits-0-abcde -n team-a --force --grace-period=0",
        id="a node that is lost",
    ),
    pytest.param(
        seen(
            pipeline("Running"),
            pods=[pod("Running", deleted=True, DisruptionTarget=("True", "DeletionByTaintManager", "deleting"))],
        ),
        "which does not seem to answer any more",
        "if it does run, two train at once",
        id="a node that is lost and may not be read",
    ),
    pytest.param(
        seen(
            pipeline("Retrying", "attempt 2 in 10 s"),
            pods=[pod("Failed"), pod("Running", deleted=True)],
            nodes=node("True"),
        ),
        "digits is Retrying: attempt 2 in 10 s.",
        "",
        id="a pod that ends, on a node that is well",
    ),
]


@pytest.mark.parametrize(("seen", "told", "advice"), CASES)
def test_the_cause_is_named(seen, told, advice):
    assert_told(seen, told, advice)


@pytest.mark.parametrize(("seen", "told", "advice"), CASES)
def test_it_is_one_line_that_ends_once(seen, told, advice):
    assert_plain(seen)
