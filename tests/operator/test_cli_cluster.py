"""`feedline submit|status|why|logs|delete` against a real API server: what a person reads, and the exit code.

Nothing runs pods here. The tests are the operator and the kubelet: they write the status that these would write, and
what a controller writes (refused pods, garbage collection) is real.
"""

import json
import os
import queue
import re
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from cluster.api import ApiCluster

from feedline.cli import main
from feedline.cli.cluster import Kind, NotServedError, connect

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "trainingpipelines.feedline.dev.yaml"
DIGITS = str(ROOT / "examples" / "digits" / "pipeline.yaml")
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def cluster(api_level):
    """Start an API server of their own: these tests write what an operator would, which must not be there."""
    with ApiCluster() as cluster:
        cluster.apply(CRD)
        yield cluster


@pytest.fixture
def namespace(cluster):
    return cluster.new_namespace()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str


@pytest.fixture
def feedline(cluster, namespace, monkeypatch, capsys):
    """Return a function that runs a command in the test's namespace."""

    def feedline(*arguments, kubeconfig=cluster.kubeconfig, terminal=False, within=namespace):
        with monkeypatch.context() as patch:
            patch.setenv("KUBECONFIG", str(kubeconfig))
            patch.setattr(sys, "argv", ["feedline", *arguments, *(["-n", within] if within else [])])
            patch.setattr(sys.stdout, "isatty", lambda: terminal)
            with pytest.raises(SystemExit) as ended:
                main()
        output, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return Ended(int(ended.value.code or 0), output, errors)

    return feedline


class World:
    """What operator, kubelet and user would write into the namespace."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    def patch(self, thing, name, change, *arguments):
        change = json.dumps(change)
        self.cluster.kubectl("patch", thing, name, "-n", self.namespace, "--type=merge", "-p", change, *arguments)

    def status(self, name, state, message="the operator's words", succeeded="Unknown", **status):
        """Write a pipeline's status, as the operator does."""
        found = self.cluster.get("tp", name, "-n", self.namespace)
        kinds = {"Succeeded": (succeeded, state, message), "InputBound": ("Unknown", "NoNumbers", "not known")}
        conditions = [
            {"type": kind, "status": each, "reason": reason, "message": said, "lastTransitionTime": NOW}
            for kind, (each, reason, said) in kinds.items()
        ]
        status = {"observedGeneration": found["metadata"]["generation"], "conditions": conditions, **status}
        self.patch("tp", name, {"status": status}, "--subresource=status")

    def job(self, name, *, owner=None, **spec):
        """Make a pipeline's Job, as the operator does, and return it."""
        uid = owner or self.cluster.get("tp", name, "-n", self.namespace)["metadata"]["uid"]
        labels = {"feedline.dev/pipeline": name}
        container = {"name": "trainer", "image": "train:1"}
        self.cluster.apply(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {
                    "name": name,
                    "namespace": self.namespace,
                    "labels": labels,
                    "ownerReferences": [
                        {
                            "apiVersion": "feedline.dev/v1alpha1",
                            "kind": "TrainingPipeline",
                            "name": name,
                            "uid": uid,
                            "controller": True,
                        }
                    ],
                },
                "spec": {
                    "completionMode": "Indexed",
                    "completions": 1,
                    "parallelism": 1,
                    **spec,
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [container], "restartPolicy": "Never", **spec.get("template", {})},
                    },
                },
            }
        )
        return self.cluster.get("job", name, "-n", self.namespace)

    def pod(self, name):
        """Return the pod that the Job's controller makes."""
        return until(lambda: self.pods(name))[0]

    def pods(self, name):
        return self.cluster.get("pods", "-n", self.namespace, "-l", f"feedline.dev/pipeline={name}")["items"]

    def refusal(self):
        """Wait for the controller's event about a pod that is refused."""
        until(lambda: self.cluster.get("events", "-n", self.namespace, "--field-selector=reason=FailedCreate")["items"])


@pytest.fixture
def world(cluster, namespace):
    return World(cluster, namespace)


@pytest.fixture
def digits(feedline, world):
    """Submit the digits example, and let an operator have looked at it."""
    assert feedline("submit", DIGITS).code == 0
    world.status("digits", "Pending", "the Job is being made")
    return "digits"


