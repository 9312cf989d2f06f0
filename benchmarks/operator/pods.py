"""Who plays the kubelet for the pods of a namespace: on the api level nothing runs them.

What a kubelet would write into a pod's status is written here, hundreds a second, whoever made the pod.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Any

from client import Client, all_of
from cluster.errors import ClusterError

NOWHERE = "203.0.113.7"
"""An address of nobody (RFC 5737): a trainer that cannot be asked."""

POLL_SECONDS = 1.0
_STRATEGIC = "application/strategic-merge-patch+json"


class Pods:
    """The pods of a namespace.

    Parameters
    ----------
    label
        The label whose value is the name of what a pod belongs to.
    """

    def __init__(self, client: Client, namespace: str, label: str) -> None:
        self._client = client
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._label = label

    async def run(self, names: Collection[str], address: str = NOWHERE) -> None:
        """Let the pods of these run, each as soon as it is there, until all do.

        They are bound to no node: from one that does not exist they would be collected as orphans within a minute.
        """
        await self._for_each(names, "Pending", lambda pod: self._write(pod, _running(pod, address)))

    async def end(self, names: Collection[str], report: dict[str, Any]) -> None:
        """Let the running pods of these end well, with a report."""
        message = json.dumps({**report, "observedTime": _now()})
        await self._for_each(names, "Running", lambda pod: self._write(pod, _ended(pod, message)))

    async def _for_each(
        self, names: Collection[str], phase: str, do: Callable[[dict[str, Any]], Awaitable[None]], seconds: float = 300
    ) -> None:
        left, deadline = set(names), time.monotonic() + seconds
        while left:
            found = [
                pod
                async for pod in self._client.items(self._path, self._label)
                if pod["metadata"]["labels"][self._label] in left and pod["status"]["phase"] == phase
            ]
            await all_of(map(do, found))
            left -= {pod["metadata"]["labels"][self._label] for pod in found}
            if left:
                if time.monotonic() > deadline:
                    raise ClusterError(f"{len(left)} of {len(names)} have no {phase} pod after {seconds:.0f} s")
                await asyncio.sleep(POLL_SECONDS)

    async def _write(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        path = f"{self._path}/{pod['metadata']['name']}/status"
        await self._client.call("PATCH", path, {"status": status}, _STRATEGIC)


def _running(pod: dict[str, Any], address: str) -> dict[str, Any]:
    began = _now()
    ready = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": began,
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": began} for kind in ready],
        "containerStatuses": [_container(pod, {"running": {"startedAt": began}}, ready=True)],
    }


def _ended(pod: dict[str, Any], message: str) -> dict[str, Any]:
    moment = _now()
    terminated = {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": moment, "finishedAt": moment}
    return {
        "phase": "Succeeded",
        "conditions": [{"type": "Ready", "status": "False", "reason": "PodCompleted", "lastTransitionTime": moment}],
        "containerStatuses": [_container(pod, {"terminated": terminated}, ready=False)],
    }


def _container(pod: dict[str, Any], state: dict[str, Any], *, ready: bool) -> dict[str, Any]:
    (container,) = pod["spec"]["containers"]
    named = {"name": container["name"], "image": container["image"], "imageID": ""}
    return {**named, "ready": ready, "restartCount": 0, "state": state}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
