"""Kubeflow Trainer with JobSet, from their own modules, beside the api level: what `make bench-peers` compares with."""

import contextlib
from collections.abc import Iterator

from cluster import build, controllers, jobset
from cluster.api import ApiCluster

TOOLS = jobset.TOOLS
MODULES = {"Kubeflow Trainer": "github.com/kubeflow/trainer/v2", "JobSet": jobset.MODULE}
RUNTIME = "torch-distributed"
USERS = {
    "Trainer": "system:serviceaccount:kubeflow-system:kubeflow-trainer-controller-manager",
    "JobSet": jobset.USER,
}


def versions() -> dict[str, str]:
    """Return the pinned versions."""
    return {name: controllers.version(TOOLS, path) for name, path in MODULES.items()}


def build_all() -> None:
    """Build both, which takes minutes the first time."""
    build.programs(TOOLS)


@contextlib.contextmanager
def running(cluster: ApiCluster, calls_per_second: int, burst: int) -> Iterator[None]:
    """Run both in a block, each with this limit on its calls, from the moment at which their webhooks answer."""
    trainer = build.module(TOOLS, MODULES["Kubeflow Trainer"]) / "manifests" / "base"
    with jobset.running(cluster, clientConnection={"qps": calls_per_second, "burst": burst}):
        controllers.install(cluster, "kubeflow-system", trainer / "crds", trainer / "rbac")
        webhooks = controllers.Webhooks(cluster, "trainer")
        command = [
            build.program("trainer", TOOLS),
            *(f"--kube-api-qps={calls_per_second}", f"--kube-api-burst={burst}"),
            *(f"--webhook-port={webhooks.port}", f"--webhook-cert-dir={webhooks.folder}"),
        ]
        account = ("kubeflow-system", "kubeflow-trainer-controller-manager")
        with webhooks.serving(command, account, trainer / "webhook"):
            cluster.apply(trainer / "runtimes" / "torch_distributed.yaml")
            yield
