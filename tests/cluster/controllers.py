"""Controllers of others, from their own modules, as programs beside a cluster.

Programs, CRDs, rights and webhooks are theirs. A webhook is registered by URL with a certificate made here, in place of
the Service and the certificates that a cluster with nodes would give it.
"""

import base64
import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster import build
from cluster.api import ApiCluster
from cluster.processes import free_port

_NAMESPACED = frozenset({"ServiceAccount", "Role", "RoleBinding", "Secret"})


def version(tools: build.Tools, module: str) -> str:
    """Return the version of a module that is pinned."""
    pins = (build.TOOLS / tools.folder / "go.mod").read_text()
    return re.search(rf"{re.escape(module)} (v\S+)", pins)[1]


def install(cluster: ApiCluster, namespace: str, *folders: Path) -> None:
    """Put what lies in folders of a module's `config/` into a namespace of its own, as kustomize would."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for folder in folders:
        paths = [path for path in sorted(folder.glob("*.yaml")) if path.name != "kustomization.yaml"]
        documents = [document for path in paths for document in yaml.safe_load_all(path.read_text()) if document]
        cluster.apply([_placed(document, namespace) for document in documents])


class Webhooks:
    """Where the webhooks of a program listen, and how the API server is told.

    Parameters
    ----------
    cluster
        Whose API server calls them.
    name
        The program's.
    """

    def __init__(self, cluster: ApiCluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._address = cluster.host_address
        self.port = free_port(self._address)
        self.folder = cluster.folder / f"webhooks-{name}"
        self.folder.mkdir(exist_ok=True)
        self._certificate = _certificate(self.folder, self._address)

    def configured(self, **fields: Any) -> Path:
        """Write a configuration, but for what a controller must be told that runs alone, beside; return its path."""
        path = self.folder / "configuration.json"
        document = {
            "kind": "Configuration",
            "webhook": {"host": self._address, "port": self.port, "certDir": str(self.folder)},
            "metrics": {"bindAddress": "0"},
            "health": {"healthProbeBindAddress": "0"},
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
        }
        path.write_text(json.dumps({**fields, **document}))
        return path

    @contextlib.contextmanager
    def serving(self, command: Sequence[str | Path], account: tuple[str, str], folder: Path) -> Iterator[None]:
        """Run the program in a block, from the moment at which the API server knows its webhooks.

        Parameters
        ----------
        command
            The program's.
        account
            Namespace and name of the ServiceAccount that it runs as.
        folder
            Of the module's `config/`, where the webhooks are listed.
        """
        processes, kubeconfig = self._cluster.processes, self._cluster.kubeconfig_for(*account)
        try:
            processes.start(self._name, command, {"KUBECONFIG": str(kubeconfig)})
            processes.wait_until(self._listen, self._name, f"the webhooks of {self._name} listened")
            self._cluster.apply(list(self._documents(folder)))
            yield
        finally:
            processes.kill(self._name)
            kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
            self._cluster.kubectl("delete", kinds, "-l", f"webhooks-of={self._name}", check=False)

    def _documents(self, folder: Path) -> Iterator[dict[str, Any]]:
        patches = {"ValidatingWebhookConfiguration": "validating", "MutatingWebhookConfiguration": "mutating"}
        for document in yaml.safe_load_all((folder / "manifests.yaml").read_text()):
            name = f"{self._name}-{document['metadata']['name']}"
            document["metadata"] = {"name": name, "labels": {"webhooks-of": self._name}}
            patch = folder / "patches" / f"{patches[document['kind']]}-patch.yaml"
            for step in yaml.safe_load(patch.read_text()) if patch.exists() else ():
                document["webhooks"][int(step["path"].rsplit("/", 1)[1])] = step["value"]
            for webhook in document["webhooks"]:
                path = webhook["clientConfig"]["service"]["path"]
                webhook["clientConfig"] = {
                    "url": f"https://{self._address}:{self.port}{path}",
                    "caBundle": base64.b64encode(self._certificate).decode(),
                }
            yield document

    def _listen(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self._address, self.port), timeout=1):
            return True
        return False


def _placed(document: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return what kustomize would make of a document of `config/` for a namespace."""
    if document["kind"] in _NAMESPACED:
        document["metadata"]["namespace"] = namespace
    for subject in document.get("subjects", ()):
        subject["namespace"] = namespace
    return document


def _certificate(folder: Path, address: str) -> bytes:
    """Make a key and a certificate for an address that is its own authority, and return the latter."""
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=webhooks"),
        *("-addext", f"subjectAltName=IP:{address}", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"),
    ]
    subprocess.run(command, capture_output=True, timeout=60, check=True)
    return (folder / "tls.crt").read_bytes()
