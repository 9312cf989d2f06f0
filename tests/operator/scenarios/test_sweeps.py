"""Sweeps on a real API server: trials come and go, the operator dies at every write, and the sweep is the same."""

import json
import re

import pytest
from cluster.errors import ClusterError
from cluster.operators import eventually
from cluster.proxy import afterwards, instead
from cluster.rest import CORE

from feedline.contract import PARAMETERS_ANNOTATION

RANDOM = {"algorithm": {"type": "Random", "seed": 1}, "trials": 4, "parallel": 2, "pruning": {"rule": "None"}}


def report(value, **more):
    """Return what a trial says at its end."""
    curve = [f"10:{value / 2}", f"20:{value}"]
    objective = {"value": str(value), "best": str(value), "curve": curve, "epochSteps": 10, "epochSamples": 320}
    return json.dumps({"reason": "Completed", "exitCode": 0, "message": "2 epochs", "objective": objective, **more})


def test_a_sweep_runs_its_trials_and_says_which_was_best(world):
    world.sweep("rates", **RANDOM)
    eventually(lambda: world.trials("rates") == ["rates-0", "rates-1"], "two trials begin", 120)
    running = {name: world.runs(name) for name in ("rates-0", "rates-1")}
    # One is preempted, and goes on as the same trial.
    world.delete_pod(running["rates-1"])
    world.confirm(running["rates-1"])
    again = world.runs("rates-1", after=(running["rates-1"],))
    world.ends(again, 0, message=report(0.9))
    eventually(lambda: "rates-2" in world.trials("rates"), "the next one begins", 120)
    # One fails for good, one is deleted by hand and runs again.
    world.ends(
        running["rates-0"], 70, message=json.dumps({"exitCode": 70, "reason": "UserError", "message": "ValueError"})
    )
    pod = world.runs("rates-2")
    first = world.state("rates-2")["metadata"]
    world.delete("rates-2")
    world.is_taken_away(pod)
    eventually(
        lambda: (world.find("rates-2") or {"metadata": first})["metadata"]["uid"] != first["uid"],
        "it is made anew",
        120,
    )
    assert world.state("rates-2")["metadata"]["annotations"] == first["annotations"]
    for name, value in (("rates-2", 0.7), ("rates-3", 0.95)):
        eventually(lambda name=name: world.find(name), f"{name} begins", 120)
        world.ends(world.runs(name, after=(pod,)), 0, message=report(value))
    done = world.sweep_becomes("Completed", "rates")
    status = done["status"]
    assert status["trials"] == {"created": 4, "running": 0, "complete": 3, "pruned": 0, "failed": 1}
    assert (status["best"]["trial"], status["best"]["value"]) == ("rates-3", "0.95")
    assert [each["trial"] for each in status["leaders"]] == ["rates-3", "rates-1", "rates-2"]
    assert done["conditions"]["Succeeded"]["message"] == (
        "4 of 4 trials: 3 complete, 1 failed; the best is rates-3, val_accuracy 0.95."
    )
    eventually(lambda: world.events("rates", "TrainingSweep") == ["Completed"], "its end is told")
    # In one line, as people look at it.
    shown = world.cluster.kubectl("-n", world.namespace, "get", "ts", "rates").stdout.split("\n")[1]
    assert re.match(r"rates +Completed +4 +0 +0 +1 +0\.95 ", shown)
    pods = world.rest.do("GET", f"{CORE}/namespaces/{world.namespace}/pods", labelSelector="feedline.dev/sweep=rates")
    assert len(pods["items"]) >= 4, "they find each other's nodes by this label"


def test_suspend_stop_and_the_end_of_its_time(world):
    world.sweep("pauses", **RANDOM, ttlSecondsAfterFinished=1)
    eventually(lambda: len(world.trials("pauses")) == 2, "two trials begin", 120)
    pods = [world.runs(name) for name in world.trials("pauses")]
    world.change_sweep("pauses", suspend=True)
    world.sweep_becomes("Suspended", "pauses")
    for name, pod in zip(world.trials("pauses"), pods, strict=True):
        world.becomes("Suspended", name=name)
        world.confirm(pod)
    world.change_sweep("pauses", suspend=False)
    again = [world.runs(name, after=tuple(pods)) for name in world.trials("pauses")]
    world.change_sweep("pauses", stop={"message": "enough"})
    world.sweep_becomes("Stopping", "pauses")
    for name, pod in zip(world.trials("pauses"), again, strict=True):
        eventually(lambda name=name: "stop" in world.state(name)["spec"], "it is told to stop", 120)
        eventually(lambda name=name: "deletionTimestamp" in world.job(name)["metadata"], "its Job goes", 120)
        world.confirm(pod)
    eventually(lambda: world.find_sweep("pauses") is None, "its time is up", 120)
    eventually(lambda: world.trials("pauses") == [], "its trials go with it", 120)


