"""A training that is killed, drained, suspended and left by its operator ends with the weights of one that was not."""

import csv
import hashlib
import json
import os
import signal
import time

import psutil
import pytest
from cluster.operators import eventually

ONE_CPU = {"cpu": "1", "memory": "2Gi"}
STEPS = 700
CODE = """
import time
import torch

def train(run):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Dropout(0.2), torch.nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    run.checkpoint(model=model, optimizer=optimizer)
    log = (run.output / "names.txt").open("a")
    for epoch in run.epochs():
        model.train()
        for batch in run.train:
            loss = torch.nn.functional.cross_entropy(model(batch["features"]), batch["labels"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.sums.add(loss=loss)
            print(run.train.steps, batch["names"][0], batch["names"][-1], file=log, flush=True)
            time.sleep(0.03)
        model.eval()
        with torch.no_grad():
            hits = [model(each["features"]).argmax(1) == each["labels"] for each in run.validation]
        run.report(loss=run.sums["loss"], val_accuracy=torch.cat(hits).float().mean())
"""


@pytest.fixture
def start(submit, cluster, namespace, runs):
    """Return a function that starts a training which saves itself every 40 steps."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "slow", "namespace": namespace},
            "data": {"slow.py": CODE},
        }
    )
    code = {"entrypoint": "slow:train", "source": {"configMap": {"name": "slow"}}, "parameters": None}
    limits = {"seed": 7, "epochs": None, "checkpoint": {"everySeconds": 0, "everySteps": 40}}
    output = {"persistentVolumeClaim": {"claimName": "runs"}, "path": "team/digits"}
    objective = {"value": "val_accuracy", "goal": "Maximize"}

    def start(name, steps=STEPS, **spec):
        train = code | limits | {"steps": steps}
        submit(name=name, resources=ONE_CPU, train=train, output=output, objective=objective, **spec)
        return name

    return start


def folder_of(found, runs):
    return runs / "team/digits" / f"{found['metadata']['name']}-{found['metadata']['uid'][:8]}"


def kill(found):
    """Send SIGKILL to the trainer of a pipeline, as a kernel without memory does."""
    uid = found["metadata"]["uid"]
    for process in psutil.process_iter():
        try:
            if process.environ().get("FEEDLINE_RUN") == uid:
                os.kill(process.pid, signal.SIGKILL)
        except psutil.Error:
            continue


def newest(found):
    return found["status"]["attempts"][0]


def result(folder):
    """Return what has to be equal: the weights, the optimizer, what was reported, the rows of every step."""
    (last, *_) = sorted((folder / "checkpoints").iterdir(), reverse=True)
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in last.glob("*.safetensors")}
    with (folder / "history.csv").open(newline="") as file:
        history = [{name: value for name, value in line.items() if name != "seconds"} for line in csv.DictReader(file)]
    rows = {}
    for line in (folder / "names.txt").read_text().splitlines():
        step, *names = line.split()
        assert rows.setdefault(int(step), names) == names
    return weights, history, rows


def test_a_training_that_is_disturbed_ends_as_one_that_is_not(start, becomes, pipeline, cluster, namespace, runs):
    whole, disturbed = start("whole"), start("disturbed")

    def active():
        found = pipeline(disturbed)
        assert found["conditions"].get("Succeeded", {"status": "Unknown"})["status"] == "Unknown", found["status"]
        return found

    def goes_on(after):
        """Wait until a new attempt goes on from a checkpoint, and has made some steps; return its step."""

        def reached():
            found = active()
            feed = found["status"].get("feed", {})
            is_new = newest(found)["index"] > after and "fromStep" in newest(found)
            return found if is_new and feed.get("steps", 0) > newest(found)["fromStep"] + 50 else None

        return eventually(reached, "it goes on", 120)

    def trains(steps):
        return eventually(
            lambda: pipeline(disturbed)["status"].get("feed", {}).get("steps", 0) > steps, "it trains", 120
        )

    becomes(disturbed, "Running")
    trains(60)
    kill(pipeline(disturbed))
    found = goes_on(1)
    steps = [newest(found)["fromStep"]]
    assert steps[0] >= 40
    assert found["status"]["attempts"][1]["exitCode"] == 128 + signal.SIGKILL

    cluster.kubectl("delete", "pod", "-n", "feedline-system", "-l", "app.kubernetes.io/name=feedline-operator")
    selector = f"--pod-selector=feedline.dev/pipeline={disturbed}"
    cluster.kubectl("drain", cluster.node_name, selector, "--force", "--delete-emptydir-data")
    cluster.kubectl("uncordon", cluster.node_name)
    found = goes_on(2)
    steps.append(newest(found)["fromStep"])
    assert found["status"]["failures"] == 1

    patch = ("patch", "tp", disturbed, "-n", namespace, "--type=merge", "-p")
    cluster.kubectl(*patch, '{"spec":{"suspend":true}}')
    becomes(disturbed, "Suspended")
    eventually(lambda: pipeline(disturbed)["conditions"]["Suspended"]["reason"] == "Suspended", "the Job is gone", 60)
    # Its pod may still be about to end.
    suspended = eventually(
        lambda: "endTime" in newest(found := pipeline(disturbed)) and found, "the status tells how the pod ended", 60
    )
    assert newest(suspended)["exitCode"] == 128 + signal.SIGTERM
    cluster.kubectl(*patch, '{"spec":{"suspend":false}}')
    found = goes_on(3)
    steps.append(newest(found)["fromStep"])
    # Who is asked to end saves the very last step.
    assert steps[-1] == suspended["status"]["checkpoint"]["step"]
    assert steps == sorted(set(steps))

    eventually(lambda: pipeline(disturbed)["conditions"]["Succeeded"]["status"] == "True", "it ends", 180)
    ended, undisturbed = pipeline(disturbed), becomes(whole, "Completed")
    assert result(folder_of(ended, runs)) == result(folder_of(undisturbed, runs))
    assert len(result(folder_of(ended, runs))[2]) == STEPS
    assert ended["status"]["objective"] == undisturbed["status"]["objective"]
    assert ended["status"]["checkpoint"]["step"] == STEPS
    assert ended["conditions"]["CheckpointsHealthy"]["reason"] == "Saved"
    weights = [folder_of(each, runs) / "model.safetensors" for each in (ended, undisturbed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert ended["status"]["objective"]["bestStep"] in [int(line["step"]) for line in result(folder_of(ended, runs))[1]]


def test_a_stop_and_a_deadline_keep_what_was_trained_and_a_namesake_begins_anew(
    start, becomes, pipeline, cluster, namespace, runs
):
    began = time.monotonic()
    stopped = start("stopped")
    eventually(lambda: pipeline(stopped)["status"].get("feed", {}).get("steps", 0) > 10, "it trains", 120)
    # A deadline within which a training begins on this machine, and does not end.
    deadline = 10 + int(2 * (time.monotonic() - began))
    late = start("late", steps=100 * STEPS, policy={"activeDeadlineSeconds": deadline})
    told = json.dumps({"spec": {"stop": {"message": "good enough"}}})
    cluster.kubectl("patch", "tp", stopped, "-n", namespace, "--type=merge", "-p", told)
    ended = becomes(stopped, "Stopped", seconds=60)
    # The pod's own word may come a moment later than its end.
    eventually(lambda: "report" in pipeline(stopped)["status"], f"its report is there: {ended['status']}", 60)
    found = pipeline(stopped)
    succeeded = found["conditions"]["Succeeded"]
    assert (succeeded["reason"], succeeded["message"]) == ("Stopped", "Stopped by spec.stop: good enough")
    steps = found["status"]["report"]["steps"]
    assert 0 < steps < STEPS
    assert found["status"]["checkpoint"]["step"] == steps
    first = folder_of(found, runs)
    assert (first / "model.safetensors").stat().st_size > 0

    cluster.kubectl("delete", "tp", stopped, "-n", namespace)
    start("stopped")
    again = eventually(
        lambda: (each := pipeline(stopped)).get("status", {}).get("feed", {}).get("steps") and each, "", 120
    )
    assert "fromStep" not in newest(again)
    assert folder_of(again, runs) != first
    cluster.kubectl("delete", "tp", stopped, "-n", namespace)

    ended = eventually(
        lambda: (each := pipeline(late))["conditions"]["Succeeded"]["status"] == "False" and each, "", deadline + 60
    )
    assert ended["conditions"]["Succeeded"]["reason"] == "DeadlineExceeded"
    saved = eventually(lambda: pipeline(late)["status"].get("report", {}).get("checkpoint", {}).get("step"), "", 60)
    assert (folder_of(ended, runs) / f"checkpoints/step-{saved:012d}/manifest.json").exists()


def test_an_output_that_cannot_be_written_is_one_sentence(start, becomes, runs):
    os.chown(runs, 0, 0)
    name = start("denied", policy={"maxRetries": 0})
    message = becomes(name, "EnvironmentInvalid")["conditions"]["Succeeded"]["message"]
    assert "the output /output/team/digits/denied-" in message
    assert "cannot be written (Permission denied): give the user 65532" in message
