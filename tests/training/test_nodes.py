"""Several pods that train one model, each a process of `feedline.launch` here: who joins, who ends, and who waits."""

import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest
from cluster.processes import free_port
from projects import environment, skip_without
from safetensors.numpy import load_file

import feedline
from feedline.manifest import pod_part

pytestmark = pytest.mark.trainer
PATIENCE = 120
OWN = """
import os
import time
import torch

def train(run):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.checkpoint(model=model, optimizer=optimizer)
    network = run.distribute(model)
    log = open(f"rows-{run.rank}.txt", "a")
    for epoch in run.epochs():
        for batch in run.train:
            print(run.train.steps, *(int(name.split()[1]) for name in batch["names"]), file=log, flush=True)
            loss = torch.nn.functional.cross_entropy(network(batch["features"]), batch["labels"].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            STEP
        run.report(loss=run.mean(loss))
"""


class Pods:
    """The pods of a pipeline on several nodes, of which each may be started any number of times."""

    def __init__(self, project, step="pass", *, nodes=2, processes=1, patience=60, steps=40):
        skip_without("pytorch")
        self.folder, self.nodes, self.processes, self.patience = project.folder, nodes, processes, patience
        self.output = project.folder / "kept"
        (self.folder / "own.py").write_text(OWN.replace("STEP", step))
        spec = pod_part(json.loads((self.folder / "pipeline.yaml").read_text())["spec"])
        spec["train"] |= {"entrypoint": "own:train", "steps": steps, "seed": 3}
        spec["train"].pop("epochs", None)
        spec["output"] = {"csi": {"driver": "d"}}
        spec["train"]["checkpoint"] = {"everySeconds": 0, "everySteps": 5, "keep": 2}
        (self.folder / "manifest").write_text(json.dumps(spec))
        self.volumes = json.dumps({"data": str(project.data)})
        self.port = free_port()
        self.data = project.data
        self.running = {}

    def start_as(self, nodes, processes):
        self.nodes, self.processes = nodes, processes
        self.running.clear()
        self.start()

    def start(self, *indexes):
        for index in indexes or range(self.nodes):
            variables = {
                "FEEDLINE_MANIFEST": str(self.folder / "manifest"),
                "FEEDLINE_PIPELINE": "two",
                "FEEDLINE_VOLUMES": self.volumes,
                "FEEDLINE_OUTPUT": str(self.output),
                "FEEDLINE_RUN": "one-run",
                "FEEDLINE_REPORT": str(self.folder / f"report-{index}.json"),
                "FEEDLINE_METRICS_PORT": "",
                "FEEDLINE_NODES": str(self.nodes),
                "FEEDLINE_PROCESSES": str(self.processes),
                "FEEDLINE_PEERS": f"127.0.0.1:{self.port}",
                "FEEDLINE_PEER_TIMEOUT_SECONDS": str(self.patience),
                "FEEDLINE_NODE": f"node-{index}",
                "JOB_COMPLETION_INDEX": str(index),
                "GLOO_SOCKET_IFNAME": "lo",
            }
            known = environment(**variables)
            known["PYTHONPATH"] += os.pathsep + str(self.folder)
            with (self.folder / f"log-{index}.txt").open("a") as log:
                self.running[index] = subprocess.Popen(
                    [sys.executable, "-m", "feedline.launch"], cwd=self.folder, env=known, stdout=log, stderr=log
                )

    def log(self, index):
        path = self.folder / f"log-{index}.txt"
        return path.read_text() if path.exists() else ""

    def logs(self):
        return "".join(self.log(index) for index in range(self.nodes))

    def report(self, index):
        return json.loads((self.folder / f"report-{index}.json").read_text())

    def code(self, index, within=PATIENCE):
        """Wait for the end of a pod, and return its exit code."""
        return self.running[index].wait(within)

    def waits(self, index, seconds=1.0):
        """Return whether a pod goes on for so long."""
        try:
            self.running[index].wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def take_away(self, index):
        """End a pod as the kubelet does; return its exit code and how long that took."""
        began = time.monotonic()
        self.running[index].terminate()
        return self.code(index), time.monotonic() - began

    def rows(self):
        """Return the rows of every step, from all ranks, in their order; whoever does one again does the same."""
        steps = {}
        for path in self.folder.glob("rows-*.txt"):
            rank = int(path.stem.removeprefix("rows-"))
            for line in path.read_text().splitlines():
                step, *rows = map(int, line.split())
                assert steps.setdefault(step, {}).setdefault(rank, rows) == rows
        return {step: [row for _, rows in sorted(found.items()) for row in rows] for step, found in steps.items()}

    def trains_until(self, step):
        due = time.monotonic() + PATIENCE
        while max(self.rows(), default=0) < step:
            assert time.monotonic() < due, self.logs()
            assert all(process.poll() is None for process in self.running.values()), self.logs()
            time.sleep(0.05)

    def close(self):
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture
def pods(project):
    made = []

    def pods(*arguments, **keywords):
        made.append(Pods(project, *arguments, **keywords))
        return made[-1]

    yield pods
    for each in made:
        each.close()