def until(ask, seconds=60):
    """Wait for something true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


# --- submit ----------------------------------------------------------------------------------------------------------


def test_submit_creates_the_pipeline_and_says_how_to_go_on(feedline, cluster, namespace):
    ended = feedline("submit", DIGITS, "--name", "digits-64", "--set", "spec.loader.batchSize=64", "--backend", "keras")
    assert (ended.code, ended.errors) == (0, "")
    assert f"digits-64 created in namespace {namespace}" in ended.output
    assert "feedline why digits-64" in ended.output
    spec = cluster.get("tp", "digits-64", "-n", namespace)["spec"]
    assert (spec["loader"]["batchSize"], spec["backend"]) == (64, "keras")


def test_a_name_that_is_taken_is_told_with_both_ways_out(feedline, digits):
    ended = feedline("submit", DIGITS)
    assert ended.code == 64
    assert "a pipeline digits is in namespace" in ended.errors
    assert "feedline delete digits --wait" in ended.errors
    assert "--name" in ended.errors


def test_a_wrong_manifest_reaches_no_cluster_and_all_its_problems_are_told(feedline, tmp_path):
    changes = ["--set", "spec.loader.batchSize=0", "--set", "spec.backend=caffe"]
    ended = feedline("submit", DIGITS, *changes, kubeconfig=tmp_path / "none")
    assert ended.code == 64
    assert len(ended.errors.splitlines()) == 2


def test_what_only_the_server_refuses_is_told_in_its_words(feedline):
    ended = feedline("submit", DIGITS, "--set", "metadata.labels.team=a b")
    assert ended.code == 64
    assert 'metadata.labels: Invalid value: "a b"' in ended.errors


def test_a_namespace_that_is_not_there_is_told(feedline):
    ended = feedline("submit", DIGITS, within="nowhere")
    assert ended.code == 64
    assert 'namespaces "nowhere" not found' in ended.errors


def test_the_namespace_of_the_file_counts_and_another_one_must_not_be_asked_for(feedline, cluster, namespace):
    own = ["submit", DIGITS, "--set", f"metadata.namespace={namespace}"]
    assert feedline(*own, within=None).code == 0
    assert cluster.get("tp", "digits", "-n", namespace)
    ended = feedline(*own, within="default")
    assert ended.code == 64
    assert f"the manifest's metadata.namespace is {namespace}" in ended.errors


@pytest.fixture
def waiting(cluster, namespace):
    """Start `feedline submit --wait`, and give its lines as they come."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from feedline.cli import main; main()", "submit", DIGITS, "--wait", "-n", namespace],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "trainer-image"),
            "KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = queue.Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout])
    reader.start()
    assert "created" in lines.get(timeout=60)
    yield SimpleNamespace(process=process, line=lambda: lines.get(timeout=60))
    process.kill()
    process.wait()
    reader.join()
    process.stdout.close()
    process.stderr.close()


def test_wait_tells_each_state_as_it_comes_and_ends_when_the_pipeline_is_deleted(waiting, world, cluster, namespace):
    for state, message in (("Pending", "the Job is being made"), ("Running", "step 1"), ("Running", "step 2")):
        world.status("digits", state, message)
        assert re.fullmatch(rf"\d\d:\d\d:\d\d  {state}: {message}\n", waiting.line())
    cluster.kubectl("delete", "tp", "digits", "-n", namespace)
    assert waiting.process.wait(timeout=60) == 66
    assert "digits was deleted before it had finished" in waiting.process.stderr.read()


@pytest.mark.parametrize(
    ("state", "succeeded", "status", "code", "told"),
    [
        pytest.param("Completed", "True", {}, 0, "digits is Completed: the operator's words.", id="good"),
        pytest.param(
            "DataInvalid",
            "False",
            {"report": {"exitCode": 65}},
            65,
            "digits failed, DataInvalid:",
            id="bad, with a code",
        ),
        pytest.param("OutOfMemory", "False", {}, 1, "Raise spec.resources.memory", id="bad, without a code"),
    ],
)
def test_wait_ends_with_the_code_of_the_run(feedline, world, cluster, namespace, state, succeeded, status, code, told):
    def finish():
        cluster.kubectl("wait", "--for=create", "tp/digits", "-n", namespace, "--timeout=50s")
        world.status("digits", state, succeeded=succeeded, **status)

    operator = threading.Thread(target=finish)
    operator.start()
    ended = feedline("submit", DIGITS, "--wait")
    operator.join()
    assert ended.code == code
    assert told in ended.output


# --- status ----------------------------------------------------------------------------------------------------------

