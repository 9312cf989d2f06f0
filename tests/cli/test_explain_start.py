"""`feedline why`, of a pod that has a node: which of its events is the cause, and who has the volume that it waits for."""

import pytest
from objects import POD_UID, assert_plain, assert_told, event, pipeline, pod, seen

TIMED_OUT = (
    "Unable to attach or mount volumes: unmounted volumes=[data-0], unattached volumes=[], failed to process volumes=[]: "
    "timed out waiting for the condition"
)
SETUP = 'MountVolume.SetUp failed for volume "pvc-1" : rpc error: code = Internal desc = no such export'
ELSEWHERE = 'Multi-Attach error for volume "pvc-1" Volume is already '
USED = ELSEWHERE + "used by pod(s) {}"
EXCLUSIVE = ELSEWHERE + "exclusively attached to one node and can't be attached to another"
ATTACHED = 'AttachVolume.Attach succeeded for volume "{}"'
ABORTED = (
    'MountVolume.MountDevice failed for volume "pvc-1" : rpc error: code = Aborted desc = an operation with the given '
    "Volume ID vol-1 already exists"
)
DATA = {"data": {"volumes": [{"name": "digits", "persistentVolumeClaim": {"claimName": "digits-data"}}]}}
TWO = {
    "data": {
        "volumes": [
            *DATA["data"]["volumes"],
            {"name": "more", "persistentVolumeClaim": {"claimName": "more-data"}},
        ]
    }
}


def starts(*events, spec=DATA, claims=("digits-data",), volumes=(), neighbours=()):
    """Return what is seen of a pod on gpu-7 that has these events, the oldest first, a minute apart."""
    times = [f"2026-01-01T00:{minute:02}:00Z" for minute in range(len(events))]
    return seen(
        pipeline("Starting", spec=spec),
        pods=[pod(waiting={"reason": "ContainerCreating"}, claims=claims, volumes=volumes)],
        events=[event(POD_UID, *each, time=time) for each, time in zip(events, times, strict=True)],
        neighbours=neighbours,
    )


SCHEDULED = ("Scheduled", "assigned to gpu-7", "Normal")
PULLING = ("Pulling", 'Pulling image "train:1"', "Normal")
OTHER = {"name": "other-0", "node": "gpu-3", "claims": ["digits-data"]}

CASES = [
    pytest.param(seen(pipeline("Starting"), pods=[pod()]), "has just come to node gpu-7", "", id="no event yet"),
    pytest.param(
        starts(SCHEDULED, ("FailedMount", 'configmap "code" not found')),
        'cannot start on node gpu-7, FailedMount: configmap "code" not found.',
        "kubectl get configmap -n team-a",
        id="a ConfigMap that is not there",
    ),
    pytest.param(
        starts(("FailedMount", "not yet attached"), PULLING),
        'digits is starting on node gpu-7: Pulling image "train:1".',
        "",
        id="pulling, after trouble that is over",
    ),
    # --- the cause, and what follows from it
    pytest.param(
        starts(SCHEDULED, ("FailedMount", SETUP), ("FailedMount", TIMED_OUT), ("FailedMount", TIMED_OUT)),
        f"cannot start on node gpu-7, FailedMount: {SETUP}.",
        "kubectl describe pvc -n team-a",
        id="a mount that failed, before the time-outs of who waits for it",
    ),
    pytest.param(
        starts(("FailedMount", f"(combined from similar events): {SETUP}"), ("FailedMount", TIMED_OUT)),
        f"FailedMount: {SETUP}.",
        "kubectl describe pvc",
        id="one that was told too often",
    ),
    pytest.param(
        starts(
            SCHEDULED,
            ("FailedMount", TIMED_OUT.replace("timed out waiting for the condition", "context deadline exceeded")),
        ),
        "FailedMount: Unable to attach or mount volumes: unmounted volumes=[data-0]",
        "kubectl describe pvc",
        id="a time-out of which nothing else is told",
    ),
    pytest.param(
        starts(
            ("FailedMount", SETUP),
            (
                "FailedMount",
                TIMED_OUT.replace("timed out waiting for the condition", "error processing PVC team-a/x: no"),
            ),
        ),
        "error processing PVC team-a/x: no.",
        "kubectl describe pvc",
        id="a wait that has a cause of its own",
    ),
    pytest.param(
        starts(("FailedMount", "MountVolume.MountDevice failed: mkfs: bad magic number"), ("FailedMount", ABORTED)),
        "mkfs: bad magic number.",
        "kubectl describe pvc",
        id="a try, before those that came while it was at work",
    ),
    pytest.param(
        starts(
            ("FailedMount", 'MountVolume.SetUp failed for volume "feedline-code" : configmap "code" not found'),
            ("FailedMount", TIMED_OUT),
            volumes=[{"name": "feedline-code"}],
        ),
        "unmounted volumes=[data-0]",
        "kubectl describe pvc",
        id="a volume that has come since is not waited for",
    ),
    pytest.param(
        starts(
            ("FailedCreatePodSandBox", "Failed to create pod sandbox: no IP addresses available"),
            ("FailedCreatePodSandBox", 'Failed to create pod sandbox: failed to reserve sandbox name "x": is reserved'),
            ("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.", "Normal"),
        ),
        "FailedCreatePodSandBox: Failed to create pod sandbox: no IP addresses available.",
        "",
        id="a sandbox, before it is tried again",
    ),
    pytest.param(
        starts(("FailedMount", SETUP), ("DNSConfigForming", "Nameserver limits were exceeded, some were omitted")),
        SETUP,
        "kubectl describe pvc",
        id="a warning that is no hindrance",
    ),
    # --- a volume that another node has
    pytest.param(
        starts(
            SCHEDULED,
            ("FailedAttachVolume", USED.format("other-0")),
            ("FailedMount", TIMED_OUT),
            ("FailedMount", TIMED_OUT),
            neighbours=[pod(claims=["digits-data"]), pod(**OTHER, of="")],
        ),
        "digits cannot start on node gpu-7: volume digits (claim digits-data) is attached to node gpu-3, where pod other-0 "
        "uses it, and ReadWriteOnce allows one node.",
        "Delete that pod, or use a ReadWriteMany claim.",
        id="the pod that has it is named",
    ),
    pytest.param(
        starts(
            ("FailedAttachVolume", EXCLUSIVE),
            ("FailedMount", TIMED_OUT),
            neighbours=[
                pod(**OTHER, of=""),
                pod(**{**OTHER, "name": "other-1"}, of=""),
                pod("Failed", name="ended", node="gpu-2", claims=["digits-data"]),
                pod(name="here", claims=["digits-data"]),
                pod(name="unrelated", node="gpu-2", claims=["else"]),
                pod(name="waits", node=None, claims=["digits-data"]),
            ],
        ),
        "is attached to node gpu-3, where pods other-0, other-1 use it, and",
        "Delete those pods, or use",
        id="no pod is named, and some use the claim",
    ),
    pytest.param(
        starts(
            ("FailedAttachVolume", USED.format("other-0-x")),
            neighbours=[pod(name="other-0-x", node="gpu-3", claims=["digits-data"], of="other")],
        ),
        "attached to node gpu-3, where pod other-0-x of pipeline other uses it, and",
        "Wait for the end of other, or end it (`feedline delete other -n team-a`), or use a ReadWriteMany claim.",
        id="another pipeline has it",
    ),
    pytest.param(
        starts(
            ("FailedAttachVolume", USED.format("digits-0-old")),
            neighbours=[pod(name="digits-0-old", node="gpu-3", claims=["digits-data"], deleted=True)],
        ),
        "attached to node gpu-3, where pod digits-0-old uses it, and",
        "Delete that pod",
        id="its own earlier pod has it",
    ),
    pytest.param(
        starts(
            ("FailedAttachVolume", USED.format("a, b and 2 pod(s) in different namespaces")),
            neighbours=[pod(**{**OTHER, "name": "b"}, of=""), pod(**{**OTHER, "name": "c", "node": "gpu-1"}, of="")],
        ),
        "attached to node gpu-3, where pod b uses it, and",
        "Delete that pod",
        id="of those that use the claim, the one that is named",
    ),
    pytest.param(
        starts(("FailedAttachVolume", USED.format("other-0, other-1")), ("FailedMount", TIMED_OUT), neighbours=None),
        "volume digits (claim digits-data) is attached to another node, where pods other-0, other-1 use it, and",
        "Delete those pods",
        id="pods may not be listed",
    ),
    pytest.param(
        starts(("FailedAttachVolume", EXCLUSIVE), neighbours=None),
        "volume digits (claim digits-data) is attached to another node, and ReadWriteOnce allows one node.",
        "`kubectl get volumeattachments | grep pvc-1` names the node",
        id="pods may not be listed, and none is named",
    ),
    pytest.param(
        starts(
            ("FailedAttachVolume", USED.format("other-0")),
            spec=TWO,
            claims=["digits-data", "more-data"],
            neighbours=[pod(**{**OTHER, "claims": ["more-data"]}, of="")],
        ),
        "volume more (claim more-data) is attached to node gpu-3",
        "Delete that pod",
        id="of two volumes, the one that is used there",
    ),
    pytest.param(
        starts(("FailedAttachVolume", EXCLUSIVE), spec=TWO, claims=["digits-data", "more-data"], neighbours=None),
        "volume pvc-1 is attached to another node",
        "volumeattachments",
        id="of two volumes, no one knows which",
    ),
    pytest.param(
        starts(
            ("FailedAttachVolume", EXCLUSIVE),
            ("SuccessfulAttachVolume", ATTACHED.format("pvc-1"), "Normal"),
            ("FailedMount", TIMED_OUT),
        ),
        "FailedMount: Unable to attach or mount volumes",
        "kubectl describe pvc",
        id="a volume that has been attached since",
    ),
    pytest.param(
        starts(
            ("FailedAttachVolume", EXCLUSIVE),
            ("SuccessfulAttachVolume", ATTACHED.format("pvc-2"), "Normal"),
            ("FailedMount", TIMED_OUT),
            neighbours=[pod(**OTHER, of="")],
        ),
        "is attached to node gpu-3, where pod other-0 uses it",
        "Delete that pod",
        id="another volume has been attached since",
    ),
    pytest.param(
        starts(
            ("FailedAttachVolume", EXCLUSIVE),
            ("SuccessfulAttachVolume", ATTACHED.format("pvc-1"), "Normal"),
        ),
        'digits is starting on node gpu-7: AttachVolume.Attach succeeded for volume "pvc-1".',
        "",
        id="it has just been attached",
    ),
]


@pytest.mark.parametrize(("seen", "told", "advice"), CASES)
def test_the_cause_is_named(seen, told, advice):
    assert_told(seen, told, advice)


@pytest.mark.parametrize(("seen", "told", "advice"), CASES)
def test_it_is_one_line_that_ends_once(seen, told, advice):
    assert_plain(seen)


def test_of_one_second_a_warning_is_newer_than_a_step():
    events = [event(POD_UID, "FailedAttachVolume", EXCLUSIVE), event(POD_UID, "Scheduled", "assigned", "Normal")]
    assert_told(seen(pipeline("Starting"), pods=[pod()], events=events), "attached to another node", "ReadWriteMany")