def test_a_name_that_somebody_else_has_is_told_and_waited_for(world):
    def message(name):
        return world.find_sweep(name)["conditions"].get("Succeeded", {}).get("message", "")

    world.submit("mine-0")
    world.sweep("mine", **RANDOM)
    said = "mine-0 is there already and is no trial of this sweep"
    eventually(lambda: said in message("mine"), "it says so", 120)
    assert world.find_sweep("mine")["conditions"]["Succeeded"]["reason"] == "Pending"
    world.delete("mine-0")
    eventually(lambda: len(world.trials("mine")) == 2, "two trials begin", 120)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trials": 3}, "may only grow"),
        (
            {"objective": {"value": "loss", "goal": "Minimize"}},
            "is immutable; create a new sweep for another objective",
        ),
        ({"algorithm": {"type": "Random", "seed": 2}}, "is immutable"),
        ({"template": {"spec": {"loader": {"batchSize": 64}}}}, "trials of another training cannot be compared"),
    ],
    ids=["trials", "objective", "algorithm", "template"],
)
def test_what_trials_were_chosen_by_cannot_change(world, change, said):
    world.sweep("fixed", **RANDOM, suspend=True)
    with pytest.raises(ClusterError, match=said):
        world.change_sweep("fixed", **change)
    world.change_sweep("fixed", trials=5, parallel=3, maxFailed=1, onFinish="Continue", suspend=True)


def test_the_server_refuses_a_sweep_of_a_pipeline_that_is_none(world):
    template = {"spec": {"backend": "pytorch", "data": {"volumes": [], "train": {"arrays": []}}, "train": {}}}
    with pytest.raises(ClusterError, match=r"spec\.template\.spec\.data"):
        world.sweep("wrong", **{**RANDOM, "template": template})


def test_killed_at_every_write_it_is_the_same_sweep(site):
    """Before one, after the next, and so on to its end: no trial comes twice, and none is lost."""
    world, proxy, killed = site.world, site.proxy, []

    def is_about_the_sweep(request):
        return request.writes and request.resource in {"trainingsweeps/status", "trainingpipelines"}

    def die():
        killed.append(None)
        site.die()
        arm()

    def arm():
        proxy.inject((instead, afterwards)[len(killed) % 2](die), is_about_the_sweep)

    arm()
    world.sweep("killed", **RANDOM)
    for index in range(4):
        name = f"killed-{index}"
        eventually(lambda name=name: world.find(name), f"{name} begins", 300)
        world.ends(world.runs(name), 0, message=report(index / 10))
    done = world.sweep_becomes("Completed", "killed", 300)
    assert len(killed) >= 8
    assert done["status"]["trials"]["complete"] == 4
    created = [each.name for each in site.requests("create", "trainingpipelines") if each.code == 201]
    assert sorted(created) == world.trials("killed") == [f"killed-{index}" for index in range(4)]
    values = {world.state(name)["metadata"]["annotations"][PARAMETERS_ANNOTATION] for name in created}
    assert len(values) == 4


def test_a_trial_whose_report_nobody_could_read_runs_again(site):
    """Its pod ends and is taken away while no operator is there."""
    world = site.world
    world.sweep("lost", **{**RANDOM, "trials": 1, "maxFailed": 0})
    eventually(lambda: world.find("lost-0"), "it begins", 120)
    pod, first = world.runs("lost-0"), world.state("lost-0")["metadata"]
    site.operator.kill()
    world.ends(pod, 0, message=report(0.5))
    eventually(lambda: "completionTime" in world.job("lost-0")["status"], "its Job is done", 120)
    world.remove(pod)
    world.free_lease()
    site.operator.start()
    eventually(lambda: (world.find("lost-0") or {"metadata": first})["metadata"]["uid"] != first["uid"], "anew", 120)
    again = world.state("lost-0")["metadata"]["annotations"]
    assert again[PARAMETERS_ANNOTATION] == first["annotations"][PARAMETERS_ANNOTATION]
    world.ends(world.runs("lost-0", after=(pod,)), 0, message=report(0.7))
    done = world.sweep_becomes("Completed", "lost")
    assert done["status"]["best"]["value"] == "0.7"
    eventually(lambda: sorted(world.events("lost", "TrainingSweep")) == ["Completed", "TrialLost"], "both are told")
