"""What a person reads when a real pod does not start, dies, or is to go."""

import json

from cluster.operators import eventually

ONE_CPU = {"cpu": "1", "memory": "2Gi"}
LONG = {"epochs": None, "seconds": 600}


def message(found):
    return found["conditions"]["Succeeded"]["message"]


def until_it_trains(pipeline, name):
    """Wait for the first steps: a container runs for some seconds of imports before it does."""
    eventually(lambda: pipeline(name)["status"].get("feed", {}).get("steps"), f"{name} trains", 120)


def test_what_keeps_a_pod_from_starting_is_said_in_one_message(submit, becomes, pipeline, cluster, namespace):
    volumes = [{"name": "digits", "persistentVolumeClaim": {"claimName": "nowhere"}}]
    claimless = submit(name="claimless", data={"volumes": volumes}, resources=ONE_CPU)
    imageless = submit(name="imageless", image="registry.invalid/trainer:1", resources=ONE_CPU)
    source = {"entrypoint": "own:train", "source": {"configMap": {"name": "missing-code"}}}
    codeless = submit(name="codeless", train=source, resources={"cpu": "100m"})
    assert 'persistentvolumeclaim "nowhere" not found' in message(becomes(claimless, "Pending"))
    assert "registry.invalid/trainer:1" in message(becomes(imageless, "ImagePullFailed"))
    eventually(lambda: "missing-code" in message(pipeline(codeless)), "the missing ConfigMap is named", 90)
    for name in (claimless, imageless, codeless):
        cluster.kubectl("delete", "tp", name, "-n", namespace)


def test_accelerators_are_scheduled_and_one_too_many_says_why_it_waits(submit, becomes, cluster, namespace):
    capacity = {"status": {"capacity": {"nvidia.com/gpu": "4"}}}
    cluster.kubectl("patch", "node", cluster.node_name, "--subresource=status", "-p", json.dumps(capacity))
    accelerator = {"resourceName": "nvidia.com/gpu", "count": 1}
    fits = submit(name="fits", train=LONG, resources={**ONE_CPU, "accelerator": accelerator})
    big = submit(name="big", train=LONG, resources={**ONE_CPU, "accelerator": {**accelerator, "count": 8}})
    becomes(fits, "Running")
    assert "Insufficient nvidia.com/gpu" in message(becomes(big, "Pending"))
    cluster.kubectl("delete", "tp", fits, big, "-n", namespace)


def test_a_pipeline_that_is_deleted_while_it_trains_leaves_nothing(submit, becomes, pipeline, cluster, namespace):
    name = submit(train=LONG, resources=ONE_CPU)
    becomes(name, "Running")
    until_it_trains(pipeline, name)
    cluster.kubectl("delete", "tp", name, "-n", namespace)

    def left():
        return cluster.kubectl("get", "tp,job,pod", "-n", namespace, "-o", "name").stdout.split()

    eventually(lambda: not left(), "nothing is left", 30)


def test_an_evicted_pod_is_replaced_and_not_counted(submit, becomes, cluster, namespace):
    name = submit(train=LONG, resources=ONE_CPU, policy={"maxRetries": 0})
    pod = becomes(name, "Running")["status"]["attempts"][0]["pod"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    url = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    cluster.kubectl("create", "--raw", url, "-f", "-", input=json.dumps(eviction))
    again = eventually(
        lambda: (
            (found := becomes(name, "Running", "Retrying", "Starting"))
            and len(found["status"]["attempts"]) == 2
            and found
        ),
        "a second attempt",
        90,
    )
    newest, evicted = again["status"]["attempts"]
    assert (newest["index"], evicted["reason"]) == (2, "EvictionByEvictionAPI")
    assert again["status"]["failures"] == 0
    cluster.kubectl("delete", "tp", name, "-n", namespace)


def test_a_container_over_its_memory_limit_ends_as_out_of_memory(submit, becomes):
    name = submit(resources={"cpu": "1", "memory": "40Mi"}, policy={"maxRetries": 0})
    failed = becomes(name, "OutOfMemory")
    assert "spec.resources.memory" in message(failed)


def test_suspend_frees_the_node_and_resume_trains_again(submit, becomes, pipeline, cluster, namespace):
    name = submit(train=LONG, resources=ONE_CPU)
    becomes(name, "Running")
    until_it_trains(pipeline, name)
    patch = ("patch", "tp", name, "-n", namespace, "--type=merge", "-p")
    cluster.kubectl(*patch, '{"spec":{"suspend":true}}')
    becomes(name, "Suspended")
    eventually(lambda: not cluster.get("pods", "-n", namespace)["items"], "the pod is gone", 60)
    (attempt,) = eventually(
        lambda: (found := pipeline(name)["status"]["attempts"]) and "endTime" in found[0] and found,
        "the status tells how the pod ended",
        60,
    )
    assert attempt["exitCode"] == 143
    assert becomes(name, "Suspended")["status"]["activeSeconds"] > 0
    cluster.kubectl(*patch, '{"spec":{"suspend":false}}')
    assert becomes(name, "Running")["status"]["attempts"][0]["index"] == 2
    cluster.kubectl("delete", "tp", name, "-n", namespace)
