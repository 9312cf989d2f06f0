"""Why nothing runs: in one readable message, wherever Kubernetes hides it, and it goes on when the cause is gone."""

import pytest
from cluster.operators import eventually
from cluster.rest import CORE, MERGE_PATCH

UNSCHEDULABLE = '0/1 nodes are available: persistentvolumeclaim "digits" not found. preemption: not eligible.'
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


def quota(world, **hard):
    world.rest.do(
        "POST",
        f"{CORE}/namespaces/{world.namespace}/resourcequotas",
        {"metadata": {"name": "tight"}, "spec": {"hard": hard}},
    )

    path = f"{CORE}/namespaces/{world.namespace}/resourcequotas/tight"
    eventually(lambda: world.rest.find(path)["status"].get("hard") == hard, "the quota is in force")
    return path


def test_a_quota_that_takes_no_pod_is_told_and_when_lifted_it_goes_on(world):
    path = quota(world, pods="0")
    world.submit()
    world.becomes("Pending", says="Kubernetes refuses to create the pod", seconds=90)
    assert "exceeded quota: tight" in world.state()["conditions"]["Succeeded"]["message"]
    world.rest.do("DELETE", path)
    pod = world.pod_of(seconds=120)
    world.kubelet.run(pod)
    world.becomes("Running")


def test_a_quota_that_takes_no_job_is_told_and_when_lifted_it_goes_on(world):
    path = quota(world, **{"count/jobs.batch": "0"})
    world.submit()
    world.becomes("Pending", says="exceeded quota: tight")
    world.rest.do("DELETE", path)
    world.job_of(seconds=90)
    world.completes()


def test_a_policy_that_takes_no_pod_is_told(world):
    name = f"no-pods-{world.namespace}"
    never = {"expression": "false", "message": "pods rest on Sundays"}
    spec = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [PODS]}, "validations": [never]}
    inside = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}}
    bound = {"policyName": name, "validationActions": ["Deny"], "matchResources": inside}
    policies = f"{ADMISSION}/validatingadmissionpolicies"
    world.rest.do("POST", policies, {"metadata": {"name": name}, "spec": spec})
    world.rest.do("POST", f"{ADMISSION}/validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": bound})
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    path = f"{CORE}/namespaces/{world.namespace}/pods"
    eventually(lambda: world.rest.ask("POST", path, pod, dryRun="All")[0] == 422, "the policy is in force")
    world.submit()
    told = world.becomes("Pending", says="Kubernetes refuses to create the pod", seconds=90)
    assert "pods rest on Sundays" in told["conditions"]["Succeeded"]["message"]
    world.rest.do("DELETE", f"{ADMISSION}/validatingadmissionpolicybindings/{name}")
    world.rest.do("DELETE", f"{policies}/{name}")


def test_the_pod_security_level_restricted_takes_our_pods(world):
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    path = f"{CORE}/namespaces/{world.namespace}"
    world.rest.do("PATCH", path, {"metadata": {"labels": labels}}, content=MERGE_PATCH)
    bare = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    eventually(lambda: world.rest.ask("POST", f"{path}/pods", bare, dryRun="All")[0] == 403, "the level is in force")
    world.submit(
        pod={"securityContext": {"runAsUser": 1000, "fsGroup": 2000}},
        train={
            "source": {"configMap": {"name": "code"}},
            "entrypoint": None,
            "command": ["python", "loop.py"],
            "epochs": 1,
        },
    )
    world.completes()


def test_a_claim_that_does_not_exist_is_told_in_the_scheduler_s_words(world):
    world.submit()
    pod = world.pod_of()
    world.kubelet.write(
        pod,
        conditions=[
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNSCHEDULABLE},
        ],
    )
    told = world.becomes("Pending", says="No node takes the pod")
    assert UNSCHEDULABLE in told["conditions"]["Succeeded"]["message"]
    world.kubelet.run(pod)
    world.becomes("Running")


def test_a_volume_that_cannot_be_mounted_is_told_from_its_event(world):
    world.submit()
    pod = world.pod_of()
    world.kubelet.bind(pod)
    world.kubelet.wait(pod, "ContainerCreating", "")
    about = {
        "kind": "Pod",
        "namespace": world.namespace,
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
    }
    event = {
        "metadata": {"name": "mount", "namespace": world.namespace},
        "involvedObject": {"apiVersion": "v1", **about},
        "type": "Warning",
        "reason": "FailedMount",
        "message": "MountVolume.SetUp failed for volume\n\x1b[31mdata-0: no such export",
    }
    world.rest.do("POST", f"{CORE}/namespaces/{world.namespace}/events", event)
    told = world.becomes("Starting", says="The pod cannot start", seconds=90)
    message = told["conditions"]["Succeeded"]["message"]
    assert message == "The pod cannot start: MountVolume.SetUp failed for volume [31mdata-0: no such export"


def test_a_job_that_kubernetes_finds_invalid_is_an_invalid_spec(world):
    world.submit(pod={"nodeSelector": {"not a label!": "x"}})
    failed = world.becomes("InvalidSpec", says="not a label!")
    assert failed["conditions"]["Accepted"]["status"] == "False"
    assert world.job() is None


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(
            {"train": {"entrypoint": "a:b", "epochs": 1, "parameters": {"layers": [1, 2]}}},
            "spec.train.parameters.layers: must be a string, a number or a boolean",
            id="a parameter that is no scalar",
        ),
        pytest.param(
            {"train": {"entrypoint": "a:b", "epochs": 1, "parameters": {"text": "x" * 140_000}}},
            "a pod takes at most 131072",
            id="a manifest that no pod takes",
        ),
    ],
)
def test_what_only_the_operator_can_see_of_a_spec_is_told(world, spec, said):
    world.submit(**spec)
    failed = world.becomes("InvalidSpec", says=said)
    assert failed["conditions"]["Accepted"]["status"] == "False"
    assert world.job() is None


def test_a_node_that_does_not_confirm_the_end_of_a_pod_is_named_with_the_remedy(world):
    world.submit(pod={"terminationGracePeriodSeconds": 1})
    pod = world.runs()
    world.delete_pod(pod)
    world.becomes("Retrying", says=f"is being taken off node {world.node}")
    told = world.becomes("Retrying", says=f"Node {world.node} does not confirm", seconds=90)
    assert f"kubectl delete node {world.node}" in told["conditions"]["Succeeded"]["message"]
    assert [each["metadata"]["uid"] for each in world.pods()] == [pod["metadata"]["uid"]]


def test_the_pod_of_a_deleted_node_is_replaced_and_not_counted(world):
    world.submit(policy={"maxRetries": 0})
    pod = world.runs()
    world.rest.do("DELETE", f"{CORE}/nodes/{world.node}")
    # Kubernetes waits 40 s for the node to come back, and looks every 20 s.
    other = world.pod_of(after=(pod,), seconds=120)
    world.rest.do("POST", f"{CORE}/nodes", {"metadata": {"name": world.node}})
    world.kubelet.run(other)
    world.becomes("Running")
    world.ends(other, 0)
    done = world.becomes("Completed")
    assert [attempt["reason"] for attempt in done["status"]["attempts"]] == ["Completed", "DeletionByPodGC"]
    assert done["status"]["failures"] == 0