FEED = {
    "steps": 812,
    "targetSteps": 2000,
    "samplesPerSecond": 118_000,
    "waitPermille": 341,
    "observedTime": NOW,
    "values": {"loss": "0.12"},
    "verdict": {"inputBound": True, "cause": "PageFaults", "advice": "Try loader.residency: Memory."},
}
ATTEMPTS = [
    {"index": 2, "pod": "digits-0-b", "uid": "b", "startTime": NOW, "node": "gpu-7"},
    {
        "index": 1,
        "pod": "digits-0-a",
        "uid": "a",
        "startTime": NOW,
        "endTime": NOW,
        "node": "gpu-6",
        "reason": "IOError",
        "exitCode": 74,
        "message": "disk\x1b[2J away",
    },
]


def test_without_a_name_it_is_the_table_of_kubectl(feedline, cluster, namespace, digits, world):
    world.status(digits, "Running", feed=FEED, attempts=ATTEMPTS)
    shown = feedline("status").output.splitlines()
    theirs = cluster.kubectl("get", "tp", "-n", namespace).stdout.splitlines()
    assert [line.split()[:-1] for line in shown] == [line.split()[:-1] for line in theirs]
    assert shown[1].split()[:6] == ["digits", "pytorch", "Running", "812", "118000", "341"]


def test_an_empty_namespace_is_told(feedline, namespace):
    assert f"no pipelines in namespace {namespace}" in feedline("status").output


def test_with_a_name_it_tells_state_progress_verdict_attempts_and_conditions(feedline, digits, world):
    world.status(digits, "Running", "step 812 of 2000", feed=FEED, attempts=ATTEMPTS)
    shown = feedline("status", digits).output
    for told in (
        "Running: step 812 of 2000",
        "812 of 2000 (40 %)",
        "118 k rows/s",
        "34 %",
        "the data are the bottleneck",
        "Try loader.residency: Memory",
        "0.12",
        "digits-0-b  gpu-7",
        "IOError",
        "74",
        "disk away",
        "InputBound",
        "NoNumbers",
    ):
        assert told in shown
    assert "\x1b" not in shown


def test_json_is_the_object_of_the_cluster(feedline, digits):
    assert json.loads(feedline("status", digits, "--json").output)["metadata"]["name"] == digits
    assert [each["metadata"]["name"] for each in json.loads(feedline("status", "--json").output)] == [digits]


def test_a_pipeline_that_nobody_has_looked_at_is_told(feedline):
    feedline("submit", DIGITS)
    assert "no operator has looked at it yet: feedline why digits" in feedline("status", "digits").output


@pytest.mark.parametrize("command", ["status", "logs", "delete", "why"])
def test_a_pipeline_that_is_not_there_is_66(feedline, namespace, command):
    ended = feedline(command, "nothing")
    assert ended.code == 66
    assert re.search(rf"here is no pipeline nothing in namespace {namespace}", ended.output + ended.errors)


# --- why -------------------------------------------------------------------------------------------------------------


def test_why_a_pipeline_waits_for_an_operator(feedline):
    feedline("submit", DIGITS)
    ended = feedline("why", "digits")
    assert ended.code == 0
    sentence, advice = ended.output.splitlines()
    assert sentence == "No feedline operator has looked at digits yet."
    assert advice.startswith("What to do: Check that the operator runs")


def test_why_a_quota_refuses_its_pod(feedline, digits, world, cluster, namespace):
    cluster.kubectl("create", "quota", "small", "--hard=pods=0", "-n", namespace)
    world.job(digits)
    world.refusal()
    told = feedline("why", digits).output
    assert "digits gets no pod" in told
    assert "exceeded quota: small" in told
    assert f"kubectl describe quota -n {namespace}" in told


def test_why_pod_security_refuses_its_pod(feedline, digits, world, cluster, namespace):
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    world.job(digits)
    world.refusal()
    told = feedline("why", digits).output
    assert 'violates PodSecurity "restricted:latest"' in told
    assert "What to do: Change what the message names in spec.pod" in told


def test_why_a_service_account_that_is_not_there_holds_it_back(feedline, digits, world):
    world.job(digits, template={"serviceAccountName": "nobody"})
    world.refusal()
    told = feedline("why", digits).output
    assert 'serviceaccount "nobody" not found' in told
    assert "What to do: Create the ServiceAccount" in told


def test_why_no_node_takes_its_pod(feedline, digits, world):
    world.job(digits)
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    name = world.pod(digits)["metadata"]["name"]
    world.patch("pod", name, {"status": {"conditions": [condition]}}, "--subresource=status")
    told = feedline("why", digits).output
    assert "digits waits for a node: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.\n" in told


