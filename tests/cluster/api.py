"""The api level: etcd, kube-apiserver and kube-controller-manager on loopback, as any user.

RBAC, CEL, quotas, garbage collection and the Job controller are real. Nothing runs the pods: a test sets their status.
The API server can be stopped and started again on the same port with everything still there.
"""

import contextlib
import http.client
import json
import random
import secrets
import shutil
import socket
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cluster import build
from cluster.errors import ClusterError, NotHereError
from cluster.folders import RunFolder
from cluster.processes import Processes

SERVICE_RANGE = "10.96.0.0/16"

# One record for each request when it is answered, and one when a watch begins.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


class ApiCluster:
    """A Kubernetes API with its controllers, from `with` to the end of the block.

    Parameters
    ----------
    version : str
        The Kubernetes minor version, one of `build.KUBERNETES`.
    """

    level = "api"
    # Where its API server, and its pods if it has any, reach a program on this machine.
    host_address = "127.0.0.1"
    # The Service `kubernetes` cannot lead to a loopback address.
    endpoint_reconciler = "none"

    def __init__(self, version: str = build.NEWEST) -> None:
        if version not in build.KUBERNETES:
            raise ClusterError(f"Kubernetes {version} is none of ours: take {' or '.join(build.KUBERNETES)}.")
        self.version = version
        self.address = "127.0.0.1"

    # --- life --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.build()
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def build(self) -> None:
        """Build the programs that are missing, which takes minutes the first time."""
        if shutil.which("openssl") is None:
            raise NotHereError(
                "There is no openssl here, which makes the key of the cluster's tokens: install openssl."
            )
        newest, own = build.KUBERNETES[build.NEWEST], build.KUBERNETES[self.version]
        self._kubectl = build.asset("kubectl") or build.program("kubectl", newest)
        build.program("helm", build.HELM)
        self._etcd = build.asset("etcd") or build.program("etcd", build.ETCD)
        self._kube_apiserver = self._apiserver_asset() or build.program("kube-apiserver", own)
        self._kube_controller_manager = build.program("kube-controller-manager", own)

    def _open(self, stack: contextlib.ExitStack) -> None:
        """Start everything; what undoes it goes onto the stack first."""
        self.folder = stack.enter_context(RunFolder(self.level, self.remove_leftovers)).path
        self.audit_log = self.folder / "audit.log"
        self.kubeconfig = self.folder / "kubeconfig"
        self.processes = Processes(self.folder)
        # SIGKILL: kube-apiserver takes up to 60 s to end by itself, and nothing here is to be kept.
        stack.callback(self.processes.kill_everything)
        self._start()

    @staticmethod
    def remove_leftovers(folder: Path) -> None:
        """Remove what a run has outside its folder: nothing at this level."""

    def _start(self) -> None:
        self._port = self._free_port()
        self.url = f"https://{self.address}:{self._port}"
        self._write_secrets()
        self._start_etcd()
        self.start_api_server()
        self._start_controller_manager()
        self._wait_for_default_namespace()

    # --- what tests use ----------------------------------------------------------------------------------------------

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002  # subprocess.run's name for it
        check: bool = True,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as cluster-admin.

        Raises
        ------
        ClusterError
            It failed, and `check` is true; the message is what it wrote.
        """
        # Its cache goes by the server's address, which another cluster may have had.
        own = [f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.folder}/kubectl-cache"]
        command = [str(self._kubectl), *own, *args]
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise ClusterError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done

    def get(self, *args: str) -> dict:
        """Return what `kubectl get ARGS` finds: an object, or a list with `items`."""
        return json.loads(self.kubectl("get", *args, "--output", "json").stdout)

    def apply(self, document: dict | list | str | Path) -> None:
        """Apply an object, several, YAML text or a file on the server's side; a CRD is served when this returns."""
        match document:
            case Path():
                text = document.read_text()
            case str():
                text = document
            case dict():
                text = json.dumps(document)
            case _:
                text = _manifest("v1", "List", items=document)
        applied = self.kubectl("apply", "--server-side", "--force-conflicts", "--output", "name", "-f", "-", input=text)
        crds = [name for name in applied.stdout.split() if name.startswith("customresourcedefinition.")]
        if crds:
            # kubectl looks at one after the other, and gives up at once where there are no conditions yet.
            wait = ("wait", "--for=condition=Established", "--timeout=30s", *crds)
            served = lambda: self.kubectl(*wait, check=False).returncode == 0  # noqa: E731
            self.processes.wait_until(served, "kube-apiserver", f"{', '.join(crds)} was served")

    def kubeconfig_for(self, namespace: str, service_account: str, *, url: str | None = None) -> Path:
        """Return a kubeconfig that bears a fresh token of a ServiceAccount.

        Parameters
        ----------
        namespace, service_account : str
            Whose token; its default namespace is `namespace`.
        url : str, optional
            Another address for the API server, such as that of a proxy, whose certificate is not verified.
        """
        token = self.kubectl("create", "token", service_account, "--namespace", namespace, "--duration=24h").stdout
        path = self.folder / f"kubeconfig-{namespace}-{service_account}-{secrets.token_hex(3)}"
        return self._write_kubeconfig(path, token.strip(), url=url, namespace=namespace)

    def new_namespace(self, *, labels: dict | None = None) -> str:
        """Make a namespace with a name of its own, and return the name when its default ServiceAccount is there."""
        name = f"test-{secrets.token_hex(4)}"
        metadata = {"name": name, "labels": labels or {}}
        self.kubectl("create", "-f", "-", input=_manifest("v1", "Namespace", metadata=metadata))
        self.kubectl("wait", "--for=create", "--timeout=120s", "--namespace", name, "serviceaccount/default")
        return name

    def stop_api_server(self) -> None:
        """Kill kube-apiserver, as a crash does; etcd keeps what was written."""
        self.processes.kill("kube-apiserver")

    def start_api_server(self) -> None:
        """Start kube-apiserver, again on the same port, and wait until it is ready."""
        self.processes.start("kube-apiserver", self._in_network([self._kube_apiserver, *self._api_server_flags()]))
        self.processes.wait_until(self._is_ready, "kube-apiserver", "the API server was ready")

    # --- the programs ------------------------------------------------------------------------------------------------

    def _in_network(self, argv: Sequence[str | Path]) -> Sequence[str | Path]:
        """Return the command line that runs a program where the cluster's addresses are."""
        return argv

    def _free_port(self) -> int:
        """Return a port below the ones the kernel hands out: while the API server is stopped nobody else gets it.

        A client that dials a port of the kernel's range on loopback again and again ends up talking to itself.
        """
        for port in random.sample(range(20_000, 30_000), 200):
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind((self.address, port))
                return port
        raise ClusterError("No port from 20000 to 29999 is free on 127.0.0.1: end some of the programs that hold them.")

    def _apiserver_asset(self) -> Path | None:
        path = build.asset("kube-apiserver")
        if path is None:
            return None
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=300, check=True).stdout
        return path if told.startswith(f"Kubernetes v{self.version}.") else None

    def _write_secrets(self) -> None:
        self._token = self._write_user("admin", "admin", "system:masters")
        (self.folder / "audit-policy.yaml").write_text(json.dumps(AUDIT_POLICY))
        command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.folder / "tokens.key"]
        subprocess.run(command, capture_output=True, timeout=300, check=True)
        # kube-apiserver makes its certificate in this folder when it first starts.
        self.certificate = self.folder / "certificates" / "apiserver.crt"
        self._write_kubeconfig(self.kubeconfig, self._token)
        self._write_kubeconfig(
            self.folder / "controller-manager.kubeconfig",
            self._write_user("controllers", "system:kube-controller-manager", "system:masters"),
        )

    def _write_user(self, uid: str, name: str, group: str) -> str:
        """Make a user known to the API server that is about to start, and return its token."""
        token = secrets.token_hex(16)
        with (self.folder / "tokens.csv").open("a") as file:
            file.write(f'{token},{name},{uid},"{group}"\n')
        return token

    def _write_kubeconfig(self, path: Path, token: str, *, url: str | None = None, namespace: str = "default") -> Path:
        trust = {"insecure-skip-tls-verify": True} if url else {"certificate-authority": str(self.certificate)}
        text = _manifest(
            "v1",
            "Config",
            clusters=[{"name": "test", "cluster": {"server": url or self.url, **trust}}],
            users=[{"name": "test", "user": {"token": token}}],
            contexts=[{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
            **{"current-context": "test"},
        )
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def _start_etcd(self) -> None:
        # Unix sockets: no port to lose to somebody else, and nobody else on the machine can write past the API server.
        self._etcd_url = f"unix://{self.folder}/etcd.sock"
        self.processes.start(
            "etcd",
            [
                self._etcd,
                f"--data-dir={self.folder}/etcd",
                f"--listen-client-urls={self._etcd_url}",
                "--advertise-client-urls=http://127.0.0.1:2379",  # must be there and is never used
                f"--listen-peer-urls=unix://{self.folder}/etcd-peer.sock",
                "--unsafe-no-fsync",
                "--quota-backend-bytes=4294967296",
                "--logger=zap",
                "--log-level=warn",
            ],
        )
        self.processes.wait_until((self.folder / "etcd.sock").exists, "etcd", "etcd was there")

    def _api_server_flags(self) -> list[str]:
        key = f"{self.folder}/tokens.key"
        return [
            f"--etcd-servers={self._etcd_url}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self._port}",
            f"--cert-dir={self.certificate.parent}",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            f"--endpoint-reconciler-type={self.endpoint_reconciler}",
            f"--audit-policy-file={self.folder}/audit-policy.yaml",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxsize=4096",
        ]

    def _start_controller_manager(self) -> None:
        self.processes.start(
            "kube-controller-manager",
            self._in_network(
                [
                    self._kube_controller_manager,
                    f"--kubeconfig={self.folder}/controller-manager.kubeconfig",
                    f"--service-account-private-key-file={self.folder}/tokens.key",
                    f"--root-ca-file={self.certificate}",
                    f"--service-cluster-ip-range={SERVICE_RANGE}",
                    "--use-service-account-credentials",
                    "--leader-elect=false",
                    "--secure-port=0",
                    # The default of 20 requests a second would be what a test with a thousand Jobs measures.
                    "--kube-api-qps=1000",
                    "--kube-api-burst=2000",
                ]
            ),
        )

    def _is_ready(self) -> bool:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(self.address, self._port, timeout=5, context=trusting)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {self._token}"})
            return connection.getresponse().status == http.HTTPStatus.OK
        return False

    def _wait_for_default_namespace(self) -> None:
        wait = ("wait", "--for=create", "--timeout=1s", "serviceaccount/default")
        self.processes.wait_until(
            lambda: self.kubectl(*wait, check=False).returncode == 0,
            "kube-controller-manager",
            "the namespace default had its ServiceAccount",
        )


def _manifest(api_version: str, kind: str, **fields: object) -> str:
    return json.dumps({"apiVersion": api_version, "kind": kind, **fields})
