"""Two pods of two processes that train one model: whatever happens to them, the rows of every step are the same."""

import os
import signal

import psutil
from cluster.operators import eventually
from cluster.world import World

import feedline

STEPS, BATCH = 400, 32
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
            time.sleep(0.04)
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
        if variables.get("FEEDLINE_RUN") == found["metadata"]["uid"] and process.name() == f"rank {rank}":
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
    assert killed == 1


def undisturbed(digits):
    """Return the names of the rows of every step, as one process has them to which nothing happens."""
    names = feedline.open_arrays({"names": digits / "names.npy"}, rows=(0, 1500))
    with feedline.Feed(names, batch_size=BATCH, seed=7) as feed:
        epochs = -(-STEPS // len(feed))
        steps = [sorted(batch["names"].astype(str)) for _ in range(epochs) for batch in feed]
    return dict(enumerate(steps[:STEPS], start=1))


def test_two_nodes_train_on_the_same_rows_whatever_happens(submit, becomes, pipeline, cluster, namespace, runs, digits):
    world, name = World(cluster, namespace), "two-nodes"
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "ranks", "namespace": namespace},
            "data": {"ranks.py": CODE},
        }
    )
    submit(
        name=name,
        resources={"nodes": 2, "processes": 2, "cpu": "500m", "memory": "3Gi"},
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

    def running(attempt, steps, seconds=300):
        """Wait until an attempt has trained for some steps; return its pods by number."""

        def there():
            status = pipeline(name)["status"]
            newest = status["attempts"][0]["index"] if "attempts" in status else 0
            has_numbers = newest == attempt and status.get("ranks", {}).get("nodesRunning") == 2
            return has_numbers and status.get("feed", {}).get("steps", 0) >= steps

        becomes(name, "Running", seconds=seconds)
        eventually(there, f"attempt {attempt} trains", seconds)
        return world.pods_of(name, 2)

    running(1, 40)
    job = world.job(name)["metadata"]["uid"]
    kill(pipeline(name), 3)
    eventually(lambda: len(pipeline(name)["status"]["attempts"]) == 2, "a second attempt", 300)
    first, _ = running(2, 80)
    world.rest.do("DELETE", f"/api/v1/namespaces/{namespace}/pods/{first['metadata']['name']}")
    eventually(lambda: len(pipeline(name)["status"]["attempts"]) == 3, "a third attempt", 300)
    _, second = running(3, 120)
    world.evict(second)
    eventually(lambda: len(pipeline(name)["status"]["attempts"]) == 4, "a fourth attempt", 300)
    eventually(lambda: pipeline(name)["conditions"]["Succeeded"]["status"] == "True", "it ends", 300)

    status = pipeline(name)["status"]
    fourth, third, deleted, killed = status["attempts"]
    assert (killed["rank"], killed["exitCode"], killed["reason"]) == (3, 128 + signal.SIGKILL, "Killed")
    assert killed["message"].startswith("rank 3 was ended by SIGKILL")
    assert killed["pod"].startswith(f"{name}-1-")
    assert (deleted["pod"], deleted["reason"]) == (first["metadata"]["name"], "Deleted")
    assert (third["pod"], third["reason"]) == (second["metadata"]["name"], "EvictionByEvictionAPI")
    assert (fourth["reason"], fourth["exitCode"]) == ("Completed", 0)
    assert 40 <= deleted["fromStep"] < third["fromStep"] < fourth["fromStep"]
    assert status["failures"] == 1
    assert world.job(name)["metadata"]["uid"] == job
    report = status["report"]
    assert (report["steps"], report["samples"], report["ranks"]["world"]) == (STEPS, STEPS * BATCH, 4)
    assert report["ranks"]["node"] == fourth["node"]

    folder = runs / f"{name}-{pipeline(name)['metadata']['uid'][:8]}"
    steps = {}
    for rank in range(4):
        for line in (folder / f"names-{rank}.txt").read_text().splitlines():
            step, *rows = line.split()
            assert steps.setdefault(int(step), {}).setdefault(rank, rows) == rows
    found = {step: sorted(row for rows in shares.values() for row in rows) for step, shares in sorted(steps.items())}
    assert found == undisturbed(digits)
    # What is deleted or evicted saves itself first: only what the killed one had done was done again.
    again = [step for step in range(1, STEPS + 1) if any(_count(folder, rank, step) > 1 for rank in range(4))]
    assert again[0] == deleted["fromStep"] + 1
    assert again[-1] < third["fromStep"], again


def _count(folder, rank, step):
    return sum(line.startswith(f"{step} ") for line in (folder / f"names-{rank}.txt").read_text().splitlines())
