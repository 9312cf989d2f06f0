"""The part of the kubelet on the api level, where nothing runs pods: it writes into a pod's status what a kubelet would."""

import json
from datetime import UTC, datetime

from cluster.api import ApiCluster
from cluster.operators import eventually


def now() -> str:
    """Return the time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Kubelet:
    """Plays the kubelet for the pods of one namespace."""

    def __init__(self, cluster: ApiCluster, namespace: str, node: str = "node-1") -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._node = node

    def pod_of(self, pipeline: str, after: tuple[str, ...] = (), seconds: float = 40) -> dict:
        """Return the pod of a pipeline that has not ended, once it is there; not one of these names."""

        def find() -> dict | None:
            pods = self._cluster.get("pods", "-n", self._namespace, "-l", f"feedline.dev/pipeline={pipeline}")["items"]
            live = [
                pod
                for pod in pods
                if pod["metadata"]["name"] not in after
                and "deletionTimestamp" not in pod["metadata"]
                and pod["status"].get("phase") in {"Pending", "Running", None}
            ]
            return live[0] if live else None

        return eventually(find, f"a pod of {pipeline}", seconds)

    def bind(self, pod: dict) -> None:
        """Put a pod on the node, as the scheduler does."""
        name = pod["metadata"]["name"]
        self._cluster.kubectl(
            *("create", "--raw", f"/api/v1/namespaces/{self._namespace}/pods/{name}/binding", "-f", "-"),
            input=json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": name, "namespace": self._namespace},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": self._node},
                }
            ),
        )

    def run(self, pod: dict, address: str = "203.0.113.7") -> None:
        """Let a pod's container run."""
        self.bind(pod)
        began = now()
        self.write(
            pod,
            phase="Running",
            podIP=address,
            podIPs=[{"ip": address}],
            startTime=began,
            conditions=[
                {"type": kind, "status": "True", "lastTransitionTime": began}
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ],
            containerStatuses=[_container({"running": {"startedAt": began}}, ready=True)],
        )

    def wait(self, pod: dict, reason: str, message: str) -> None:
        """Let a pod's container wait."""
        self.write(
            pod, phase="Pending", containerStatuses=[_container({"waiting": {"reason": reason, "message": message}})]
        )

    def end(
        self, pod: dict, code: int, *, message: str = "", reason: str | None = None, disruption: str | None = None
    ) -> None:
        """Let a pod's container end with an exit code and a termination message."""
        moment = now()
        terminated = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "message": message,
            "startedAt": moment,
            "finishedAt": moment,
        }
        conditions = [{"type": "Ready", "status": "False", "reason": "PodCompleted", "lastTransitionTime": moment}]
        if disruption is not None:
            conditions.append(
                {"type": "DisruptionTarget", "status": "True", "reason": disruption, "lastTransitionTime": moment}
            )
        self.write(
            pod,
            phase="Succeeded" if code == 0 else "Failed",
            conditions=conditions,
            containerStatuses=[_container({"terminated": terminated})],
        )

    def write(self, pod: dict, **status: object) -> None:
        """Write fields of a pod's status."""
        self._cluster.kubectl(
            *("patch", "pod", pod["metadata"]["name"], "-n", self._namespace),
            *("--subresource", "status", "--type", "strategic", "-p", json.dumps({"status": status})),
        )

    def remove(self, pod: dict) -> None:
        """Confirm the end of a pod that is being deleted, as the kubelet does."""
        self._cluster.kubectl(
            "delete",
            "pod",
            pod["metadata"]["name"],
            "-n",
            self._namespace,
            "--grace-period=0",
            "--force",
            "--wait=false",
        )


def _container(state: dict, *, ready: bool = False) -> dict:
    return {
        "name": "trainer",
        "image": "trainer.example/pytorch:1",
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }
