"""`feedline why`: which cause is named for what the API server holds, and that only one is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from objects import FAST, JOB_UID, SLOW, UID, assert_plain, assert_told, event, job, node, pipeline, pod, seen, workload

from feedline.cli.explain import explain

QUEUED = job(suspend=True, labels={"kueue.x-k8s.io/queue-name": "gpu-a"})
WAITS = ("False", "WaitingForQuota", "insufficient unused quota for nvidia.com/gpu in flavor h100, 1 more needed")
TOO_MUCH = (
    "couldn't assign flavors to pod set main: insufficient quota for cpu in flavor h100, previously considered podsets "
    "requests (0) + current podset request (8) > maximum capacity (6)"
)
IMAGE = {"data": {"volumes": [{"name": "digits", "image": {"reference": "data:1"}}]}}
NO_SPACE = "pods is forbidden: exceeded quota: small, requested: cpu=2, used: cpu=3, limited: cpu=4"
RESTRICTED = 'violates PodSecurity "restricted:latest": runAsNonRoot != true'

CASES = [
    pytest.param(seen({}), "There is no pipeline digits in namespace team-a.", "feedline status", id="no pipeline"),
    pytest.param(
        seen({"metadata": {"name": "digits", "uid": UID, "generation": 1}, "spec": {}}),
        "No feedline operator has looked at digits yet.",
        "Check that the operator runs",
        id="no status",
    ),
    pytest.param(
        seen(pipeline(observedGeneration=1)),
        "since it was changed.",
        "Check that the operator runs",
        id="an old status",
    ),
    pytest.param(
        seen(pipeline("Running", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), pods=[pod(deleted=True)]),
        "digits is being deleted and waits for pod digits-0-abcde.",
        "",
        id="being deleted",
    ),
    pytest.param(
        seen(
            pipeline("Running", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
            pods=[pod("Running", deleted=True)],
            nodes=node("Unknown", "Kubelet stopped posting node status."),
        ),
        "on node gpu-7, which is not ready (Kubelet stopped posting node status)",
        "--force --grace-period=0",
        id="being deleted, on a node that is lost",
    ),
    # --- finished
    pytest.param(
        seen(pipeline("Completed", "completed", succeeded="True", report={**FAST, "steps": 2000})),
        "digits is Completed after 2000 steps: the model is the bottleneck, only 1 % of the time waits for data.",
        "",
        id="completed, model bound",
    ),
    pytest.param(
        seen(pipeline("Completed", "completed", succeeded="True", report={**SLOW, "steps": 2000})),
        "the data are the bottleneck, 34 % of the time waits for data (cause PageFaults; the feed can deliver "
        "121 k rows/s, the model could take 337 k).",
        "Try loader.residency: Memory (2 GB of 8 GB).",
        id="completed, input bound",
    ),
    pytest.param(
        seen(pipeline("Completed", "stopped after 3 of 10 steps.", succeeded="True")),
        "digits is Completed: stopped after 3 of 10 steps.",
        "",
        id="completed without a report",
    ),
    pytest.param(
        seen(
            pipeline(
                "DataInvalid",
                "attempt 1: digits/labels.npy: cut short",
                succeeded="False",
                attempts=[
                    {"index": 1, "reason": "DataInvalid", "exitCode": 65, "message": "digits/labels.npy: cut short"}
                ],
            )
        ),
        "digits failed, DataInvalid: attempt 1: digits/labels.npy: cut short.",
        "Repair the data",
        id="failed, and the message has the cause",
    ),
    pytest.param(
        seen(
            pipeline(
                "RetriesExhausted",
                "failed 4 times",
                succeeded="False",
                attempts=[
                    {"index": 4, "reason": "IOError", "exitCode": 74, "message": "/data/digits: Input/output error."},
                    {"index": 3, "reason": "UserError", "exitCode": 70, "message": "not this one"},
                ],
            )
        ),
        "failed 4 times; attempt 4 ended with IOError (exit code 74): /data/digits: Input/output error.",
        "feedline logs digits",
        id="failed, and the newest attempt knows why",
    ),
    pytest.param(
        seen(pipeline("StartDeadlineExceeded", "no container ran within 60 s", succeeded="False"), job=job()),
        "digits failed, StartDeadlineExceeded: no container ran within 60 s.",
        "policy.startDeadlineSeconds",
        id="failed without an attempt",
    ),
    # --- held back
    pytest.param(
        seen(pipeline("Suspended", spec={"suspend": True})),
        "suspended by its own spec.suspend",
        """kubectl patch trainingpipeline digits -n team-a --type=merge -p '{"spec":{"suspend":false}}'""",
        id="suspended",
    ),
    pytest.param(
        seen(pipeline(), job=job("somebody-else", kind="CronJob")), "that is not its own", "--name", id="a foreign Job"
    ),
    pytest.param(
        seen(pipeline("Completed", "completed", succeeded="True"), job=job("somebody-else", kind="CronJob")),
        "digits is Completed: completed.",
        "",
        id="a foreign Job that came later",
    ),
    pytest.param(
        seen(pipeline(), job=job("uid-of-an-earlier-one")),
        "waits until the Job of the earlier pipeline",
        "",
        id="the Job of an earlier pipeline of that name",
    ),
    pytest.param(
        seen(pipeline("Queued"), job=QUEUED, workload=workload(QuotaReserved=WAITS)),
        "digits waits in the queue gpu-a: insufficient unused quota for nvidia.com/gpu in flavor h100, 1 more needed.",
        "",
        id="queued",
    ),
    pytest.param(
        seen(pipeline("Queued"), job=QUEUED, workload=workload(QuotaReserved=("False", "ExceedsMaxQuota", "too much"))),
        "too much",
        "It will never fit",
        id="queued for ever",
    ),
    pytest.param(
        seen(pipeline("Queued"), job=QUEUED, workload=workload(QuotaReserved=("False", "Pending", TOO_MUCH))),
        "> maximum capacity (6)",
        "It will never fit",
        id="queued for ever, by Kueue 0.17",
    ),
    pytest.param(
        seen(
            pipeline("Queued"),
            job=QUEUED,
            workload=workload(QuotaReserved=("False", "Pending", f"{TOO_MUCH}, insufficient unused quota for cpu")),
        ),
        "insufficient unused quota for cpu",
        "",
        id="too much for one flavor, not for the other",
    ),
    pytest.param(
        seen(
            pipeline("Queued"),
            job=QUEUED,
            workload=workload(
                Evicted=("True", "Preempted", "an old story"),
                QuotaReserved=("True", "QuotaReserved", ""),
                Admitted=("False", "UnsatisfiedAdmissionChecks", "waiting for provisioning"),
            ),
        ),
        "waiting for provisioning",
        "",
        id="quota, but not admitted",
    ),
    pytest.param(
        seen(pipeline("Queued"), job=QUEUED, workload=workload(active=False)), "deactivated", "resume", id="deactivated"
    ),
    pytest.param(
        seen(pipeline("Queued"), job=QUEUED, workload=workload()), "not looked at it yet", "", id="Kueue is slow"
    ),
    pytest.param(
        seen(pipeline("Queued"), job=job(suspend=True)),
        "waits in its queue: its Job is suspended, not by itself, and no reason can be read.",
        "kubectl get localqueue",
        id="queued, and the Workload may not be read",
    ),
    pytest.param(
        seen(pipeline("Running", spec=IMAGE), job=job(), server_version=(1, 34)),
        "its volume digits is an image, which this cluster leaves out; that needs Kubernetes 1.35 or newer, and this "
        "is 1.34.",
        "persistentVolumeClaim",
        id="an image volume on an old server",
    ),
    pytest.param(
        seen(pipeline("DataInvalid", "features.npy: missing", succeeded="False", spec=IMAGE), job=job()),
        "digits has no data",
        "persistentVolumeClaim",
        id="an image volume on an old server, found out the hard way",
    ),
    pytest.param(
        seen(
            pipeline("Pending", spec=IMAGE),
            job=job(volumes=[{"name": "digits", "image": {"reference": "data:1"}}, {"name": "tmp", "emptyDir": {}}]),
            server_version=(1, 34),
        ),
        "the operator's words",
        "",
        id="an image volume on an old server that can",
    ),
    pytest.param(
        seen(pipeline(), job=job(), events=[event(JOB_UID, "FailedCreate", NO_SPACE)]),
        f"digits gets no pod: {NO_SPACE}.",
        "kubectl describe quota -n team-a",
        id="quota",
    ),
    pytest.param(
        seen(pipeline(), job=job(), events=[event(JOB_UID, "FailedCreate", RESTRICTED)]),
        RESTRICTED,
        "Pod Security",
        id="Pod Security",
    ),
    pytest.param(
        seen(
            pipeline(),
            job=job(),
            events=[
                event(JOB_UID, "FailedCreate", "old", time="2026-01-01T00:00:00Z"),
                event(
                    JOB_UID, "SuccessfulCreate", "Created pod", "Normal", time=None, eventTime="2026-01-01T00:00:09.5Z"
                ),
            ],
        ),
        "the operator's words",
        "",
        id="a refusal that is over",
    ),
    # --- training
    pytest.param(
        seen(pipeline("Running", feed=SLOW), job=job(), pods=[pod("Running")], nodes=node("True")),
        "digits is training on node gpu-7, step 812 of 2000 (40 %): the data are the bottleneck, 34 % of the time waits "
        "for data (cause PageFaults; the feed can deliver 121 k rows/s, the model could take 337 k).",
        "Try loader.residency: Memory (2 GB of 8 GB).",
        id="training, input bound",
    ),
    pytest.param(
        seen(pipeline("Running", feed=FAST)),
        "digits is training, step 812 of 2000 (40 %): the model is the bottleneck, only 1 % of the time waits for data.",
        "",
        id="training, model bound",
    ),
    pytest.param(
        seen(pipeline("Running"), pods=[pod("Running")]),
        "digits is training on node gpu-7; whether data or model hold it back is not known: rank 0 did not answer.",
        "",
        id="training, no numbers",
    ),
    pytest.param(
        seen(
            pipeline("Running", feed=SLOW),
            job=job(Complete=("True", "CompletionsReached", "")),
            pods=[pod("Succeeded")],
        ),
        "The Job of digits has ended (Complete), and the operator has not looked at it yet.",
        "check that the operator runs",
        id="ended, and nobody noticed",
    ),
]


@pytest.mark.parametrize(("seen", "told", "advice"), CASES)
def test_the_cause_is_named(seen, told, advice):
    assert_told(seen, told, advice)


@pytest.mark.parametrize(("seen", "told", "advice"), CASES)
def test_it_is_one_line_that_ends_once(seen, told, advice):
    assert_plain(seen)


@given(st.text())
def test_what_a_pod_says_stays_bounded_and_harmless(message):
    attempt = {"index": 1, "reason": "UserError", "message": message * 50}
    told = explain(seen(pipeline("UserError", message * 50, succeeded="False", attempts=[attempt]))).sentence
    assert told.isprintable()
    assert len(told) < 1500
