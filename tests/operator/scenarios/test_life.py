"""The life of a pipeline against the real API server: from apply to the report."""

import json

import pytest
from cluster.operators import eventually

REPORT = {
    "pipeline": "digits",
    "backend": "pytorch",
    "engine": "Feed",
    "reason": "Completed",
    "exitCode": 0,
    "message": "30 epochs",
    "steps": 1380,
    "targetSteps": 1380,
    "samplesPerSecond": 41000,
    "waitPermille": 312,
    "feedSamplesPerSecond": 50000,
    "modelSamplesPerSecond": 60000,
    "values": {"accuracy": "0.97", "loss": "NaN"},
    "verdict": {"inputBound": True, "cause": "Cpu", "advice": "Raise loader.threads."},
}


def test_a_pipeline_runs_to_its_report(world):
    world.submit()
    pod = world.pod_of()
    assert world.becomes("Starting")["conditions"]["PodsReady"]["status"] == "False"
    world.kubelet.run(pod)
    running = world.becomes("Running")
    assert running["conditions"]["PodsReady"]["status"] == "True"
    assert [attempt["pod"] for attempt in running["status"]["attempts"]] == [pod["metadata"]["name"]]

    world.kubelet.end(pod, 0, message=json.dumps(REPORT))
    done = world.becomes("Completed")
    assert done["conditions"]["Succeeded"]["status"] == "True"
    assert done["status"]["report"] == REPORT
    assert done["status"]["feed"]["steps"] == 1380
    assert done["conditions"]["InputBound"]["status"] == "True"
    assert "31.2 %" in done["conditions"]["InputBound"]["message"]
    (attempt,) = done["status"]["attempts"]
    assert (attempt["reason"], attempt["exitCode"], attempt["node"]) == ("Completed", 0, world.node)
    assert done["status"]["completionTime"] >= done["status"]["startTime"]
    # They are told after the status.
    eventually(lambda: set(world.events()) == {"Completed", "InputBound"}, "two Events tell of it")


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_namespace_that_is_deleted_goes_though_its_pods_cannot_be_replaced(world, nodes):
    world.submit(backend="pytorch", resources={"nodes": nodes})
    pods = world.run_together("digits", nodes)
    path = f"/api/v1/namespaces/{world.namespace}"
    world.rest.do("DELETE", path)
    for pod in pods:
        world.is_taken_away(pod)
    eventually(lambda: world.rest.find(path) is None, "the namespace is gone", 120)
