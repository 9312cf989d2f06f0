"""Two processes in a pod: one is killed, the run goes on from its checkpoint, and the attempts say who it was."""

import os
import signal

import psutil
from cluster.operators import eventually

STEPS = 300
CODE = """
import time
import torch

def train(run):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    run.checkpoint(model=model, optimizer=optimizer)
    network = run.distribute(model)
    log = (run.output / f"names-{run.rank}.txt").open("a")
    for epoch in run.epochs():
        for batch in run.train:
            print(run.train.steps, *batch["names"], file=log, flush=True)
            loss = torch.nn.functional.cross_entropy(network(batch["features"]), batch["labels"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            time.sleep(0.03)
        run.report(loss=run.mean(loss))
"""


def kill(found, rank):
    """Send SIGKILL to one rank of a pipeline."""
    killed = 0
    for process in psutil.process_iter():
        try:
            variables = process.environ()
        except psutil.Error:
            continue
        if variables.get("FEEDLINE_RUN") == found["metadata"]["uid"] and variables.get("RANK") == str(rank):
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
    assert killed == 1


def test_a_rank_that_is_killed_is_named_and_all_go_on(submit, becomes, pipeline, cluster, namespace, runs):
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "ranks", "namespace": namespace},
            "data": {"ranks.py": CODE},
        }
    )
    name = "two"
    submit(
        name=name,
        resources={"cpu": "1", "memory": "3Gi", "processes": 2},
        train={
            "entrypoint": "ranks:train",
            "source": {"configMap": {"name": "ranks"}},
            "parameters": None,
            "epochs": None,
            "steps": STEPS,
            "checkpoint": {"everySeconds": 0, "everySteps": 20},
        },
        output={"persistentVolumeClaim": {"claimName": "runs"}},
    )
    becomes(name, "Running")
    eventually(lambda: pipeline(name)["status"].get("feed", {}).get("steps", 0) > 60, "it trains", 120)
    kill(pipeline(name), 1)
    eventually(lambda: pipeline(name)["conditions"]["Succeeded"]["status"] == "True", "it ends", 180)
    status = pipeline(name)["status"]
    second, first = status["attempts"]
    assert first["exitCode"] == 128 + signal.SIGKILL
    assert first["message"].startswith("rank 1 was ended by SIGKILL")
    assert second["fromStep"] >= 40
    assert status["report"]["steps"] == STEPS
    assert status["report"]["samples"] == STEPS * 32
    assert status["report"]["ranks"]["world"] == 2

    folder = runs / f"{name}-{pipeline(name)['metadata']['uid'][:8]}"
    steps = {}
    for rank in range(2):
        for line in (folder / f"names-{rank}.txt").read_text().splitlines():
            step, *rows = line.split()
            assert steps.setdefault(int(step), {}).setdefault(rank, rows) == rows
    assert sorted(steps) == list(range(1, STEPS + 1))
    epoch = [row for step in range(1, 47) for rows in steps[step].values() for row in rows]
    assert len(epoch) == len(set(epoch)) == 46 * 32
