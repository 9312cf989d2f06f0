"""A real Kueue holds pipelines back, admits all pods of one or none, takes them back, and is asked why."""

import subprocess
import sys
from pathlib import Path

from cluster.kueue import QUEUE_LABEL, Queue
from cluster.operators import eventually

POD = {"cpu": "2", "memory": "1Gi"}


def submit(world, queue, name, nodes, **more):
    metadata = {"labels": {QUEUE_LABEL: queue.name}}
    return world.submit(name, metadata=metadata, backend="pytorch", resources={**POD, "nodes": nodes}, **more)


def why(world, name):
    command = [Path(sys.executable).with_name("feedline"), "why", name, "--namespace", world.namespace]
    command += ["--kubeconfig", world.cluster.kubeconfig]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return told.stdout + told.stderr


def waits(world, name, words):
    """Wait until a pipeline is said to wait with these words, and return all that is said."""
    world.becomes("Queued", name=name)
    told = eventually(lambda: [text] if words in (text := why(world, name)) else [], f"why {name} waits", 60)
    return told[0]


def test_all_pods_of_a_pipeline_are_admitted_or_none(queued):
    # Three pods fit: of two pipelines of two, half of the second would.
    world, queue = queued, Queue(queued, cpu="6", memory="8Gi")
    first = submit(world, queue, "first", 2, policy={"maxRetries": 1})
    pods = world.run_together(first, 2)
    second = submit(world, queue, "second", 2)
    told = waits(world, second, "insufficient")
    assert f"second waits in the queue {queue.name}: " in told
    assert "insufficient unused quota for cpu" in told
    assert "2 more needed" in told
    assert world.pods(second) == []

    # Another attempt holds what the first one held.
    job = world.job(first)
    world.ends(pods[1], 74)
    world.is_taken_away(pods[0])
    again = world.run_together(first, 2, after=tuple(pods))
    assert world.job(first)["metadata"]["uid"] == job["metadata"]["uid"]
    assert not world.job(first)["spec"]["suspend"]
    assert world.pods(second) == []
    assert world.state(second)["conditions"]["Succeeded"]["reason"] == "Queued"

    world.ends(again[1], 0)
    world.ends(again[0], 0)
    done = world.becomes("Completed", name=first)
    assert done["status"]["failures"] == 1
    for pod in world.run_together(second, 2):
        world.ends(pod, 0)
    world.becomes("Completed", name=second)


def test_one_that_is_too_large_for_its_queue_is_told_so(queued):
    world, queue = queued, Queue(queued, cpu="6", memory="8Gi")
    name = submit(world, queue, "large", 4)
    told = waits(world, name, "quota")
    assert "It will never fit as it is" in told
    assert world.pods(name) == []


def test_a_queue_that_is_stopped_takes_all_pods_and_gives_them_back(queued):
    world, queue = queued, Queue(queued, cpu="6", memory="8Gi")
    name = submit(world, queue, "stopped", 2, policy={"maxRetries": 0})
    pods = world.run_together(name, 2)
    job = world.job(name)
    queue.stop()
    for pod in pods:
        world.is_taken_away(pod)
    world.becomes("Queued", name=name)
    queue.stop("None")
    again = world.run_together(name, 2, after=tuple(pods))
    assert world.job(name)["metadata"]["uid"] == job["metadata"]["uid"]
    world.ends(again[1], 0)
    world.ends(again[0], 0)
    done = world.becomes("Completed", name=name)
    assert done["status"]["failures"] == 0


def test_who_asks_for_pods_near_each_other_is_understood(queued):
    world, queue = queued, Queue(queued, cpu="6", memory="8Gi")
    level = "cloud.provider.com/topology-rack"
    annotations = {"kueue.x-k8s.io/podset-required-topology": level}
    name = submit(world, queue, "near", 2, pod={"annotations": annotations})
    workload = eventually(lambda: queue.workload(name), "its Workload is there", 120)
    (pods,) = workload["spec"]["podSets"]
    assert pods["count"] == 2
    assert pods["topologyRequest"]["required"] == level
    # The queue's flavor has no topology, so it is not admitted, and says why.
    told = waits(world, name, "opology")
    assert f"near waits in the queue {queue.name}: " in told
