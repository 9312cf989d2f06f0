"""A thousand pipelines at once: each gets exactly one Job, and the operator writes as fast as a bare loop does.

Both are given the same pipelines by the same hand at the same pace, one after the other, in the same cluster. The bare
loop gets each pipeline handed over when it is there, where the operator has to watch for it.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import audit
import psutil
from client import Client
from cluster import operators
from cluster.api import ApiCluster
from cluster.errors import ClusterError
from crowd import Crowd, names
from figures import Figure
from life import OPERATOR

LEAST_RATIO = 0.8
MIDDLE = (0.05, 0.95)
"""The share of the writes whose rate is taken: at either end one waits for something else, the creation or the Job
controller."""


async def measure(cluster: ApiCluster, folder: Path, count: int, calls_per_second: int) -> list[Figure]:
    """Measure with the operator's limiter at so many calls a second."""
    limit = {"FEEDLINE_CALLS_PER_SECOND": str(calls_per_second), "FEEDLINE_CALLS_BURST": str(2 * calls_per_second)}
    async with Client(cluster) as client:
        ours = Crowd(client, cluster.new_namespace())
        with operators.running(cluster, folder, environment=limit) as operator:
            busy = {"operator": -_cpu_seconds(operator)}
            await ours.create(names("burst", count))
            await ours.until(names("burst", count), "Starting")
            busy["operator"] += _cpu_seconds(operator)
        pipelines = [pipeline async for pipeline in ours.pipelines()]
        jobs = Counter([job["metadata"]["ownerReferences"][0]["uid"] async for job in ours.jobs()])
        bare = Crowd(client, cluster.new_namespace())
        async with _bare_loop(cluster, limit, pipelines[0]["status"]) as (tell, cpu_seconds):
            await bare.create(names("burst", count), tell)
        busy["bare"] = await cpu_seconds
    single = sum(jobs[pipeline["metadata"]["uid"]] == 1 for pipeline in pipelines)
    rates = {
        who: {**_rate(cluster, crowd, count), "cpuMillisPerPipeline": round(1000 * busy[who] / count, 1)}
        for who, crowd in (("operator", ours), ("bare", bare))
    }
    ratio = rates["operator"]["writesPerSecond"] / rates["bare"]["writesPerSecond"]
    setting = f"limit of {calls_per_second} calls/s"
    return [
        Figure(
            what=f"{count:,} pipelines in a burst, {setting}: with exactly one Job",
            wanted=f"{count:,}",
            measured=f"{single:,} ({sum(jobs.values()):,} Jobs)",
            met=single == count == sum(jobs.values()),
        ),
        Figure(
            what=f"{count:,} pipelines in a burst, {setting}: writes/s against a bare loop's",
            wanted=f"≥ {LEAST_RATIO}",
            measured=(
                f"{ratio:.2f} ({rates['operator']['writesPerSecond']:.0f} against "
                f"{rates['bare']['writesPerSecond']:.0f} writes/s, with {rates['operator']['cpuMillisPerPipeline']} "
                f"against {rates['bare']['cpuMillisPerPipeline']} ms of CPU a pipeline)"
            ),
            met=ratio >= LEAST_RATIO,
            detail=rates,
        ),
    ]


@contextlib.asynccontextmanager
async def _bare_loop(
    cluster: ApiCluster, limit: dict[str, str], status: dict
) -> AsyncIterator[tuple[Callable[[dict], None], asyncio.Future[float]]]:
    """Start bare.py in a block that hands pipelines over; at its end it has done them all and said its CPU seconds."""
    kubeconfig = cluster.kubeconfig_for(operators.NAMESPACE, "feedline-operator")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("bare.py")),
        env={**os.environ, **operators.IMAGES, **limit, "KUBECONFIG": str(kubeconfig)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def tell(document: dict) -> None:
        process.stdin.write(json.dumps(document).encode() + b"\n")

    tell(status)
    await process.stdout.readline()
    cpu_seconds: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    yield tell, cpu_seconds
    process.stdin.close()
    cpu_seconds.set_result(float(await process.stdout.readline() or "nan"))
    if code := await process.wait():
        raise ClusterError(f"bare.py ended with code {code}; the reason is above")


def _cpu_seconds(operator: operators.OperatorProcess) -> float:
    times = psutil.Process(operator.process.pid).cpu_times()
    return times.user + times.system


def _rate(cluster: ApiCluster, crowd: Crowd, count: int) -> dict:
    calls = [call for call in audit.read(cluster.audit_log, user=OPERATOR) if call.namespace == crowd.namespace]
    writes = sorted(call.ended for call in calls if call.verb in audit.WRITES)
    first, last = (writes[round(share * (len(writes) - 1))] for share in MIDDLE)
    return {
        "writes": len(writes),
        "writesPerPipeline": round(len(writes) / count, 2),
        "seconds": round(writes[-1] - writes[0], 2),
        "writesPerSecond": round((MIDDLE[1] - MIDDLE[0]) * len(writes) / (last - first), 1),
        "calls": audit.kinds(calls),
    }