def test_whatever_happens_to_pods_every_row_is_trained_on_once_and_only_who_began_it_fails(pods):
    gang = pods("time.sleep(0.1)", steps=60)
    gang.start()
    gang.trains_until(8)
    # A stranger at the port changes nothing.
    with socket.create_connection(("127.0.0.1", gang.port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)))
    gang.trains_until(12)
    # A pod that is taken away saves first, with all others.
    assert gang.take_away(1)[0] == 143, gang.log(1)
    assert gang.waits(0)
    assert gang.take_away(0)[0] == 143
    stopped = gang.report(0)
    assert stopped["checkpoint"]["step"] == stopped["steps"] == max(gang.rows())

    # Others go on from there, such as one pod of four.
    gang.start_as(nodes=1, processes=4)
    gang.trains_until(stopped["steps"] + 8)
    assert gang.take_away(0)[0] == 143
    stopped = gang.report(0)
    assert stopped["ranks"]["world"] == 4

    gang.start_as(nodes=2, processes=1)
    gang.trains_until(stopped["steps"] + 8)
    # The first pod goes without a word, and with it the store.
    for process in psutil.Process(gang.running[0].pid).children(recursive=True):
        process.kill()
    gang.running[0].kill()
    gang.running[0].wait()
    assert gang.waits(1, 3), gang.log(1)
    code, seconds = gang.take_away(1)
    assert code == 143
    assert seconds < PATIENCE / 4, gang.log(1)

    gang.start()
    assert [gang.code(index) for index in (0, 1)] == [0, 0], gang.logs()
    done = gang.report(0)
    assert (done["steps"], done["samples"], done["ranks"]["world"]) == (60, 60 * 8, 2)
    assert done["ranks"]["node"] in {"node-0", "node-1"}
    assert sorted(gang.rows().items()) == undisturbed(gang, 60)
    assert load_file(gang.output / "model.safetensors")


def undisturbed(gang, steps):
    """Return the rows of every step as one process has them to which nothing happens."""
    arrays = feedline.open_arrays({"names": gang.data / "names.npy"}, rows=(0, 48))
    with feedline.Feed(arrays, batch_size=8, seed=7) as feed:
        batches = [batch for _ in range(-(-steps // len(feed))) for batch in feed]
        return [
            (step, [int(name.split()[1]) for name in batch["names"]]) for step, batch in enumerate(batches[:steps], 1)
        ]


FAULTS = {
    # what rank 1 does behind its fourth step: which pod ends by itself, how, and what it says
    "hangs": (
        "time.sleep(3600)",
        1,
        75,
        "rank 1 hangs in step 4, and did not come to what all do together within 10 s (spec.policy.peerTimeoutSeconds)",
    ),
    "exits with 0": ("os._exit(0)", 1, 70, "rank 1 ended with exit code 0 in the middle of the training"),
    "comes to its end early": (
        "exec('raise SystemExit(0)')",
        0,
        70,
        "rank 0 waits in step 5 for ranks that came to their end (rank 1 after 4 steps)",
    ),
    "hides that it has lost the others": (
        "exec('try: run.mean(1)\\nexcept Exception: raise ValueError(\"mine\")') if run.rank == 0 else os._exit(3)",
        1,
        3,
        "rank 1 ended with exit code 3",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_only_the_pod_that_began_it_ends_and_says_so(fault, pods):
    step, index, code, told = FAULTS[fault]
    who = "True" if "run.rank" in step else "run.rank == 1"
    # A beat for what a rank says of itself every two seconds.
    waits = fault in ("hangs", "comes to its end early")
    gang = pods(f"time.sleep(0.7); {who} and run.train.steps == 4 and {step}", patience=10 if waits else 60)
    gang.start()
    assert gang.code(index) == code, gang.logs()
    assert told in gang.report(index)["message"], gang.logs()
    if fault == "hides that it has lost the others":
        # Whoever replaces it is not let in by a first pod that is of the training before.
        gang.start(index)
    assert gang.waits(1 - index), gang.log(1 - index)  # it counts for nothing, since it is taken away
    ended, seconds = gang.take_away(1 - index)
    assert ended == gang.report(1 - index)["exitCode"] == 143, gang.log(1 - index)
    assert seconds < PATIENCE / 4
    assert "Traceback" not in gang.logs(), gang.logs()


def test_a_pod_that_waits_for_others_says_for_whom_and_can_be_taken_away(pods):
    gang = pods(nodes=4)
    gang.start(0, 2, 3)
    due = time.monotonic() + PATIENCE
    while "waiting for 1 of 4 pods: 1" not in gang.log(0):
        assert time.monotonic() < due, gang.logs()
        time.sleep(0.1)
    for index in (0, 2, 3):
        code, seconds = gang.take_away(index)
        assert (code, gang.report(index)["message"]) == (143, "stopped before the first batch")
        assert seconds < PATIENCE / 4
