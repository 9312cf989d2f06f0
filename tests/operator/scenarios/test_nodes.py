"""Pods that train together, against the real API server and Job controller: how few calls, who is blamed, what is told."""

import json

from cluster.kubelet import now
from cluster.operators import eventually
from cluster.world import REPORT

NODES = 64


def submit(world, name, nodes, **more):
    return world.submit(name, backend="pytorch", loader={"batchSize": 768}, resources={"nodes": nodes}, **more)


def test_many_nodes_take_few_calls(site):
    world, name = site.world, "many"
    submit(world, name, NODES)
    pods = world.run_together(name, NODES)
    assert world.state(name)["status"]["ranks"] == {"world": NODES, "nodes": NODES, "nodesRunning": NODES}
    for pod in pods[1:]:
        world.ends(pod, 0)
    world.ends(pods[0], 0)
    done = world.becomes("Completed", name=name)
    eventually(lambda: "Completed" in world.events(name), "its end is told")
    (attempt,) = done["status"]["attempts"]
    assert (attempt["pod"], attempt["exitCode"]) == (pods[0]["metadata"]["name"], 0)
    assert "ranks" not in done["status"]
    calls = site.writes_about(name)
    assert len(calls) <= 8 + NODES, [f"{call.verb} {call.resource}" for call in calls]
    assert not [call for call in calls if call.resource == "pods/eviction"]


def test_who_began_it_is_blamed_and_the_others_count_for_nothing(world):
    name = "blamed"
    submit(world, name, 4, policy={"maxRetries": 1})
    first = world.run_together(name, 4)
    told = {**REPORT, "exitCode": 137, "rank": 2, "message": "rank 2 was ended by SIGKILL"}
    world.ends(first[2], 137, message=json.dumps(told))
    for pod in (first[0], first[1], first[3]):
        world.is_taken_away(pod)
    second = world.run_together(name, 4, after=tuple(first))
    status = world.state(name)["status"]
    assert status["failures"] == 1
    eventually(lambda: world.job(name)["status"].get("failed") == 1, "the Job has counted one")
    assert (status["attempts"][1]["rank"], status["attempts"][1]["pod"]) == (2, first[2]["metadata"]["name"])
    # A disruption is not counted, whichever pod it is of.
    world.ends(second[1], 143, disruption="PreemptionByScheduler")
    for pod in (second[0], second[2], second[3]):
        world.is_taken_away(pod)
    third = world.run_together(name, 4, after=(*first, *second))
    assert world.state(name)["status"]["failures"] == 1
    world.ends(
        third[3], 70, message=json.dumps({**REPORT, "exitCode": 70, "rank": 3, "message": "rank 3: ValueError: no"})
    )
    for pod in third[:3]:
        world.is_taken_away(pod)
    failed = world.becomes("UserError", name=name)
    assert failed["conditions"]["Succeeded"]["message"] == "Attempt 3: rank 3: ValueError: no"
    reasons = [attempt["reason"] for attempt in failed["status"]["attempts"]]
    assert reasons == ["UserError", "PreemptionByScheduler", "Killed"]


def test_two_that_go_at_once_are_one_attempt(world):
    name = "twice"
    submit(world, name, 2, policy={"maxRetries": 0})
    first = world.run_together(name, 2)
    world.ends(first[1], 143, disruption="EvictionByEvictionAPI")
    world.delete_pod(first[0])
    world.confirm(first[0])
    second = world.run_together(name, 2, after=tuple(first))
    status = world.state(name)["status"]
    assert [attempt["index"] for attempt in status["attempts"]] == [2, 1]
    assert status["failures"] == 0
    world.ends(second[0], 0)
    world.is_taken_away(second[1])
    world.becomes("Completed", name=name)


def test_one_that_waits_is_named_with_its_reason(world):
    name = "waits"
    submit(world, name, 3, policy={"startDeadlineSeconds": 25})
    pods = world.pods_of(name, 3)
    for pod in pods[:2]:
        world.kubelet.run(pod)
    message = "0/5 nodes are available: 5 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    world.kubelet.write(pods[2], phase="Pending", conditions=[{**condition, "lastTransitionTime": now()}])
    waiting = f"2 of 3 pods run; {pods[2]['metadata']['name']} waits: No node takes the pod: {message}"
    world.becomes("Pending", name=name, says=waiting)
    assert world.state(name)["status"]["ranks"] == {"world": 3, "nodes": 3, "nodesRunning": 2}
    world.becomes("StartDeadlineExceeded", name=name, says="Not all 3 pods ran")


def test_a_service_of_somebody_else_s_is_left_alone_and_told(world):
    name = "taken"
    path = f"/api/v1/namespaces/{world.namespace}/services"
    world.rest.do("POST", path, {"metadata": {"name": "taken-peers"}, "spec": {"ports": [{"port": 80}]}})
    submit(world, name, 2)
    world.becomes("Pending", name=name, says="A Service taken-peers is there already and is not feedline's")
    assert world.job(name) is None
    world.rest.do("DELETE", f"{path}/taken-peers")
    world.pods_of(name, 2)
    service = world.rest.do("GET", f"{path}/taken-peers")
    (owner,) = service["metadata"]["ownerReferences"]
    assert owner["uid"] == world.state(name)["metadata"]["uid"]
    assert service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {
        "feedline.dev/pipeline": name,
        "batch.kubernetes.io/job-completion-index": "0",
    }
