"""The API server is away, for a minute: nobody restarts, nothing is lost, and what came to pass meanwhile is seen."""

import time

import pytest
from cluster.operators import eventually, running
from cluster.world import World


@pytest.fixture
def alone(world, bare_cluster):
    """Return a namespace of a cluster in which nobody else is, after the tests that take `world` have begun.

    They run on the other cluster, beside the minute of waiting here.
    """
    with World.new(bare_cluster) as alone:
        yield alone


def test_a_minute_without_the_api_server_changes_nothing(alone, tmp_path):
    world, cluster = alone, alone.cluster
    with running(cluster, tmp_path) as operator:
        world.submit("runs")
        pod = world.runs("runs")
        world.submit("fails")
        failing = world.runs("fails")
        world.submit("waits", suspend=True)
        world.becomes("Suspended", name="waits")
        job = world.job("runs")

        world.ends(failing, 74)
        cluster.stop_api_server()
        gone = time.monotonic()
        eventually(lambda: not operator.leading, "the operator does not lead without an API server", 30)
        assert operator.get("/healthz") == (200, "ok\n")
        eventually(lambda: time.monotonic() - gone > 60, "a minute is over", 70)
        assert operator.get("/healthz")[0] == 200
        cluster.start_api_server()
        # Kubernetes' own controllers wait for up to half a minute before they ask again; a fresh one does not.
        cluster.processes.kill("kube-controller-manager")
        cluster._start_controller_manager()

        world.change("waits", suspend=False)
        world.ends(pod, 0)
        world.submit("new")
        world.becomes("Completed", name="runs")
        done = world.completes("fails", after=(failing,))
        assert [attempt["exitCode"] for attempt in done["status"]["attempts"]] == [0, 74]
        world.completes("waits")
        world.completes("new")
        assert world.job("runs")["metadata"]["uid"] == job["metadata"]["uid"]
        assert operator.process.poll() is None
        assert not [line for line in operator.logged() if "fault of the operator" in line["message"]]
