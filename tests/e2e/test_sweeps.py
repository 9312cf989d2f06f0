"""A sweep in real pods: trials are pruned, killed and preempted, the operator too, and the best is found."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster.operators import eventually
from cluster.world import World
from projects import environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep" / "sweep.yaml"


@pytest.fixture
def sweep(cluster, namespace, runs):
    """Apply the example, made so that two of its four trials go badly, and return the sweep's name."""
    document = copy.deepcopy(yaml.safe_load(EXAMPLE.read_text()))
    document["metadata"]["namespace"] = namespace
    spec, template = document["spec"], document["spec"]["template"]["spec"]
    spec["parameters"] = [{"name": "learningRate", "choice": {"values": [0.003, 0.01, 1.0, 0.000001]}}]
    spec["algorithm"] = {"type": "Grid"}
    spec["pruning"] = {"rule": "Median", "warmup": 20, "interval": 20, "minTrials": 2}
    del spec["trials"]
    template["train"] |= {"epochs": 400, "checkpoint": {"everySeconds": 5}}
    template["output"] = {"persistentVolumeClaim": {"claimName": "runs"}, "path": "sweep"}
    template["resources"] = {"cpu": "1", "memory": "2Gi"}
    cluster.apply(document)
    return document["metadata"]["name"]


def feedline(cluster, *arguments):
    """Return what the command line says of the cluster."""
    command = [
        sys.executable,
        "-c",
        "from feedline.cli import main; main()",
        *arguments,
        "--kubeconfig",
        str(cluster.kubeconfig),
    ]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_sweep_whose_pods_and_operator_are_killed_finds_the_best(cluster, namespace, sweep, tmp_path):
    world = World(cluster, namespace)
    first = eventually(lambda: world.find(f"{sweep}-0"), "the first trial begins", 60)
    eventually(
        lambda: world.state(f"{sweep}-0")["status"].get("checkpoint", {}).get("step"), "it has saved itself", 180
    )
    # Both are taken away at once: the pod of a trial, as a node that goes away takes it, and the operator.
    pod = world.pods(f"{sweep}-0")[-1]["metadata"]["name"]
    now = ("--grace-period=0", "--force")
    cluster.kubectl("delete", "pod", "-n", namespace, pod, *now)
    cluster.kubectl("delete", "pod", "-n", "feedline-system", "-l", "app.kubernetes.io/name=feedline-operator", *now)
    done = world.sweep_becomes("Completed", sweep, 600)
    status = done["status"]
    counts = status["trials"]
    assert (counts["created"], counts["running"], counts["failed"]) == (4, 0, 0)
    # One that began while the first was waiting for its second pod had nobody to be compared with.
    assert counts["pruned"] >= 1
    assert status["best"]["trial"] in {f"{sweep}-0", f"{sweep}-1"}
    assert float(status["best"]["value"]) > 0.9
    assert world.state(f"{sweep}-0")["metadata"]["uid"] == first["metadata"]["uid"]
    attempts = world.state(f"{sweep}-0")["status"]["attempts"]
    assert attempts[0].get("fromStep", 0) > 0, "it went on from its checkpoint"
    ended_early = [trial for trial in map(world.state, world.trials(sweep)) if "stop" in trial["spec"]]
    assert {trial["metadata"]["name"] for trial in ended_early} <= {f"{sweep}-2", f"{sweep}-3"}
    for trial in ended_early:
        assert "the median of" in trial["spec"]["stop"]["message"]
        assert trial["conditions"]["Succeeded"]["reason"] == "Stopped"

    told = json.loads(feedline(cluster, "sweep", "show", sweep, "-n", namespace, "--json"))
    assert sum(each["state"] == "Pruned" for each in told) == counts["pruned"] == len(ended_early)
    assert all(each["samplesPerSecond"] > 0 and len(each["curve"]) > 10 for each in told[:2])
    page = tmp_path / "sweep.html"
    assert "best: digits-" in feedline(cluster, "sweep", "show", sweep, "-n", namespace, "--html", str(page))
    assert page.read_text().count('<tr data-row="') == 4
