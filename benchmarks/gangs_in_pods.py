"""The same trainings in two pods of a real node: what takes pods away and makes new ones is part of what is measured.

JobSet is built from its module and has its default way back: all Jobs are deleted and made anew. Its pods run torchrun,
as Kubeflow's runtime for PyTorch has them. feedline's operator is installed by its chart.
"""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster import build, chart, data, images, jobset
from cluster.node import NodeCluster
from gangs import BATCH, MARK, MODEL, NODES, OURS, PLAIN, PROCESSES, SAVED_EVERY, Gang, spec

_POD = {"cpu": "500m", "memory": "3Gi"}
_PORT = 29500


def build_all() -> None:
    """Build what the node needs, before anything is measured; that takes minutes the first time."""
    build.program("jobset", jobset.TOOLS)
    NodeCluster().build()
    images.build_images(["pytorch"])


@contextlib.contextmanager
def node() -> Iterator[tuple[NodeCluster, str]]:
    """Yield a node with feedline's operator and JobSet's controller, and the trainer's image."""
    with NodeCluster() as cluster:
        names = images.ensure_images(cluster, ["pytorch"])
        chart.install(cluster, names, "--set", "operator.statusIntervalSeconds=2")
        with jobset.running(cluster):
            yield cluster, names["pytorch"]


class InPods(Gang):
    """A gang in a namespace of its own.

    Parameters
    ----------
    folder
        As of a `Gang`; the pods must be able to come to it.
    cluster, image
        Where it runs, and what.
    """

    def __init__(self, folder: Path, cluster: NodeCluster, image: str) -> None:
        super().__init__(folder)
        self.cluster, self.image = cluster, image
        folder.chmod(0o755)
        self.namespace = cluster.new_namespace()
        data.share(folder / "data")
        data.claim(cluster, self.namespace, folder / "data", "data")
        data.output(cluster, self.namespace, folder / "kept")

    def bring_back(self) -> None:
        """Leave it to those whose work it is."""

    def end_first_node(self, number: signal.Signals) -> None:
        """Kill the first pod's processes, or delete it, as a drain does."""
        if number == signal.SIGTERM:
            which = "batch.kubernetes.io/job-completion-index=0"
            self.cluster.kubectl("delete", "pod", "-n", self.namespace, "-l", which, "--wait=false")
            return
        for process, variables in self.processes():
            if variables.get("JOB_COMPLETION_INDEX") == "0":
                process.kill()

    def close(self) -> None:
        """Remove the namespace with all that is in it."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")
        while self.cluster.kubectl("get", "namespace", self.namespace, check=False).returncode == 0:
            for process, _ in self.processes():
                process.kill()

    def log(self) -> str:
        """Return the end of what the pods have printed."""
        names = self.cluster.kubectl("get", "pods", "-n", self.namespace, "-o", "name").stdout.split()
        show = ("logs", "-n", self.namespace, "--tail=5")
        return "".join(self.cluster.kubectl(*show, name, check=False).stdout for name in names)


class FeedlineInPods(InPods):
    """A pipeline."""

    title = "feedline, in pods"

    def start(self) -> None:
        """Submit it."""
        metadata = {"name": "bench", "namespace": self.namespace}
        code = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"ours.py": OURS, "model.py": MODEL}}
        pipeline: dict[str, Any] = {"apiVersion": "feedline.dev/v1alpha1", "kind": "TrainingPipeline", "spec": spec()}
        pipeline["spec"] |= {
            "resources": {**_POD, "nodes": NODES, "processes": PROCESSES},
            "pod": {"env": [{"name": MARK, "value": str(self.folder)}]},
            "policy": {"maxRetries": 9},
        }
        pipeline["spec"]["train"]["source"] = {"configMap": {"name": "bench"}}
        self.cluster.apply([{**code, "metadata": metadata}, {**pipeline, "metadata": metadata}])


class JobSet(InPods):
    """Two pods of torchrun, whose Jobs are all made anew when one fails."""

    title = "JobSet, torchrun, in pods"

    def start(self) -> None:
        """Submit it."""
        for name, text in (("model.py", MODEL), ("plain.py", PLAIN)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o644)
        folder = str(self.folder)
        options = {
            "nnodes": str(NODES),
            "nproc-per-node": str(PROCESSES),
            "node-rank": "$(JOB_COMPLETION_INDEX)",
            "master-addr": f"bench-workers-0-0.bench.{self.namespace}.svc.cluster.local",
            "master-port": str(_PORT),
        }
        variables = {
            MARK: folder,
            "BENCH_BATCH": str(BATCH),
            "BENCH_SAVED_EVERY": str(SAVED_EVERY),
            "BENCH_WRITES": f"{folder}/kept",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": folder,
        }
        command = ["python", "-m", "torch.distributed.run", *(f"--{key}={value}" for key, value in options.items())]
        container = {
            "name": "trainer",
            "image": self.image,
            "command": [*command, f"{folder}/plain.py"],
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "resources": {"requests": _POD, "limits": _POD},
            "volumeMounts": [{"name": "bench", "mountPath": folder}],
        }
        pod = {
            "restartPolicy": "Never",
            "containers": [container],
            "volumes": [{"name": "bench", "hostPath": {"path": folder, "type": "Directory"}}],
        }
        job = {
            "parallelism": NODES,
            "completions": NODES,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "template": {"spec": pod},
        }
        self.cluster.apply(
            {
                "apiVersion": "jobset.x-k8s.io/v1alpha2",
                "kind": "JobSet",
                "metadata": {"name": "bench", "namespace": self.namespace},
                "spec": {
                    "failurePolicy": {"maxRestarts": 9},
                    "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
                    "replicatedJobs": [{"name": "workers", "replicas": 1, "template": {"spec": job}}],
                },
            }
        )


WAYS = (FeedlineInPods, JobSet)
