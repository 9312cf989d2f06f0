"""`feedline why` against a real API server: what holds a pipeline up there is what it tells."""

import pytest
from standins import CRD, DIGITS, FEED, StandIns


def test_why_a_pipeline_waits_for_an_operator(feedline):
    feedline("submit", DIGITS)
    ended = feedline("why", "digits")
    assert ended.code == 0
    sentence, advice = ended.output.splitlines()
    assert sentence == "No feedline operator has looked at digits yet."
    assert advice.startswith("What to do: Check that the operator runs")


def test_why_a_quota_refuses_its_pod(feedline, digits, standins, cluster, namespace):
    cluster.kubectl("create", "quota", "small", "--hard=pods=0", "-n", namespace)
    standins.job(digits)
    standins.refusal()
    told = feedline("why", digits).output
    assert "digits gets no pod" in told
    assert "exceeded quota: small" in told
    assert f"kubectl describe quota -n {namespace}" in told


def test_why_pod_security_refuses_its_pod(feedline, digits, standins, cluster, namespace):
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    standins.job(digits)
    standins.refusal()
    told = feedline("why", digits).output
    assert 'violates PodSecurity "restricted:latest"' in told
    assert "What to do: Change what the message names in spec.pod" in told


def test_why_a_service_account_that_is_not_there_holds_it_back(feedline, digits, standins):
    standins.job(digits, template={"serviceAccountName": "nobody"})
    standins.refusal()
    told = feedline("why", digits).output
    assert 'serviceaccount "nobody" not found' in told
    assert "What to do: Create the ServiceAccount" in told


def test_why_no_node_takes_its_pod(feedline, digits, standins):
    standins.job(digits)
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available"
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    name = standins.pod(digits)["metadata"]["name"]
    standins.patch("pod", name, {"status": {"conditions": [condition]}}, "--subresource=status")
    told = feedline("why", digits).output
    assert "digits waits for a node: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.\n" in told


def test_why_a_node_that_is_lost_holds_it_back(feedline, digits, standins, cluster, namespace):
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"lost-{namespace}"}})
    lost = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting."}
    standins.patch("node", f"lost-{namespace}", {"status": {"conditions": [lost]}}, "--subresource=status")
    standins.job(digits, template={"nodeName": f"lost-{namespace}"})
    name = standins.pod(digits)["metadata"]["name"]
    cluster.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")
    told = feedline("why", digits).output
    assert f"its pod {name} is on node lost-{namespace}, which is not ready (Kubelet stopped posting)" in told
    assert f"kubectl delete pod {name} -n {namespace} --force" in told
    cluster.kubectl("delete", "node", f"lost-{namespace}")


def test_why_a_pod_on_another_node_holds_its_volume(feedline, digits, standins, cluster, namespace):
    for name in ("own", "other"):
        cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"{name}-{namespace}"}})
    volumes = [{"name": "data-0", "persistentVolumeClaim": {"claimName": "digits"}}]
    standins.job(digits, template={"nodeName": f"own-{namespace}", "volumes": volumes})
    own = standins.pod(digits)["metadata"]
    other = {"nodeName": f"other-{namespace}", "volumes": volumes, "containers": [{"name": "x", "image": "x"}]}
    holder = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "holder", "namespace": namespace}, "spec": other}
    cluster.apply(holder)
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": own["name"], "uid": own["uid"]}
    told = {
        "FailedAttachVolume": 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) holder',
        "FailedMount": "Unable to attach or mount volumes: unmounted volumes=[data-0]: timed out waiting for the condition",
    }
    for minute, (reason, message) in enumerate(told.items()):
        cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": reason.lower(), "namespace": namespace},
                "involvedObject": about,
                "type": "Warning",
                "reason": reason,
                "message": message,
                "lastTimestamp": f"2026-01-01T00:{minute:02}:00Z",
            }
        )
    # Nothing runs on the node that would say so, and the controllers take a silent one for lost after a minute.
    ready = '{"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}}'
    cluster.kubectl("patch", "node", f"own-{namespace}", "--subresource=status", "--type=strategic", "-p", ready)
    assert feedline("why", digits).output == (
        f"digits cannot start on node own-{namespace}: volume digits (claim digits) is attached to node "
        f"other-{namespace}, where pod holder uses it, and ReadWriteOnce allows one node.\n"
        "What to do: Delete that pod, or use a ReadWriteMany claim.\n"
    )
    for name in ("own", "other"):
        cluster.kubectl("delete", "node", f"{name}-{namespace}")


def test_why_another_job_of_that_name_is_in_the_way(feedline, digits, standins, cluster, namespace):
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


def test_why_a_queue_holds_it_back(feedline, digits, standins, cluster, namespace, kueue):
    job = standins.job(digits, suspend=True)
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


def test_why_without_kueue_a_suspended_job_is_still_told(feedline, digits, standins):
    standins.job(digits, suspend=True)
    assert "its Job is suspended, not by itself, and no reason can be read" in feedline("why", digits).output


def test_why_a_server_without_image_volumes_leaves_it_without_data(feedline, oldest_api_cluster):
    oldest_api_cluster.apply(CRD)
    namespace = oldest_api_cluster.new_namespace()
    use = {"kubeconfig": oldest_api_cluster.kubeconfig, "within": namespace}
    feedline("submit", DIGITS, "--set", "spec.data.volumes.digits.image.reference=digits:1", **use)
    standins = StandIns(oldest_api_cluster, namespace)
    standins.status("digits", "Starting")
    standins.job("digits", template={"volumes": [{"name": "digits", "image": {"reference": "digits:1"}}]})
    told = feedline("why", "digits", **use).output
    assert "its volume digits is an image, which this cluster leaves out" in told
    assert "needs Kubernetes 1.35 or newer, and this is 1.34." in told


def test_why_it_is_no_faster(feedline, digits, standins):
    standins.status(digits, "Running", feed=FEED)
    assert feedline("why", digits).output == (
        "digits is training, step 812 of 2000 (40 %): the data are the bottleneck, 34 % of the time waits for data "
        "(cause PageFaults).\nWhat to do: Try loader.residency: Memory.\n"
    )
