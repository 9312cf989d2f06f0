"""Kueue, from its own module and with the configuration of its release, beside an API server."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import yaml

from cluster import build, controllers
from cluster.api import ApiCluster
from cluster.errors import NotHereError
from cluster.world import World

TOOLS = build.Tools("kueue", {"kueue": "sigs.k8s.io/kueue/cmd/kueue"})
MODULE = "sigs.k8s.io/kueue"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

_API = "apis/kueue.x-k8s.io/v1beta2"
_NAMESPACE = "kueue-system"


def build_all() -> None:
    """Build Kueue, which takes minutes the first time."""
    if shutil.which("unshare") is None:
        raise NotHereError("There is no unshare here, which gives Kueue an /etc of its own: install util-linux.")
    build.program("kueue", TOOLS)


@contextlib.contextmanager
def running(cluster: ApiCluster) -> Iterator[None]:
    """Run Kueue in a block, from the moment at which its webhooks answer."""
    config = build.module(TOOLS, MODULE) / "config" / "components"
    controllers.install(cluster, _NAMESPACE, config / "crd" / "bases", config / "rbac")
    webhooks = controllers.Webhooks(cluster, "kueue")
    released = yaml.safe_load((config / "manager" / "controller_manager_config.yaml").read_text())
    configured = webhooks.configured(**released)
    # What it shows about queues would be a server of its own, behind an APIService.
    flags = [f"--config={configured}", "--feature-gates=VisibilityOnDemand=false"]
    # It wants a certificate for metrics, which nobody asks it for here, in one place of /etc.
    place = webhooks.folder / "etc" / "kueue" / "metrics" / "certs"
    place.mkdir(parents=True)
    for name in ("tls.crt", "tls.key"):
        shutil.copy(webhooks.folder / name, place)
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    within = ["sh", "-ec", 'mount --bind "$0" /etc; exec "$@"', webhooks.folder / "etc"]
    command = [*alone, *within, build.program("kueue", TOOLS), *flags]
    with webhooks.serving(command, (_NAMESPACE, "controller-manager"), config / "webhook"):
        yield


class Queue:
    """A queue of a world's own, with what `docs/how-to/kueue.md` has an administrator make.

    Parameters
    ----------
    world
        Its namespace has the LocalQueue.
    quota
        Resources by name, as much as may be held at once.
    """

    def __init__(self, world: World, **quota: str) -> None:
        self._world = world
        self.name = world.namespace
        self._make("resourceflavors", "ResourceFlavor", {})
        flavor = {
            "name": self.name,
            "resources": [{"name": name, "nominalQuota": amount} for name, amount in quota.items()],
        }
        groups = [{"coveredResources": list(quota), "flavors": [flavor]}]
        self._make("clusterqueues", "ClusterQueue", {"namespaceSelector": {}, "resourceGroups": groups})
        self._make(f"namespaces/{self.name}/localqueues", "LocalQueue", {"clusterQueue": self.name})

    def workload(self, name: str) -> dict | None:
        """Return the Workload of a pipeline's Job, None if there is none."""
        job = self._world.job(name)
        found = self._world.rest.do("GET", f"/{_API}/namespaces/{self.name}/workloads")["items"]
        owned = [
            each
            for each in found
            if job is not None
            and any(owner["uid"] == job["metadata"]["uid"] for owner in each["metadata"]["ownerReferences"])
        ]
        return owned[0] if owned else None

    def stop(self, policy: str = "HoldAndDrain") -> None:
        """Take back what was admitted; `None` lets the queue go on."""
        path = f"/{_API}/clusterqueues/{self.name}"
        self._world.rest.do("PATCH", path, {"spec": {"stopPolicy": policy}}, content="application/merge-patch+json")

    def _make(self, path: str, kind: str, spec: dict) -> None:
        document = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": kind, "metadata": {"name": self.name}}
        self._world.rest.do("POST", f"/{_API}/{path}", {**document, "spec": spec})
