"""Many pipelines of one namespace at once: created, run and ended by the hundred."""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import yaml
from client import Client, all_of
from cluster.errors import ClusterError
from pods import NOWHERE, POLL_SECONDS, Pods

_ROOT = Path(__file__).resolve().parents[2]
PIPELINE = yaml.safe_load((_ROOT / "examples" / "digits" / "pipeline.yaml").read_text())
LABEL = "feedline.dev/pipeline"

REPORT: dict[str, Any] = {
    "pipeline": "digits",
    "backend": "pytorch",
    "engine": "Feed",
    "reason": "Completed",
    "exitCode": 0,
    "message": "30 of 30 epochs",
    "epochs": 30,
    "steps": 1380,
    "targetSteps": 1380,
    "samples": 44160,
    "bytes": 11481600,
    "milliseconds": 1810,
    "samplesPerSecond": 24397,
    "waitPermille": 31,
    "feedSamplesPerSecond": 810000,
    "modelSamplesPerSecond": 25180,
    "fetchMicros": {"p50": 21, "p95": 44, "p99": 160},
    "stepMicros": {"p50": 1240, "p95": 1610, "p99": 2300},
    "firstBatchMillis": 3,
    "firstStepMillis": 41,
    "majorFaults": 0,
    "minorFaults": 611,
    "values": {"loss": "0.0812", "accuracy": "0.9798"},
    "verdict": {"inputBound": False, "cause": "None", "advice": "The model is the bottleneck."},
}
STARVED: dict[str, Any] = {
    **REPORT,
    "waitPermille": 312,
    "verdict": {"inputBound": True, "cause": "Cpu", "advice": "Raise loader.threads."},
}


class Crowd:
    """Pipelines of a namespace."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.namespace = namespace
        self._client = client
        self._path = f"/apis/feedline.dev/v1alpha1/namespaces/{namespace}/trainingpipelines"
        self._pods = Pods(client, namespace, LABEL)

    async def create(self, names: Collection[str], tell: Callable[[dict], None] = lambda _: None) -> None:
        """Create pipelines as fast as the server takes them, and `tell` of each when it is there."""

        async def one(name: str) -> None:
            document = copy.deepcopy(PIPELINE)
            document["metadata"] = {"name": name, "namespace": self.namespace}
            tell(await self._client.call("POST", self._path, document))

        await all_of(map(one, names))

    async def run(self, names: Collection[str], address: str = NOWHERE) -> None:
        """Let these pipelines run, and wait until their state says so."""
        await self._pods.run(names, address)
        await self.until(names, "Running")

    async def end(self, names: Collection[str], report: dict[str, Any] = REPORT) -> None:
        """Let these running pipelines end well, and wait until their state says so."""
        await self._pods.end(names, report)
        await self.until(names, "Completed")

    async def until(self, names: Collection[str], reason: str, seconds: float = 300) -> None:
        """Wait until the state of all these pipelines is `reason`."""
        wanted, deadline = set(names), time.monotonic() + seconds
        while True:
            there = {pipeline["metadata"]["name"] async for pipeline in self.pipelines() if state(pipeline) == reason}
            if wanted <= there:
                return
            if time.monotonic() > deadline:
                raise ClusterError(f"{len(wanted - there)} of {len(wanted)} pipelines are not {reason} in {seconds} s")
            await asyncio.sleep(POLL_SECONDS)

    def pipelines(self) -> AsyncIterator[dict[str, Any]]:
        """Iterate over the pipelines."""
        return self._client.items(self._path)

    def jobs(self) -> AsyncIterator[dict[str, Any]]:
        """Iterate over the Jobs."""
        return self._client.items(f"/apis/batch/v1/namespaces/{self.namespace}/jobs")


def names(prefix: str, count: int) -> list[str]:
    """Return names of pipelines."""
    return [f"{prefix}-{number:04d}" for number in range(count)]


def state(pipeline: dict[str, Any]) -> str | None:
    """Return the STATE column of a pipeline."""
    for condition in pipeline.get("status", {}).get("conditions", ()):
        if condition["type"] == "Succeeded":
            return condition["reason"]
    return None
