"""JobSet, from its own module, beside a cluster: what is measured against."""

import contextlib
from collections.abc import Iterator
from typing import Any

from cluster import build, controllers
from cluster.api import ApiCluster

# Kubeflow Trainer pins the JobSet that it wants.
TOOLS = build.Tools("trainer", {"trainer": ".", "jobset": "sigs.k8s.io/jobset"})
MODULE = "sigs.k8s.io/jobset"

_NAMESPACE = "jobset-system"
USER = f"system:serviceaccount:{_NAMESPACE}:controller-manager"


@contextlib.contextmanager
def running(cluster: ApiCluster, **configuration: Any) -> Iterator[None]:
    """Run JobSet in a block, with more of its configuration, from the moment at which its webhooks answer."""
    config = build.module(TOOLS, MODULE) / "config" / "components"
    controllers.install(cluster, _NAMESPACE, config / "crd" / "bases", config / "rbac")
    webhooks = controllers.Webhooks(cluster, "jobset")
    configured = webhooks.configured(apiVersion="config.jobset.x-k8s.io/v1alpha1", **configuration)
    command = [build.program("jobset", TOOLS), f"--config={configured}"]
    with webhooks.serving(command, (_NAMESPACE, "controller-manager"), config / "webhook"):
        yield
