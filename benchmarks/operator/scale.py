"""What a thousand pipelines cost the operator that has them: memory, progress writes, idle CPU, a cold start.

One operator from a hundred pipelines to a thousand, so that the growth is that of one process.
"""

import asyncio
import statistics
import time
from collections import Counter
from pathlib import Path

import audit
import psutil
from client import Client
from cluster import operators
from cluster.api import ApiCluster
from crowd import LABEL, Crowd, names
from figures import Figure
from life import OPERATOR
from trainers import listening

RUNNING = 100
STEPS = (0.1, 0.4, 0.7, 1.0)
"""At which shares of the finished pipelines memory is read."""

MOST_RSS_BYTES = 250e6
MOST_BYTES_PER_PIPELINE = 100e3
MOST_WRITES_PER_MINUTE = 2.0
MOST_IDLE_PERCENT = 2.0
COLD_START_FACTOR, COLD_START_SECONDS = 2.0, 5.0

# The limiter is no part of what is measured here, and at its default the thousand would take minutes to make.
_FAST = {"FEEDLINE_CALLS_PER_SECOND": "500", "FEEDLINE_CALLS_BURST": "1000"}
_SETTLE_SECONDS = 5.0
_LISTS = {"/apis/feedline.dev/v1alpha1/trainingpipelines": "", "/apis/batch/v1/jobs": LABEL, "/api/v1/pods": LABEL}


async def measure(
    cluster: ApiCluster, folder: Path, finished: int, progress_seconds: float, idle_seconds: float
) -> list[Figure]:
    """Measure everything that needs many pipelines, in the order in which it disturbs least."""
    running = names("running", RUNNING)
    with listening() as address:
        async with Client(cluster) as client:
            crowd = Crowd(client, cluster.new_namespace())
            with operators.running(cluster, folder, environment=_FAST) as operator:
                await crowd.create(running)
                await crowd.run(running, address)
                memory = await _memory(crowd, operator, finished)
                progress = await _progress(cluster, crowd, progress_seconds)
                await crowd.end(running)
                idle = await _idle(operator, finished + RUNNING, idle_seconds)
                operator.terminate()
    (folder / "cold").mkdir()
    return [*progress, *memory, *idle, *await _cold_start(cluster, folder / "cold", finished + RUNNING)]


async def _memory(crowd: Crowd, operator: operators.OperatorProcess, finished: int) -> list[Figure]:
    rss: dict[int, int] = {}
    for share in STEPS:
        count = round(share * finished)
        more = names("finished", count)[max(rss, default=0) :]
        await crowd.create(more)
        await crowd.run(more)
        await crowd.end(more)
        await asyncio.sleep(_SETTLE_SECONDS)
        rss[count] = psutil.Process(operator.process.pid).memory_info().rss
    (first, *_, last) = rss
    growth = (rss[last] - rss[first]) / (last - first)
    each = ", ".join(f"{size / 1e6:.0f} MB at {count:,}" for count, size in rss.items())
    detail = {"rssBytes": rss, "running": RUNNING}
    return [
        Figure(
            what=f"operator's memory at {last:,} finished and {RUNNING} running pipelines (RSS)",
            wanted=f"< {MOST_RSS_BYTES / 1e6:.0f} MB",
            measured=f"{rss[last] / 1e6:.0f} MB",
            met=rss[last] < MOST_RSS_BYTES,
            detail=detail,
        ),
        Figure(
            what=f"its growth from {first:,} to {last:,} finished",
            wanted=f"< {MOST_BYTES_PER_PIPELINE / 1e3:.0f} KB a pipeline, linear",
            measured=f"{growth / 1e3:.1f} KB a pipeline ({each})",
            met=growth < MOST_BYTES_PER_PIPELINE,
            detail=detail,
        ),
    ]


async def _progress(cluster: ApiCluster, crowd: Crowd, seconds: float) -> list[Figure]:
    since = time.time()
    await asyncio.sleep(seconds)
    writes = Counter(
        call.name
        for call in audit.read(cluster.audit_log, since=since, user=OPERATOR)
        if call.namespace == crowd.namespace and call.verb in audit.WRITES
    )
    per_minute = sorted(writes[name] * 60 / seconds for name in names("running", RUNNING))
    return [
        Figure(
            what="status writes of a running pipeline whose numbers always change",
            wanted=f"≤ {MOST_WRITES_PER_MINUTE:g} a minute",
            measured=(
                f"{statistics.mean(per_minute):.2f} a minute on average, at most {per_minute[-1]:.1f} "
                f"({RUNNING} pipelines, {seconds:.0f} s)"
            ),
            met=per_minute[0] > 0 and per_minute[-1] <= MOST_WRITES_PER_MINUTE,
            detail={"perMinute": per_minute},
        )
    ]


async def _idle(operator: operators.OperatorProcess, count: int, seconds: float) -> list[Figure]:
    await asyncio.sleep(_SETTLE_SECONDS)
    process = psutil.Process(operator.process.pid)
    before, began = process.cpu_times(), time.monotonic()
    await asyncio.sleep(seconds)
    after, elapsed = process.cpu_times(), time.monotonic() - began
    busy = after.user + after.system - before.user - before.system
    percent = 100 * busy / elapsed
    return [
        Figure(
            what=f"idle CPU with {count:,} finished pipelines",
            wanted=f"< {MOST_IDLE_PERCENT:g} % of a core",
            measured=f"{percent:.2f} % over {elapsed:.0f} s",
            met=percent < MOST_IDLE_PERCENT,
            detail={"cpuSeconds": round(busy, 3), "seconds": round(elapsed, 1)},
        )
    ]


async def _cold_start(cluster: ApiCluster, folder: Path, count: int) -> list[Figure]:
    async with Client(cluster) as client:
        lists = [await _list_seconds(client) for _ in range(3)]
    since, began = time.time(), time.monotonic()
    with operators.running(cluster, folder, environment=_FAST) as operator:
        leading = time.monotonic() - began
        operators.eventually(lambda: _reconciled(operator) >= count, "all pipelines are reconciled", 120, every=0.5)
        seconds = time.monotonic() - began
    writes = [call for call in audit.read(cluster.audit_log, since=since, user=OPERATOR) if call.verb in audit.WRITES]
    most = COLD_START_FACTOR * statistics.median(lists) + COLD_START_SECONDS
    return [
        Figure(
            what=f"cold start with {count:,} pipelines and Jobs, from exec to all of them reconciled",
            wanted=f"≤ {COLD_START_FACTOR:g} x the plain LISTs + {COLD_START_SECONDS:g} s, here {most:.1f} s; no write",
            measured=f"{seconds:.1f} s, writes: {len(writes)}",
            met=seconds <= most and not writes,
            detail={
                "listSeconds": [round(each, 2) for each in lists],
                "leadingAfterSeconds": round(leading, 2),
                "seconds": round(seconds, 2),
                "writes": audit.kinds(writes),
            },
        )
    ]


async def _list_seconds(client: Client) -> float:
    began = time.monotonic()
    for path, selector in _LISTS.items():
        async for _ in client.items(path, selector):
            pass
    return time.monotonic() - began


def _reconciled(operator: operators.OperatorProcess) -> float:
    """Return how often the operator has looked at a pipeline; each is looked at once when it begins to lead."""
    _, text = operator.get("/metrics")
    lines = [line for line in text.splitlines() if line.startswith("feedline_operator_reconcile_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
