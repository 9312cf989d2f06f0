"""Kubeflow Trainer with JobSet, from their own modules, beside the api level: what `make bench-peers` compares with."""

import contextlib
from collections.abc import Iterator

from cluster import build, controllers
from cluster.api import ApiCluster

TOOLS = build.Tools("trainer", {"trainer": ".", "jobset": "sigs.k8s.io/jobset"})
MODULES = {"Kubeflow Trainer": "github.com/kubeflow/trainer/v2", "JobSet": "sigs.k8s.io/jobset"}
RUNTIME = "torch-distributed"
USERS = {
    "Trainer": "system:serviceaccount:kubeflow-system:kubeflow-trainer-controller-manager",
    "JobSet": "system:serviceaccount:jobset-system:controller-manager",
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
    trainer, jobset = (build.module(TOOLS, path) for path in MODULES.values())
    controllers.install(cluster, "kubeflow-system", trainer / "manifests/base/crds", trainer / "manifests/base/rbac")
    controllers.install(
        cluster, "jobset-system", jobset / "config/components/crd/bases", jobset / "config/components/rbac"
    )
    webhooks = {name: controllers.Webhooks(cluster, name) for name in ("trainer", "jobset")}
    configured = webhooks["jobset"].configured(
        apiVersion="config.jobset.x-k8s.io/v1alpha1", clientConnection={"qps": calls_per_second, "burst": burst}
    )
    flags = {
        "trainer": [
            *(f"--kube-api-qps={calls_per_second}", f"--kube-api-burst={burst}"),
            *(f"--webhook-port={webhooks['trainer'].port}", f"--webhook-cert-dir={webhooks['trainer'].folder}"),
        ],
        "jobset": [f"--config={configured}"],
    }
    accounts = {
        "trainer": ("kubeflow-system", "kubeflow-trainer-controller-manager"),
        "jobset": ("jobset-system", "controller-manager"),
    }
    folders = {"trainer": trainer / "manifests/base/webhook", "jobset": jobset / "config/components/webhook"}
    programs = build.programs(TOOLS)
    try:
        for name, account in accounts.items():
            environment = {"KUBECONFIG": str(cluster.kubeconfig_for(*account))}
            cluster.processes.start(name, [programs[name], *flags[name]], environment)
        for name, folder in folders.items():
            webhooks[name].register(folder)
        cluster.apply(trainer / "manifests/base/runtimes/torch_distributed.yaml")
        yield
    finally:
        for name in accounts:
            cluster.processes.kill(name)
            webhooks[name].remove()
