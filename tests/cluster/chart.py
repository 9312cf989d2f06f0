"""The chart, through the real helm: what it renders, and how it comes into a cluster."""

import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import yaml

from cluster import build
from cluster.errors import ClusterError

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "feedline"
NAMESPACE = "feedline-system"
RELEASE = "feedline"
_KUBERNETES = ("--kube-version", build.NEWEST)


class Cluster(Protocol):
    """What is asked of a cluster here."""

    kubeconfig: Path


def helm(*args: str | Path, cluster: Cluster | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run helm, which finds no configuration, cache or plugin of the person who runs it.

    Raises
    ------
    NotHereError
        helm is not built, and there is no Go.
    ClusterError
        It failed, and `check` is true; the message is what it wrote.
    """
    program = build.program("helm", build.HELM)
    with tempfile.TemporaryDirectory(prefix="feedline-helm-") as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}
        environment |= {f"HELM_{kind}_HOME": f"{home}/{kind}" for kind in ("CACHE", "CONFIG", "DATA")}
        environment["KUBECONFIG"] = str(cluster.kubeconfig) if cluster else f"{home}/none"
        command = [program, *args]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    if check and done.returncode:
        raise ClusterError(f"helm {' '.join(map(str, args))}: {done.stderr.strip()}")
    return done


def rendered(*args: str | Path, namespace: str = NAMESPACE, tests: bool = False) -> list[dict]:
    """Return the objects that `helm template` makes with these arguments; those of `helm test` only if `tests`."""
    arguments = args if tests else ("--skip-tests", *args)
    return [document for document in yaml.safe_load_all(_template(namespace, *arguments)) if document]


def rights(*args: str | Path, namespace: str = NAMESPACE) -> list[dict]:
    """Return the operator's ServiceAccount, roles and bindings."""
    templates = ("templates/rbac.yaml", "templates/serviceaccount.yaml")
    return rendered(*(part for template in templates for part in ("--show-only", template)), *args, namespace=namespace)


@functools.cache
def _template(namespace: str, *args: str | Path) -> str:
    return helm("template", RELEASE, CHART, "--namespace", namespace, *_KUBERNETES, *args).stdout


def image_values(images: dict[str, str]) -> Iterator[str]:
    """Yield helm's arguments for images by backend, and the operator's by ``operator``."""
    for name, image in images.items():
        path = "operator.image" if name == "operator" else f"trainer.images.{name}"
        registry, rest = image.split("/", 1)
        repository, tag = rest.rsplit(":", 1)
        for field, value in (("registry", registry), ("repository", repository), ("tag", tag)):
            yield from ("--set-string", f"{path}.{field}={value}")


def install(cluster: Cluster, images: dict[str, str], *args: str | Path, wait: bool = True) -> str:
    """Install the chart, or upgrade it, as its README says, with these images; return what helm said."""
    waiting: Sequence[str] = ("--wait", "--timeout", "120s") if wait else ()
    command = ("upgrade", "--install", RELEASE, CHART, "--namespace", NAMESPACE, "--create-namespace", *waiting)
    return helm(*command, *image_values(images), *args, cluster=cluster).stdout