def test_why_a_node_that_is_lost_holds_it_back(feedline, digits, world, cluster, namespace):
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"lost-{namespace}"}})
    lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting."}
    world.patch("node", f"lost-{namespace}", {"status": {"conditions": [lost]}}, "--subresource=status")
    world.job(digits, template={"nodeName": f"lost-{namespace}"})
    name = world.pod(digits)["metadata"]["name"]
    cluster.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")
    told = feedline("why", digits).output
    assert f"its pod {name} is on node lost-{namespace}, which is not ready (Kubelet stopped posting)" in told
    assert f"kubectl delete pod {name} -n {namespace} --force" in told
    cluster.kubectl("delete", "node", f"lost-{namespace}")


def test_why_another_job_of_that_name_is_in_the_way(feedline, digits, world, cluster, namespace):
    cluster.kubectl("create", "job", digits, "--image=x", "-n", namespace)
    assert "a Job of that name is there that is not its own" in feedline("why", digits).output


@pytest.fixture
def kueue(cluster):
    """Serve Workloads in Kueue's older version."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Workload", "plural": "workloads", "singular": "workload"}
    cluster.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": "workloads.kueue.x-k8s.io",
                "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
            },
            "spec": {"group": "kueue.x-k8s.io", "scope": "Namespaced", "names": names, "versions": [version]},
        }
    )
    yield
    cluster.kubectl("delete", "crd", "workloads.kueue.x-k8s.io")


def test_why_a_queue_holds_it_back(feedline, digits, world, cluster, namespace, kueue):
    job = world.job(digits, suspend=True)
    held = {"type": "QuotaReserved", "status": "False", "reason": "WaitingForQuota", "message": "1 GPU more is needed"}
    cluster.apply(
        {
            "apiVersion": "kueue.x-k8s.io/v1beta1",
            "kind": "Workload",
            "metadata": {
                "name": "job-digits",
                "namespace": namespace,
                "labels": {"kueue.x-k8s.io/job-uid": job["metadata"]["uid"]},
            },
            "spec": {"active": True},
            "status": {"conditions": [held]},
        }
    )
    assert feedline("why", digits).output == "digits waits in its queue: 1 GPU more is needed.\n"


def test_why_without_kueue_a_suspended_job_is_still_told(feedline, digits, world):
    world.job(digits, suspend=True)
    assert "its Job is suspended, not by itself, and no reason can be read" in feedline("why", digits).output


def test_why_a_server_without_image_volumes_leaves_it_without_data(feedline, oldest_api_cluster):
    oldest_api_cluster.apply(CRD)
    namespace = oldest_api_cluster.new_namespace()
    use = {"kubeconfig": oldest_api_cluster.kubeconfig, "within": namespace}
    feedline("submit", DIGITS, "--set", "spec.data.volumes.digits.image.reference=digits:1", **use)
    world = World(oldest_api_cluster, namespace)
    world.status("digits", "Starting")
    world.job("digits", template={"volumes": [{"name": "digits", "image": {"reference": "digits:1"}}]})
    told = feedline("why", "digits", **use).output
    assert "its volume digits is an image, which this cluster leaves out" in told
    assert "needs Kubernetes 1.35 or newer, and this is 1.34." in told


def test_why_it_is_no_faster(feedline, digits, world):
    world.status(digits, "Running", feed=FEED)
    assert feedline("why", digits).output == (
        "digits is training, step 812 of 2000 (40 %): the data are the bottleneck, 34 % of the time waits for data "
        "(cause PageFaults).\nWhat to do: Try loader.residency: Memory.\n"
    )


# --- logs ------------------------------------------------------------------------------------------------------------

LOG = [
    (b"2026-01-01T00:00:01.123456789Z", b'{"level":"INFO","message":"epoch 1"}'),
    (b"2026-01-01T00:00:02Z", b"  File \x1b[1mown.py\x1b[0m"),
    (b"2026-01-01T00:00:03Z", b'{"level":"ERROR","message":{"reason":"UserError","message":"no"}}'),
]


class Kubelet(BaseHTTPRequestHandler):
    """Answers as a kubelet that runs one container, which writes `LOG`, and after the first line waits."""

    asked: queue.Queue
    go_on: threading.Event

    def do_GET(self):
        self.asked.put(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        for stamp, line in LOG:
            self.wfile.write((stamp + b" " if "timestamps=true" in self.path else b"") + line + b"\n")
            assert self.go_on.wait(timeout=60)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def kubelet(cluster, namespace, world, tmp_path):
    """Put a node into the cluster whose kubelet answers, and return its name and what it is asked."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=kubelet", "-days", "2"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = type("Kubelet", (Kubelet,), {"asked": queue.Queue(), "go_on": threading.Event()})
    handler.go_on.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    name = f"node-{namespace}"
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_address[1]}},
    }
    world.patch("node", name, {"status": status}, "--subresource=status")
    yield SimpleNamespace(node=name, asked=handler.asked, go_on=handler.go_on)
    cluster.kubectl("delete", "node", name)
    server.shutdown()
    server.server_close()
    thread.join()


