"""The operator as a process of the tests: the real program, as the ServiceAccount and with the rights of the chart."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from cluster import chart
from cluster.api import ApiCluster
from cluster.chart import NAMESPACE, ROOT
from cluster.processes import PATIENCE

IMAGES = {
    f"FEEDLINE_IMAGE_{backend}": f"trainer.example/{backend.lower()}:1"
    for backend in ("KERAS", "TENSORFLOW", "PYTORCH")
}


def install(cluster: ApiCluster) -> None:
    """Put the CRDs, the operator's namespace and its rights into a cluster."""
    for kind in ("trainingpipelines", "trainingsweeps"):
        cluster.apply(ROOT / "crds" / f"{kind}.feedline.dev.yaml")
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    cluster.apply(chart.rights())


class OperatorProcess:
    """`feedline-operator`, from `with` to the end of the block.

    Parameters
    ----------
    cluster
        Where `install` was called.
    folder
        Where its log goes.
    kubeconfig
        Credentials; a fresh token of the operator's ServiceAccount if left out.
    environment
        Settings besides the images of the tests.
    command
        Another way to start it.
    """

    def __init__(
        self,
        cluster: ApiCluster,
        folder: Path,
        *,
        kubeconfig: Path | None = None,
        environment: dict[str, str] | None = None,
        command: tuple[str, ...] = (sys.executable, "-m", "feedline_operator"),
    ) -> None:
        self._kubeconfig = kubeconfig or cluster.kubeconfig_for(NAMESPACE, "feedline-operator")
        self._environment = environment or {}
        self._command = command
        self.log = folder / "operator.log"
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again if it ended; its log goes on in the same file."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FEEDLINE_")}
        environment |= {"KUBECONFIG": str(self._kubeconfig), "FEEDLINE_PORT": "0", **IMAGES, **self._environment}
        environment["PYTHONPATH"] = os.pathsep.join(str(ROOT / part) for part in ("operator", "trainer-image"))
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self._command, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it by SIGKILL, as a node that goes away does."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
                self.process.kill()
            self.process.wait()

    def terminate(self, timeout: float = 20) -> int:
        """End it as the kubelet does and return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout)

    def pause(self) -> None:
        """Stop it where it is, as a machine that swaps or migrates does."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a paused one go on."""
        self.process.send_signal(signal.SIGCONT)

    def logged(self) -> list[dict]:
        """Return the lines of its log."""
        lines = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    @property
    def leading(self) -> bool:
        """Whether it said last that it leads."""
        said = [line["message"] for line in self.logged() if line["logger"] == "feedline_operator.lease"]
        said = [message for message in said if message.startswith(("leading", "not leading"))]
        return bool(said) and said[-1].startswith("leading")

    @property
    def port(self) -> int | None:
        """The port of its metrics and probes, None until it listens."""
        ports = [
            line["message"].rsplit(" ", 1)[1]
            for line in self.logged()
            if line["message"].startswith("metrics and health on port ")
        ]
        return int(ports[-1]) if ports else None

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a page of its HTTP server."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def eventually(ask, what: str, seconds: float = 30, every: float = 0.2):
    """Ask until the answer is truthy and return it; fail with `what` and the last answer after so many seconds
    of a quiet machine."""
    deadline = time.monotonic() + PATIENCE * seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s, the last answer was {answer!r}")
        time.sleep(every)


@contextlib.contextmanager
def running(cluster: ApiCluster, folder: Path, **options) -> Iterator[OperatorProcess]:
    """Run an operator in a block, from the moment at which it leads."""
    with OperatorProcess(cluster, folder, **options) as operator:
        eventually(lambda: operator.leading, f"the operator leads (log: {operator.log})")
        yield operator
