"""The part of the kubelet on the api level, where nothing runs pods: it writes into a pod's status what a kubelet would."""

from datetime import UTC, datetime

from cluster.rest import CORE, STRATEGIC_PATCH, Rest


def now() -> str:
    """Return the time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Kubelet:
    """Plays the kubelet of a node, for the pods of one namespace."""

    def __init__(self, rest: Rest, namespace: str, node: str) -> None:
        self._rest = rest
        self._namespace = namespace
        self._node = node

    def bind(self, pod: dict) -> None:
        """Put a pod on the node, as the scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": self._node}
        self._rest.do(
            "POST", self._pod(pod, "binding"), {"metadata": {"name": pod["metadata"]["name"]}, "target": target}
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
        self._rest.do("PATCH", self._pod(pod, "status"), {"status": status}, content=STRATEGIC_PATCH)

    def _pod(self, pod: dict, subresource: str) -> str:
        return f"{CORE}/namespaces/{self._namespace}/pods/{pod['metadata']['name']}/{subresource}"


def _container(state: dict, *, ready: bool = False) -> dict:
    return {
        "name": "trainer",
        "image": "trainer.example/pytorch:1",
        "imageID": "",
        "ready": ready,
        "restartCount": 0,
        "state": state,
    }