def test_into_a_pipe_the_log_comes_byte_by_byte(feedline, digits, world, kubelet):
    world.job(digits, template={"nodeName": kubelet.node})
    world.pod(digits)
    ended = feedline("logs", digits, "-f")
    assert ended.code == 0
    assert ended.output.encode() == b"".join(line + b"\n" for _, line in LOG)
    assert "/trainer?follow=true" in kubelet.asked.get(timeout=60)


def test_a_log_comes_as_it_is_written(digits, world, kubelet, cluster, namespace):
    world.job(digits, template={"nodeName": kubelet.node})
    pod = world.pod(digits)["metadata"]["name"]
    kubelet.go_on.clear()
    pieces = connect(namespace, None, str(cluster.kubeconfig)).log(pod, "trainer", follow=True, timestamps=False)
    assert next(pieces) == LOG[0][1] + b"\n"
    kubelet.go_on.set()
    assert b"".join(pieces) == b"".join(line + b"\n" for _, line in LOG[1:])


def test_on_a_terminal_it_is_time_level_and_message(feedline, digits, world, kubelet, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    world.job(digits, template={"nodeName": kubelet.node})
    world.pod(digits)
    assert feedline("logs", digits, terminal=True).output.splitlines() == [
        "00:00:01  INFO    epoch 1",
        "00:00:02            File own.py",
        "00:00:03  ERROR   UserError: no",
    ]
    raw = feedline("logs", digits, "--raw", terminal=True).output
    assert raw.splitlines()[0] == LOG[0][1].decode()


def test_an_attempt_is_chosen_by_its_number(feedline, digits, world, kubelet):
    world.job(digits, template={"nodeName": kubelet.node})
    metadata = world.pod(digits)["metadata"]
    gone = {"index": 1, "pod": "digits-0-gone", "uid": "x", "endTime": NOW, "reason": "OutOfMemory", "exitCode": 137}
    newest = {"index": 2, "pod": metadata["name"], "uid": metadata["uid"]}
    world.status(digits, "Running", attempts=[newest, gone])
    assert feedline("logs", digits).output == feedline("logs", digits, "--attempt", "2").output != ""
    for arguments in (["--attempt", "1"], ["--previous"]):
        ended = feedline("logs", digits, *arguments)
        assert ended.code == 66
        assert (
            f"the log of attempt 1 is gone with its pod digits-0-gone; it ended (OutOfMemory, exit code 137, at {NOW})"
            in ended.errors
        )
    ended = feedline("logs", digits, "--attempt", "9")
    assert ended.code == 66
    assert "nothing is known of attempt 9 of digits, only of 1, 2" in ended.errors


def test_a_pipeline_without_a_pod_has_no_log(feedline, digits):
    ended = feedline("logs", digits)
    assert ended.code == 66
    assert "digits has had no pod yet (Pending): see `feedline why digits`" in ended.errors


def test_a_pod_without_a_node_has_no_log_yet(feedline, digits, world):
    world.job(digits)
    world.pod(digits)
    ended = feedline("logs", digits)
    assert ended.code == 75
    assert "no log yet: the pod waits for a node" in ended.errors


# --- delete ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_delete_takes_job_and_pods_along(feedline, digits, world, cluster, namespace, cascade):
    world.job(digits)
    world.pod(digits)
    ended = feedline("delete", digits, "--cascade", cascade, "--wait")
    assert (ended.code, ended.errors) == (0, "")
    assert ended.output == f"digits deleted from namespace {namespace}\n"
    assert cluster.get("tp,jobs,pods", "-n", namespace)["items"] == []


def test_what_is_left_after_the_wait_is_named(feedline, digits, world, monkeypatch):
    monkeypatch.setattr(sys.modules["feedline.cli.delete"], "_WAIT_SECONDS", 1.0)
    world.job(digits)
    name = world.pod(digits)["metadata"]["name"]
    world.patch("pod", name, {"metadata": {"finalizers": ["feedline.dev/test"]}})
    ended = feedline("delete", digits, "--wait")
    world.patch("pod", name, {"metadata": {"finalizers": []}})
    assert ended.code == 75
    assert f"still there after 1 s: pod {name}" in ended.errors


def test_of_several_the_missing_ones_are_named_and_the_others_are_deleted(feedline, digits, cluster, namespace):
    ended = feedline("delete", "nothing", digits)
    assert ended.code == 66
    assert f"there is no pipeline nothing in namespace {namespace}" in ended.errors
    assert cluster.get("tp", "-n", namespace)["items"] == []


# --- rights, and how one gets there ----------------------------------------------------------------------------------


@pytest.fixture
def person(cluster, namespace):
    """Return a function that gives a kubeconfig of somebody who may do only this."""

    def person(verb, resource):
        cluster.kubectl("create", "role", "limited", f"--verb={verb}", f"--resource={resource}", "-n", namespace)
        user = f"--serviceaccount={namespace}:default"
        cluster.kubectl("create", "rolebinding", "limited", "--role=limited", user, "-n", namespace)
        return cluster.kubeconfig_for(namespace, "default")

    return person


def test_why_works_for_somebody_who_may_read_only_pipelines(feedline, digits, world, person):
    world.job(digits, suspend=True)
    world.status(digits, "Running", feed=FEED)
    ended = feedline("why", digits, kubeconfig=person("get", "trainingpipelines.feedline.dev"), within=None)
    assert ended.code == 0
    assert "digits is training" in ended.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["status"], "you may not list trainingpipelines in namespace", id="status"),
        pytest.param(["why", "digits"], "you may not read trainingpipelines in namespace", id="why"),
        pytest.param(["submit", DIGITS], "you may not create trainingpipelines in namespace", id="submit"),
        pytest.param(["delete", "digits"], "you may not read trainingpipelines in namespace", id="delete"),
    ],
)
def test_who_may_not_is_told_what(feedline, person, arguments, told):
    ended = feedline(*arguments, kubeconfig=person("get", "configmaps"))
    assert ended.code == 78
    assert told in ended.errors


