"""Trainings of four processes in two groups, as on two nodes, that are started, disturbed and watched from outside.

Both ways train the same model on the same rows, with a pause in each step in place of an accelerator's work, and save
themselves every so many steps. Each rank writes a line for each step, by which is seen when it has stopped and when the
training goes on.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import psutil

NODES, PROCESSES = 2, 2
WORLD: Final = NODES * PROCESSES
ROWS, BATCH, SAVED_EVERY, STEPS = 20_000, 64, 25, 100_000
_MARK: Final = "BENCH_GANG"
_PATIENCE_SECONDS: Final = 150

_MODEL: Final = """
import os
import time
import torch

def model_of(width):
    return torch.nn.Sequential(torch.nn.Linear(width, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))

def step(network, optimizer, features, labels):
    loss = torch.nn.functional.cross_entropy(network(features), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(0.02)

def log(rank):
    file = open(os.path.join(os.environ["BENCH_GANG"], f"steps-{rank}.txt"), "a")
    return lambda number: print(os.getpid(), number, time.time(), file=file, flush=True)
"""
_OURS: Final = """
import torch
from model import log, model_of, step

def train(run):
    model = model_of(32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run.checkpoint(model=model, optimizer=optimizer)
    network, note = run.distribute(model), log(run.rank)
    for _ in run.epochs():
        for batch in run.train:
            step(network, optimizer, batch["features"], batch["labels"])
            note(run.train.steps)
"""
_PLAIN: Final = """
import os
import numpy as np
import torch
from torch import distributed
from model import log, model_of, step

distributed.init_process_group("gloo")
rank, world = distributed.get_rank(), distributed.get_world_size()
folder = os.environ["BENCH_GANG"]
features = torch.from_numpy(np.load(f"{folder}/data/features.npy"))
labels = torch.from_numpy(np.load(f"{folder}/data/labels.npy"))
model = model_of(32)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
done, saved = 0, f"{folder}/saved.pt"
if os.path.exists(saved):
    state = torch.load(saved, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    done = state["step"]
network, note = torch.nn.parallel.DistributedDataParallel(model), log(rank)
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
        (folder / "model.py").write_text(_MODEL)
        self.port = _free_port()
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}

    @abstractmethod
    def command(self, node: int) -> tuple[list[str], dict[str, str]]:
        """Return what is run on a node, and its variables."""

    @abstractmethod
    def bring_back(self) -> None:
        """Do what is around the gang when a part of it has ended: the operator's part, the Job's, or a person's."""

    def start(self, *nodes: int) -> None:
        """Start nodes; all of them by default."""
        for node in nodes or range(NODES):
            command, variables = self.command(node)
            environment = {**os.environ, **variables, _MARK: str(self.folder), "OMP_NUM_THREADS": "1"}
            with (self.folder / f"log-{node}.txt").open("ab") as log:
                self.nodes[node] = subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=log)

    def ranks(self) -> dict[int, psutil.Process]:
        """Return the processes that train, by rank."""
        found = {}
        for process in psutil.process_iter():
            try:
                variables = process.environ()
                is_one = variables.get(_MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if is_one and "RANK" in variables:
                found[int(variables["RANK"])] = process
        return found

    def steps(self) -> Iterator[tuple[int, int, float]]:
        """Yield process, step and time of all steps of all ranks."""
        for path in self.folder.glob("steps-*.txt"):
            for line in path.read_text().splitlines():
                pid, number, moment = line.split()
                yield int(pid), int(number), float(moment)

    def wait_for_steps(self, more: int) -> None:
        """Wait until all ranks have done so many steps in the processes that they are now."""
        due = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < due:
            pids = [process.pid for process in self.ranks().values()]
            counts = [sum(pid == each for each, _, _ in self.steps()) for pid in pids]
            if len(counts) == WORLD and min(counts) >= more:
                return
            time.sleep(0.2)
        raise TimeoutError(f"{self.title} does not train: {self.log()}")

    def log(self) -> str:
        """Return the end of what the nodes have printed."""
        return "".join(path.read_text(errors="replace")[-500:] for path in sorted(self.folder.glob("log-*.txt")))

    def disturbed(self, by: "Disturbance") -> dict[str, float]:
        """Disturb the training, bring it back, and return what that took, in seconds and steps."""
        before = self.ranks()
        gone = by.victims(self, before)
        began = time.time()
        for process in gone:
            process.send_signal(by.signal)
        others = [process for process in before.values() if process not in gone]
        stopped = _gone_after(others, began)
        known = {process.pid for process in before.values()}
        due = time.monotonic() + _PATIENCE_SECONDS
        while not (new := [(at, number) for pid, number, at in self.steps() if pid not in known and at > began]):
            if time.monotonic() > due:
                raise TimeoutError(f"{self.title} does not go on: {self.log()}")
            self.bring_back()
            time.sleep(0.05)
        first, number = min(new)
        last = max(each for pid, each, moment in self.steps() if pid in known and moment <= began + stopped)
        return {"stopped": stopped, "goesOn": first - began, "stepsLost": last - (number - 1)}

    def close(self) -> None:
        """End everything."""
        for process in (*self.nodes.values(), *self.ranks().values()):
            process.kill()
        for node in self.nodes.values():
            node.wait()


class Disturbance:
    """Something that happens to a gang.

    Parameters
    ----------
    title
        Its name for people.
    signal
        What the victims get.
    is_whole_node
        Whether that is all processes of the first node; else the last rank alone.
    """

    def __init__(self, title: str, signal: signal.Signals, *, is_whole_node: bool) -> None:
        self.title, self.signal, self._is_whole_node = title, signal, is_whole_node

    def victims(self, gang: Gang, ranks: dict[int, psutil.Process]) -> list[psutil.Process]:
        """Return whom it happens to."""
        if not self._is_whole_node:
            return [ranks[WORLD - 1]]
        own = [psutil.Process(gang.nodes[0].pid)]
        return own if self.signal == signal.SIGTERM else [*own, *(ranks[rank] for rank in range(PROCESSES))]


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


class Feedline(Gang):
    """Two pods as feedline has them; the bench takes the operator's part and the Job's, without its delays."""

    title = "feedline"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "ours.py").write_text(_OURS)
        arrays = [
            {"name": name, "path": f"data/{name}.npy", "role": role}
            for name, role in (("features", "Input"), ("labels", "Target"))
        ]
        spec = {
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
        (folder / "manifest.json").write_text(json.dumps(spec))

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


class Torchrun(Gang):
    """Two agents of torchrun with the rendezvous c10d, which start their processes anew by themselves."""

    title = "torchrun, c10d"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "plain.py").write_text(_PLAIN)

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
            "PYTHONPATH": str(self.folder),
        }
        return [*command, str(self.folder / "plain.py")], variables

    def bring_back(self) -> None:
        """Start agents that have ended: the others wait for them, or have ended as well."""
        for node, agent in list(self.nodes.items()):
            if agent.poll() is not None:
                self.start(node)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
