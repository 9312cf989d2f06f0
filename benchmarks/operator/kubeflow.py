"""Kubeflow Trainer with JobSet, from their own modules, beside the api level: what `make bench-peers` compares with.

Controllers, webhooks, CRDs and rights are theirs. The webhooks are registered by URL with a certificate made here, in
place of the Service and the certificates that a cluster with nodes would give them.
"""

import base64
import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cluster import build
from cluster.api import ApiCluster
from cluster.processes import free_port

TOOLS = build.Tools("trainer", {"trainer": ".", "jobset": "sigs.k8s.io/jobset"})
MODULES = {"Kubeflow Trainer": "github.com/kubeflow/trainer/v2", "JobSet": "sigs.k8s.io/jobset"}
RUNTIME = "torch-distributed"
USERS = {
    "Trainer": "system:serviceaccount:kubeflow-system:kubeflow-trainer-controller-manager",
    "JobSet": "system:serviceaccount:jobset-system:controller-manager",
}

_NAMESPACED = frozenset({"ServiceAccount", "Role", "RoleBinding"})


def versions() -> dict[str, str]:
    """Return the pinned versions."""
    pins = (build.TOOLS / TOOLS.folder / "go.mod").read_text()
    return {name: re.search(rf"{re.escape(path)} (v\S+)", pins)[1] for name, path in MODULES.items()}


def build_all() -> None:
    """Build both, which takes minutes the first time."""
    build.programs(TOOLS)


@contextlib.contextmanager
def running(cluster: ApiCluster, calls_per_second: int, burst: int) -> Iterator[None]:
    """Run both in a block, each with this limit on its calls, from the moment at which their webhooks answer."""
    trainer, jobset = (build.module(TOOLS, path) for path in MODULES.values())
    _install(cluster, "kubeflow-system", trainer / "manifests/base/crds", trainer / "manifests/base/rbac")
    _install(cluster, "jobset-system", jobset / "config/components/crd/bases", jobset / "config/components/rbac")
    folder = cluster.folder / "webhooks"
    certificate = _certificate(folder)
    ports = {"trainer": free_port(), "jobset": free_port()}
    flags = {
        "trainer": [
            *(f"--kube-api-qps={calls_per_second}", f"--kube-api-burst={burst}"),
            *(f"--webhook-port={ports['trainer']}", f"--webhook-cert-dir={folder}"),
        ],
        "jobset": [f"--config={_jobset_configuration(folder, ports['jobset'], calls_per_second, burst)}"],
    }
    accounts = {
        "trainer": ("kubeflow-system", "kubeflow-trainer-controller-manager"),
        "jobset": ("jobset-system", "controller-manager"),
    }
    programs = build.programs(TOOLS)
    try:
        for name, account in accounts.items():
            environment = {"KUBECONFIG": str(cluster.kubeconfig_for(*account))}
            cluster.processes.start(name, [programs[name], *flags[name]], environment)
            _wait_for_port(cluster, name, ports[name])
        webhooks = [
            *_webhooks(trainer / "manifests/base/webhook", "trainer", ports["trainer"], certificate),
            *_webhooks(jobset / "config/components/webhook", "jobset", ports["jobset"], certificate),
        ]
        cluster.apply(webhooks)
        cluster.apply(trainer / "manifests/base/runtimes/torch_distributed.yaml")
        yield
    finally:
        for name in accounts:
            cluster.processes.kill(name)
        kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
        cluster.kubectl("delete", kinds, "-l", "bench=peers", check=False)


def _install(cluster: ApiCluster, namespace: str, *folders: Path) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for folder in folders:
        paths = [path for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml"]
        documents = [document for path in paths for document in yaml.safe_load_all(path.read_text()) if document]
        cluster.apply([_placed(document, namespace) for document in documents])


def _placed(document: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return what kustomize would make of a document of `config/` for a namespace."""
    if document["kind"] in _NAMESPACED:
        document["metadata"]["namespace"] = namespace
    for subject in document.get("subjects", ()):
        subject["namespace"] = namespace
    return document


def _webhooks(folder: Path, prefix: str, port: int, certificate: bytes) -> Iterator[dict[str, Any]]:
    """Return a module's webhook configurations, at an address of loopback."""
    patches = {"ValidatingWebhookConfiguration": "validating", "MutatingWebhookConfiguration": "mutating"}
    for document in yaml.safe_load_all((folder / "manifests.yaml").read_text()):
        document["metadata"] = {"name": f"{prefix}-{document['metadata']['name']}", "labels": {"bench": "peers"}}
        patch = folder / "patches" / f"{patches[document['kind']]}-patch.yaml"
        for step in yaml.safe_load(patch.read_text()) if patch.exists() else ():
            document["webhooks"][int(step["path"].rsplit("/", 1)[1])] = step["value"]
        for webhook in document["webhooks"]:
            path = webhook["clientConfig"]["service"]["path"]
            webhook["clientConfig"] = {
                "url": f"https://127.0.0.1:{port}{path}",
                "caBundle": base64.b64encode(certificate).decode(),
            }
        yield document


def _certificate(folder: Path) -> bytes:
    """Make a key and a certificate for 127.0.0.1 that is its own authority, and return the latter."""
    folder.mkdir(exist_ok=True)
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=webhooks"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"),
    ]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    return (folder / "tls.crt").read_bytes()


def _jobset_configuration(folder: Path, port: int, calls_per_second: int, burst: int) -> Path:
    path = folder / "jobset.json"
    document = {
        "apiVersion": "config.jobset.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "webhook": {"host": "127.0.0.1", "port": port, "certDir": str(folder)},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": "0"},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "clientConnection": {"qps": calls_per_second, "burst": burst},
    }
    path.write_text(json.dumps(document))
    return path


def _wait_for_port(cluster: ApiCluster, name: str, port: int) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    cluster.processes.wait_until(listens, name, f"the webhooks of {name} listened")