def test_a_wrong_token_is_told(feedline, cluster, tmp_path):
    stale = tmp_path / "kubeconfig"
    stale.write_text(re.sub(r'"token": "\w+"', '"token": "old"', cluster.kubeconfig.read_text()))
    ended = feedline("status", kubeconfig=stale)
    assert ended.code == 78
    assert "does not know who you are" in ended.errors


def test_a_kind_that_the_cluster_does_not_know_is_told(cluster):
    with pytest.raises(NotServedError, match="is feedline installed there"):
        connect(None, None, str(cluster.kubeconfig)).find_all(Kind("apis/feedline.dev/v9", "trainingpipelines"))


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        pytest.param(None, 78, "there is no kubeconfig", id="none"),
        pytest.param("[1, 2]", 78, "cannot be used", id="a list"),
        pytest.param("a: [", 78, "cannot be used", id="no YAML"),
        pytest.param("", 78, "is empty", id="empty"),
        pytest.param(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c"}}],
                    "current-context": "c",
                }
            ),
            75,
            "the API server 127.0.0.1:1 cannot be reached (Connection refused)",
            id="nobody there",
        ),
    ],
)
def test_without_a_cluster_it_is_one_sentence(feedline, tmp_path, content, code, told):
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    ended = feedline("status", kubeconfig=path)
    assert ended.code == code
    assert told in ended.errors
    assert len(ended.errors.splitlines()) == 1


def test_a_name_that_is_none_asks_for_nothing_else(feedline):
    ended = feedline("delete", "..")
    assert ended.code == 64
    assert 'the name ".." is none' in ended.errors


def test_as_a_plugin_of_kubectl_it_bears_that_name(cluster, namespace, tmp_path, monkeypatch):
    plugin = tmp_path / "kubectl-feedline"
    plugin.write_text(f"#!{sys.executable}\nfrom feedline.cli import main\nmain()\n")
    plugin.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "trainer-image"),
        "KUBECONFIG": str(cluster.kubeconfig),
    }

    def kubectl(*arguments):
        command = [cluster._kubectl, "feedline", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    ended = kubectl("why", "nothing", "-n", namespace)
    assert ended.returncode == 66
    assert ended.stdout.startswith(f"There is no pipeline nothing in namespace {namespace}.")
    shown = kubectl("why", "--help").stdout
    assert "Usage: kubectl feedline why" in shown
    assert "kubectl feedline why digits" in shown
