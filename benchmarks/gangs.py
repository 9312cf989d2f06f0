"""Trainings of four processes in two groups, as on two nodes, that are started, disturbed and watched from outside.

All ways train the same model on the same rows, with a pause in each step in place of an accelerator's work, and save
themselves every so many steps. Each rank writes a line for each step, by which is seen when it has stopped and when the
training goes on. Here the groups are played on this machine; those in pods are in `gangs_in_pods`.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from cluster.processes import free_port

NODES, PROCESSES = 2, 2
WORLD: Final = NODES * PROCESSES
ROWS, BATCH, SAVED_EVERY, STEPS = 20_000, 64, 25, 100_000
MARK: Final = "BENCH_GANG"
_PATIENCE_SECONDS: Final = 150

MODEL: Final = """
import os
import time
import uuid
import torch

def model_of(width):
    return torch.nn.Sequential(torch.nn.Linear(width, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

def step(network, optimizer, features, labels):
    loss = torch.nn.functional.cross_entropy(network(features), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(0.02)

def log(rank, folder):
    file, life = open(os.path.join(folder, f"steps-{rank}.txt"), "a"), uuid.uuid4().hex
    return lambda number: print(life, number, time.time(), file=file, flush=True)
"""
OURS: Final = """
import torch
from model import log, model_of, step

def train(run):
    model = model_of(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.checkpoint(model=model, optimizer=optimizer)
    network, note = run.distribute(model), log(run.rank, run.output)
    for _ in run.epochs():
        for batch in run.train:
            step(network, optimizer, batch["features"], batch["labels"])
            note(run.train.steps)
"""
PLAIN: Final = """
import os
import numpy as np
import torch
from torch import distributed
from model import log, model_of, step

distributed.init_process_group("gloo")
rank, world = distributed.get_rank(), distributed.get_world_size()
folder, kept = os.environ["BENCH_GANG"], os.environ["BENCH_WRITES"]
features = torch.from_numpy(np.load(f"{folder}/data/features.npy"))
labels = torch.from_numpy(np.load(f"{folder}/data/labels.npy"))
model = model_of(32)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
done, saved = 0, f"{kept}/saved.pt"
if os.path.exists(saved):
    state = torch.load(saved, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    done = state["step"]
network, note = torch.nn.parallel.DistributedDataParallel(model), log(rank, kept)
share = int(os.environ["BENCH_BATCH"]) // world
while True:
    rows = torch.randint(len(labels), (share,))
    step(network, optimizer, features[rows], labels[rows])
    done += 1
    note(done)
    if rank == 0 and done % int(os.environ["BENCH_SAVED_EVERY"]) == 0:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}, saved + ".new")
        os.replace(saved + ".new", saved)
"""


def spec() -> dict[str, Any]:
    """Return what feedline is told of the training, but for where it runs."""
    arrays = [
        {"name": name, "path": f"data/{name}.npy", "role": role}
        for name, role in (("features", "Input"), ("labels", "Target"))
    ]
    return {
        "backend": "pytorch",
        "data": {
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            "train": {"arrays": arrays},
        },
        "loader": {"batchSize": BATCH},
        "output": {"persistentVolumeClaim": {"claimName": "runs"}},
        "train": {
            "entrypoint": "ours:train",
            "steps": STEPS,
            "checkpoint": {"everySteps": SAVED_EVERY, "everySeconds": 0},
        },
    }


class Gang(ABC):
    """Two groups of processes, one a node.

    Parameters
    ----------
    folder
        An empty folder for data, logs and checkpoints.
    """

    title: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        random = np.random.default_rng(1)
        (folder / "data").mkdir(parents=True)
        np.save(folder / "data" / "features.npy", random.normal(size=(ROWS, 32)).astype(np.float32))
        np.save(folder / "data" / "labels.npy", random.integers(10, size=ROWS))
        (folder / "model.py").write_text(MODEL)

    @abstractmethod
    def start(self) -> None:
        """Start it."""

    @abstractmethod
    def close(self) -> None:
        """End everything."""

    @abstractmethod
    def bring_back(self) -> None:
        """Do what is around the gang when a part of it has ended: the operator's part, the Job's, or a person's."""

    @abstractmethod
    def end_first_node(self, number: signal.Signals) -> None:
        """End the first node: all of its processes by SIGKILL, or its first one by SIGTERM."""

    @abstractmethod
    def log(self) -> str:
        """Return the end of what the nodes have printed."""

    def ranks(self) -> dict[int, psutil.Process]:
        """Return the processes that train, by rank."""
        found = {}
        for process, variables in self.processes():
            # feedline's are forked, and bear it in their name.
            _, _, rank = process.name().partition("rank ")
            if rank := rank or variables.get("RANK", ""):
                found[int(rank)] = process
        return found

    def processes(self) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
        """Yield all processes of the gang that live, each with its environment."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                variables = process.environ()
                if variables.get(MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    yield process, variables

    def steps(self) -> Iterator[tuple[str, int, float]]:
        """Yield the process (each life has a name of its own), the step and its time, of all steps of all ranks."""
        for path in self.folder.rglob("steps-*.txt"):
            for line in path.read_text().splitlines():
                life, number, moment = line.split()
                yield life, int(number), float(moment)

    def wait_for_steps(self, more: int) -> None:
        """Wait until all ranks have done so many steps."""
        due = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < due:
            counts = Counter(life for life, _, _ in self.steps())
            if len(counts) == WORLD and min(counts.values()) >= more:
                return
            time.sleep(0.2)
        raise TimeoutError(f"{self.title} does not train: {self.log()}")

    def disturbed(self, by: "Disturbance") -> dict[str, float]:
        """Disturb the training, bring it back, and return what that took, in seconds and steps."""
        before, known = self.ranks(), {life for life, _, _ in self.steps()}
        gone = range(PROCESSES) if by.is_whole_node else (WORLD - 1,)
        began = time.time()
        if by.is_whole_node:
            self.end_first_node(by.signal)
        else:
            before[WORLD - 1].send_signal(by.signal)
        others = [process for rank, process in before.items() if rank not in gone]
        stopped = _gone_after(others, began)
        due = time.monotonic() + _PATIENCE_SECONDS
        while not (new := [(at, number) for life, number, at in self.steps() if life not in known]):
            if time.monotonic() > due:
                raise TimeoutError(f"{self.title} does not go on: {self.log()}")
            self.bring_back()
            time.sleep(0.05)
        first, number = min(new)
        last = max(each for life, each, _ in self.steps() if life in known)
        return {"stopped": stopped, "goesOn": first - began, "stepsLost": last - (number - 1)}


@dataclass(frozen=True)
class Disturbance:
    """Something that happens to a gang.

    Attributes
    ----------
    title
        Its name for people.
    signal
        What the victims get.
    is_whole_node
        Whether that is the first node; else the last rank alone.
    """

    title: str
    signal: signal.Signals
    is_whole_node: bool


class Played(Gang):
    """A gang whose nodes are processes of this one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}

    @abstractmethod
    def command(self, node: int) -> tuple[list[str], dict[str, str]]:
        """Return what is run on a node, and its variables."""

    def start(self, *nodes: int) -> None:
        """Start nodes; all of them by default."""
        for node in nodes or range(NODES):
            command, variables = self.command(node)
            environment = {**os.environ, **variables, MARK: str(self.folder), "OMP_NUM_THREADS": "1"}
            with (self.folder / f"log-{node}.txt").open("ab") as log:
                self.nodes[node] = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)

    def close(self) -> None:
        """End everything."""
        for process in (*self.nodes.values(), *self.ranks().values()):
            process.kill()
        for node in self.nodes.values():
            node.wait()

    def end_first_node(self, number: signal.Signals) -> None:
        """End the first node."""
        ranks = self.ranks()
        self.nodes[0].send_signal(number)
        if number == signal.SIGKILL:
            for rank in range(PROCESSES):
                ranks[rank].kill()

    def log(self) -> str:
        """Return the end of what the nodes have printed."""
        return "".join(path.read_text(errors="replace")[-500:] for path in sorted(self.folder.glob("log-*.txt")))


def _gone_after(processes: list[psutil.Process], began: float) -> float:
    """Return the seconds after which none of these is there any more, by itself."""
    due = time.monotonic() + _PATIENCE_SECONDS
    while any(_is_there(process) for process in processes):
        if time.monotonic() > due:
            raise TimeoutError("processes of the training before do not end")
        time.sleep(0.02)
    return time.time() - began


def _is_there(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Feedline(Played):
    """Two pods as feedline has them; the bench takes the operator's part and the Job's, without its delays."""

    title = "feedline"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "ours.py").write_text(OURS)
        (folder / "manifest.json").write_text(json.dumps(spec()))

    def command(self, node: int) -> tuple[list[str], dict[str, str]]:
        """Return the first process of a pod."""
        variables = {
            "FEEDLINE_MANIFEST": str(self.folder / "manifest.json"),
            "FEEDLINE_VOLUMES": json.dumps({"data": str(self.folder / "data")}),
            "FEEDLINE_OUTPUT": str(self.folder / "kept"),
            "FEEDLINE_RUN": "bench",
            "FEEDLINE_METRICS_PORT": "",
            "FEEDLINE_NODES": str(NODES),
            "FEEDLINE_PROCESSES": str(PROCESSES),
            "FEEDLINE_PEERS": f"127.0.0.1:{self.port}",
            "JOB_COMPLETION_INDEX": str(node),
            "GLOO_SOCKET_IFNAME": "lo",
            "PYTHONPATH": str(self.folder),
        }
        return [sys.executable, "-m", "feedline.launch"], variables

    def bring_back(self) -> None:
        """Take away the pods that are left when one has ended, and start all of them anew."""
        if any(pod.poll() is not None for pod in self.nodes.values()):
            for pod in self.nodes.values():
                if pod.poll() is None:
                    pod.terminate()
                    pod.wait()
            self.start()


class Torchrun(Played):
    """Two agents of torchrun with the rendezvous c10d, which start their processes anew by themselves."""

    title = "torchrun, c10d"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "plain.py").write_text(PLAIN)

    def command(self, node: int) -> tuple[list[str], dict[str, str]]:
        """Return an agent."""
        options = {
            "nnodes": str(NODES),
            "nproc-per-node": str(PROCESSES),
            "max-restarts": "9",
            "rdzv-backend": "c10d",
            "rdzv-endpoint": f"127.0.0.1:{self.port}",
            "rdzv-id": "bench",
            "rdzv-conf": f"is_host={'true' if node == 0 else 'false'}",
            "local-addr": "127.0.0.1",
        }
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            *(f"--{key}={value}" for key, value in options.items()),
        ]
        variables = {
            "GLOO_SOCKET_IFNAME": "lo",
            "BENCH_BATCH": str(BATCH),
            "BENCH_SAVED_EVERY": str(SAVED_EVERY),
            "BENCH_WRITES": str(self.folder),
            "PYTHONPATH": str(self.folder),
        }
        return [*command, str(self.folder / "plain.py")], variables

    def bring_back(self) -> None:
        """Start agents that have ended: the others wait for them, or have ended as well."""
        for node, agent in list(self.nodes.items()):
            if agent.poll() is not None:
                self.start(node)
