"""What a sweep of many trials costs the operator: calls, memory and CPU a trial, and how late its event loop gets."""

import asyncio
import json
import time
from pathlib import Path

import audit
import psutil
import yaml
from client import Client
from cluster import operators
from cluster.api import ApiCluster
from crowd import LABEL, REPORT
from figures import Figure
from life import OPERATOR
from pods import Pods

PARALLEL = 50
MOST_CALLS = 12
"""Of a trial: six of a pipeline's own, its creation, and what the sweep's status takes."""
MOST_BYTES_PER_TRIAL = 100e3
MOST_LAG_SECONDS = 0.5
_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sweep" / "sweep.yaml"
_FAST = {"FEEDLINE_CALLS_PER_SECOND": "500", "FEEDLINE_CALLS_BURST": "1000"}
_LOOK_SECONDS = 0.5


async def measure(cluster: ApiCluster, folder: Path, trials: int) -> list[Figure]:
    """Let a sweep run to its end, each trial with a report of its own, as fast as pods can be played."""
    rss: dict[int, int] = {}
    lags: list[float] = []
    async with Client(cluster) as client:
        namespace = cluster.new_namespace()
        path = f"/apis/feedline.dev/v1alpha1/namespaces/{namespace}/trainingsweeps"
        document = yaml.safe_load(_EXAMPLE.read_text())
        document["metadata"] = {"name": "many"}
        document["spec"] |= {"trials": trials, "parallel": PARALLEL, "algorithm": {"type": "TPE"}}
        with operators.running(cluster, folder, environment=_FAST) as operator:
            process = psutil.Process(operator.process.pid)
            before, began = process.cpu_times(), time.monotonic()
            await client.call("POST", path, document)
            while True:
                sweep = await client.call("GET", f"{path}/many")
                status = sweep.get("status", {})
                lags.append(_lag(operator))
                done = status.get("trials", {}).get("complete", 0)
                if done // 100 * 100 not in rss:
                    rss[done // 100 * 100] = process.memory_info().rss
                if "completionTime" in status:
                    break
                await _play(client, namespace)
                await asyncio.sleep(_LOOK_SECONDS)
            seconds, after = time.monotonic() - began, process.cpu_times()
            rss[trials] = process.memory_info().rss
    cpu = after.user + after.system - before.user - before.system
    calls = [call for call in audit.read(cluster.audit_log, user=OPERATOR) if call.namespace == namespace]
    created = [call for call in calls if (call.verb, call.resource, call.code) == ("create", "trainingpipelines", 201)]
    first = min(count for count in rss if count >= 100)
    growth = (rss[trials] - rss[first]) / (trials - first)
    each = ", ".join(f"{size / 1e6:.0f} MB at {count:,}" for count, size in rss.items())
    detail = {"calls": audit.kinds(calls), "rssBytes": rss, "cpuSeconds": round(cpu, 2), "seconds": round(seconds, 1)}
    return [
        Figure(
            what=f"a sweep of {trials} trials, {PARALLEL} at once: each created once",
            wanted=str(trials),
            measured=f"{len({call.name for call in created})} ({len(created)} created, {seconds:.0f} s)",
            met=len(created) == len({call.name for call in created}) == trials,
            detail=detail,
        ),
        Figure(
            what="its API calls, those of the trials' own lives included",
            wanted=f"≤ {MOST_CALLS} a trial",
            measured=f"{len(calls) / trials:.1f} a trial, with {1e3 * cpu / trials:.0f} ms of CPU",
            met=len(calls) / trials <= MOST_CALLS,
            detail=detail,
        ),
        Figure(
            what="the operator's growth with its trials",
            wanted=f"< {MOST_BYTES_PER_TRIAL / 1e3:.0f} KB a trial, linear",
            measured=f"{growth / 1e3:.1f} KB a trial ({each})",
            met=growth < MOST_BYTES_PER_TRIAL,
            detail=detail,
        ),
        Figure(
            what="how late the operator's event loop was at most meanwhile, TPE being asked beside it",
            wanted=f"< {MOST_LAG_SECONDS:g} s",
            measured=f"{max(lags):.2f} s",
            met=max(lags) < MOST_LAG_SECONDS,
            detail={"lags": [round(lag, 3) for lag in lags]},
        ),
    ]


async def _play(client: Client, namespace: str) -> None:
    """Let the pods that wait run, and those that run end, each with a value of its own."""
    pods = Pods(client, namespace, LABEL)
    found = [pod async for pod in client.items(f"/api/v1/namespaces/{namespace}/pods", LABEL)]
    waiting, running = (
        {pod["metadata"]["labels"][LABEL] for pod in found if pod["status"]["phase"] == phase}
        for phase in ("Pending", "Running")
    )
    await pods.run(waiting)
    by_value: dict[float, set[str]] = {}
    for name in running:
        by_value.setdefault((int(name.rpartition("-")[2]) * 37 % 100) / 100, set()).add(name)
    for value, names in by_value.items():
        await pods.end(names, _report(value))


def _report(value: float) -> dict:
    curve = [f"{46 * epoch}:{value * (1 - 0.5**epoch):.4f}" for epoch in range(1, 31)]
    objective = {"value": str(value), "best": str(value), "curve": curve, "epochSteps": 46, "epochSamples": 1500}
    report = {**REPORT, "objective": objective}
    assert len(json.dumps(report)) < 4000
    return report


def _lag(operator: operators.OperatorProcess) -> float:
    _, text = operator.get("/metrics")
    (line,) = (line for line in text.splitlines() if line.startswith("feedline_operator_loop_lag_seconds "))
    return float(line.rsplit(" ", 1)[1])
