"""The whole story by one command: a cluster, the operator as a pod, apply, watch, a rank that is killed, the verdict."""

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from cluster import chart, data
from cluster.images import ensure_images
from cluster.node import NodeCluster

NAMESPACE = "demo"
EXAMPLE = chart.ROOT / "examples" / "digits" / "pipeline.yaml"
# Long enough for a person to see it go on, and a place to go on from.
EPOCHS = 60
KILLED_BEYOND = 800
CHANGES = {
    "resources": {"nodes": 2, "processes": 2},
    "output": {"persistentVolumeClaim": {"claimName": "runs"}},
    "objective": {"value": "val_accuracy", "goal": "Maximize"},
}
_MINUTES = 5


def demo() -> int:
    """Train the digits in two pods of two processes, kill one on its way, and show all; return 0 if it completed."""
    with NodeCluster() as cluster, tempfile.TemporaryDirectory(prefix="feedline-demo-") as folder:
        Path(folder).chmod(0o755)
        _say("A Kubernetes with one node is up. The images come next, which takes minutes the first time.")
        images = ensure_images(cluster, ["pytorch"])
        _say(
            f"$ helm upgrade --install {chart.RELEASE} charts/feedline --namespace {chart.NAMESPACE} --create-namespace "
            "--wait --set operator.statusIntervalSeconds=1 --set-string … (the images that were built here)"
        )
        _out(chart.install(cluster, images, "--set", "operator.statusIntervalSeconds=1").rstrip())
        cluster.kubectl("create", "namespace", NAMESPACE)
        cluster.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        data.claim(cluster, NAMESPACE, data.pack_digits(Path(folder) / "digits"))
        runs = data.output(cluster, NAMESPACE, Path(folder) / "runs")
        _say(
            f"{os.path.relpath(EXAMPLE)}, with two pods of two processes each, {EPOCHS} epochs, an output on a claim, and "
            "a checkpoint every 200 steps:"
        )
        _show(cluster, "apply", "-f", _pipeline(Path(folder)))
        state = _watch(cluster)
        _show(cluster, "get", "pods")
        _show(cluster, "get", "tp", "digits", "-o", "wide")
        _feedline(cluster, "status", "digits")
        _feedline(cluster, "why", "digits")
        _feedline(cluster, "checkpoints", "digits")
        left = "\n".join(f"  {path.relative_to(runs)}" for path in sorted(runs.glob("*/*")))
        _say(f"On the claim lies what it made:\n{left}")
        _show(cluster, "delete", "tp", "digits")
    _say("The cluster is gone.")
    return 0 if state == "Completed" else 1


def _pipeline(folder: Path) -> str:
    """Write the pipeline of the demonstration, and return its path."""
    document = yaml.safe_load(EXAMPLE.read_text())
    document["spec"] |= CHANGES
    document["spec"]["train"] |= {"epochs": EPOCHS, "checkpoint": {"everySteps": 200}}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return str(path)


def _kill(pipeline: dict[str, Any]) -> None:
    """Kill the last rank of a pipeline, as a kernel does that has no memory left."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            variables = process.environ()
            if variables.get("FEEDLINE_RUN") == pipeline["metadata"]["uid"] and process.name() == "rank 3":
                process.kill()


def _watch(cluster: NodeCluster) -> str:
    """Print the pipeline's line whenever it changes, as `kubectl get tp -w` does, and return its last state."""
    _say(f"$ kubectl get tp digits -n {NAMESPACE} -w")
    deadline = time.monotonic() + 60 * _MINUTES
    last, is_killed = "", False
    while time.monotonic() < deadline:
        lines = cluster.kubectl("get", "tp", "digits", "-n", NAMESPACE).stdout.splitlines()
        without_age = lines[1].rsplit(maxsplit=1)[0]
        if without_age != last:
            _out("\n".join(lines if not last else lines[1:]))
            last = without_age
        pipeline = cluster.get("tp", "digits", "-n", NAMESPACE)
        status = pipeline.get("status", {})
        if not is_killed and status.get("feed", {}).get("steps", 0) > KILLED_BEYOND:
            is_killed = True
            _say("$ kill -9 of one of the four: all go on from the newest checkpoint, in other pods of the same Job.")
            _kill(pipeline)
        for condition in status.get("conditions", ()):
            if condition["type"] == "Succeeded" and condition["status"] != "Unknown":
                return condition["reason"]
        time.sleep(0.3)
    _say(f"Not done within {_MINUTES} minutes.")
    return "Running"


def _show(cluster: NodeCluster, *args: str) -> None:
    _say(f"$ kubectl {shlex.join(args)} -n {NAMESPACE}")
    _out(cluster.kubectl(*args, "-n", NAMESPACE).stdout.rstrip())


def _feedline(cluster: NodeCluster, *args: str) -> None:
    _say(f"$ kubectl feedline {shlex.join(args)} -n {NAMESPACE}")
    program = Path(sys.executable).with_name("feedline")
    subprocess.run([program, *args, "-n", NAMESPACE, "--kubeconfig", cluster.kubeconfig], check=False)


def _say(text: str) -> None:
    _out(f"\n{text}")


def _out(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a demonstration is there to be read
