"""feedline beside Kubeflow Trainer with JobSet, on one API server: ``make bench-peers``.

Each gets the same number of jobs in a burst, one system after the other, with the same limit on the calls of each
program and one worker each, which is what Trainer and JobSet have. The order is turned round at the second limit. Pods
are played through to their end, and times and calls are those of the API server's audit log.
"""

import argparse
import asyncio
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import audit
import kubeflow
import machine
import report
from client import Client, all_of
from cluster import build, operators
from cluster.api import ApiCluster
from cluster.errors import ClusterError, NotHereError
from crowd import LABEL, PIPELINE, REPORT, names
from figures import table
from life import OPERATOR
from pods import POLL_SECONDS, Pods

LIMITS = (50, 2000)
_QUIET_SECONDS = 4.0
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class System:
    """One of those compared.

    Attributes
    ----------
    users
        Who makes its calls, by the name of the program.
    path, document
        Where its jobs are created (with a place for the namespace), and what is posted there but for the metadata.
    suffix
        What the child Job's name has after the job's.
    label
        The label of the pods with the job's name.
    done
        The condition that says that a job is over.
    running
        Runs it in a block: cluster, folder, calls a second.
    """

    name: str
    users: dict[str, str]
    path: str
    document: dict[str, Any]
    suffix: str
    label: str
    done: str
    running: Callable[[ApiCluster, Path, int], contextlib.AbstractContextManager[Any]]


def _run_feedline(cluster: ApiCluster, folder: Path, limit: int) -> contextlib.AbstractContextManager[Any]:
    settings = {"CALLS_PER_SECOND": limit, "CALLS_BURST": 2 * limit, "WORKERS": 1}
    return operators.running(
        cluster, folder, environment={f"FEEDLINE_{name}": str(value) for name, value in settings.items()}
    )


def _run_trainer(cluster: ApiCluster, _: Path, limit: int) -> contextlib.AbstractContextManager[Any]:
    return kubeflow.running(cluster, limit, 2 * limit)


FEEDLINE = System(
    name="feedline",
    users={"feedline-operator": OPERATOR},
    path="/apis/feedline.dev/v1alpha1/namespaces/{}/trainingpipelines",
    document={key: PIPELINE[key] for key in ("apiVersion", "kind", "spec")},
    suffix="",
    label=LABEL,
    done="Succeeded",
    running=_run_feedline,
)
TRAINER = System(
    name="Kubeflow Trainer with JobSet",
    users=kubeflow.USERS,
    path="/apis/trainer.kubeflow.org/v1alpha1/namespaces/{}/trainjobs",
    document={
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "spec": {
            "runtimeRef": {"name": kubeflow.RUNTIME},
            "trainer": {"numNodes": 1, "resourcesPerNode": {"limits": {"cpu": "1", "memory": "2Gi"}}},
        },
    },
    suffix="-node-0",
    label="jobset.sigs.k8s.io/jobset-name",
    done="Complete",
    running=_run_trainer,
)


def main() -> int:
    """Measure, write the results, print them; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure feedline beside Kubeflow Trainer.")
    parser.add_argument("--jobs", type=report.whole(2), default=200, help="of each system at each limit (200)")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of results (benchmarks/results)")
    options = parser.parse_args()
    return report.program(lambda: _run(options.jobs, options.out), options.out)


def _run(jobs: int, out: Path) -> None:
    if shutil.which("go") is None:
        raise NotHereError("There is no Go here, whose module cache has Trainer's CRDs: install Go 1.26 or newer.")
    kubeflow.build_all()
    before = machine.describe()
    rows = []
    with ApiCluster() as cluster, tempfile.TemporaryDirectory(prefix="feedline-bench-") as folder:
        operators.install(cluster)
        order = [FEEDLINE, TRAINER]
        for limit in LIMITS:
            for system in order:
                report.say(f"{system.name}, {jobs} jobs, limit of {limit} calls/s …")
                own = Path(tempfile.mkdtemp(dir=folder))
                rows.append(asyncio.run(_measure(cluster, system, own, jobs, limit)))
                report.say(f"  {rows[-1]}")
            order.reverse()
    results = report.setting(build.NEWEST, before)
    results["versions"] |= kubeflow.versions()
    results |= {"jobs": jobs, "rows": rows, "verdicts": _verdicts(rows)}
    report.write("peers", results, _page(results), out)


async def _measure(cluster: ApiCluster, system: System, folder: Path, jobs: int, limit: int) -> dict[str, Any]:
    everyone = names("job", jobs)
    namespace = cluster.new_namespace()
    path = system.path.format(namespace)
    with system.running(cluster, folder, limit):
        async with Client(cluster) as client:
            pods = Pods(client, namespace, system.label)
            since = time.time()
            documents = [{**system.document, "metadata": {"name": name, "namespace": namespace}} for name in everyone]
            await all_of(client.call("POST", path, document) for document in documents)
            await _until(lambda: _jobs(client, namespace, jobs), f"{jobs} child Jobs are there")
            await _quiet(cluster, system, since)
            created = _calls(cluster, system, since)
            await pods.run(everyone)
            await _quiet(cluster, system, since)
            await pods.end(everyone, REPORT)
            await _until(lambda: _done(client, path, system.done, everyone), f"{jobs} jobs are {system.done}")
            await _quiet(cluster, system, since)
    lived = _calls(cluster, system, since)
    seconds = sorted(_latencies(cluster, system, namespace, since))
    return {
        "system": system.name,
        "callsPerSecond": limit,
        "jobs": len(seconds),
        "secondsToJob": {
            "median": round(statistics.median(seconds), 3),
            "p99": round(statistics.quantiles(seconds, n=100)[98], 3),
        },
        "callsPerJobToItsJob": _per_job(created, jobs),
        "callsPerJobToItsEnd": _per_job(lived, jobs),
        "callsToItsJob": {name: audit.kinds(calls) for name, calls in created.items()},
        "callsToItsEnd": {name: audit.kinds(calls) for name, calls in lived.items()},
    }


def _calls(cluster: ApiCluster, system: System, since: float) -> dict[str, list[audit.Call]]:
    return {program: audit.read(cluster.audit_log, since=since, user=user) for program, user in system.users.items()}


def _per_job(calls: dict[str, list[audit.Call]], jobs: int) -> dict[str, float]:
    each = {program: round(len(made) / jobs, 2) for program, made in calls.items()}
    return {"all": round(sum(len(made) for made in calls.values()) / jobs, 2), **each}


def _latencies(cluster: ApiCluster, system: System, namespace: str, since: float) -> list[float]:
    """Return the seconds from each job's creation, webhooks included, until its child Job was there."""
    calls = [
        call
        for call in audit.read(cluster.audit_log, since=since)
        if call.namespace == namespace and call.verb == "create" and call.code < 300
    ]
    kind = system.path.rpartition("/")[2]
    asked = {call.name: call.began for call in calls if call.resource == kind}
    there = {call.name.removesuffix(system.suffix): call.ended for call in calls if call.resource == "jobs"}
    return [there[name] - began for name, began in asked.items()]


async def _jobs(client: Client, namespace: str, count: int) -> bool:
    return len([job async for job in client.items(f"/apis/batch/v1/namespaces/{namespace}/jobs")]) >= count


async def _done(client: Client, path: str, condition: str, wanted: Collection[str]) -> bool:
    over = set()
    async for item in client.items(path):
        conditions = {entry["type"]: entry["status"] for entry in item.get("status", {}).get("conditions", ())}
        if conditions.get(condition) == "True":
            over.add(item["metadata"]["name"])
    return over >= set(wanted)


async def _quiet(cluster: ApiCluster, system: System, since: float) -> None:
    """Wait until the system makes no more calls."""
    count, changed = -1, time.monotonic()
    while time.monotonic() - changed < _QUIET_SECONDS:
        await asyncio.sleep(POLL_SECONDS)
        now = sum(map(len, _calls(cluster, system, since).values()))
        if now != count:
            count, changed = now, time.monotonic()


async def _until(ask: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not await ask():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not within {_PATIENCE_SECONDS:.0f} s")
        await asyncio.sleep(POLL_SECONDS)


def _verdicts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    verdicts = []
    for limit in LIMITS:
        ours, theirs = (
            next(row for row in rows if row["system"] == system.name and row["callsPerSecond"] == limit)
            for system in (FEEDLINE, TRAINER)
        )
        for when in ("callsPerJobToItsJob", "callsPerJobToItsEnd"):
            met = ours[when]["all"] < theirs[when]["all"]
            verdicts.append({"callsPerSecond": limit, "what": when, "verdict": "met" if met else "NOT MET"})
    return verdicts


def _page(results: dict[str, Any]) -> str:
    rows = [
        [
            row["system"],
            f"{row['callsPerSecond']:,}",
            f"{row['secondsToJob']['median']:.2f} s",
            f"{row['secondsToJob']['p99']:.2f} s",
            _calls_cell(row["callsPerJobToItsJob"]),
            _calls_cell(row["callsPerJobToItsEnd"]),
        ]
        for row in sorted(results["rows"], key=lambda row: (row["callsPerSecond"], row["system"] != FEEDLINE.name))
    ]
    missed = [verdict for verdict in results["verdicts"] if verdict["verdict"] != "met"]
    headings = ["", "limit, calls/s", "to the child Job, median", "p99", "API calls a job by then", "by its end"]
    return "\n\n".join(
        [
            "# feedline beside Kubeflow Trainer",
            report.sentence(results),
            table(headings, rows),
            f"Fewer calls a job than Trainer: {'NOT MET' if missed else 'met'}.",
            _NOTES.format(jobs=results["jobs"]),
        ]
    )


def _calls_cell(calls: dict[str, float]) -> str:
    parts = [f"{name} {number:g}" for name, number in calls.items() if name != "all"]
    return f"{calls['all']:g}" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")


_NOTES = """\
{jobs} jobs in a burst for each row, all on one API server, one system after the other, the order turned round at the
second limit. The limit is that of each program's client (burst: twice as many); Trainer and JobSet are two programs
and so have it twice. Each program has one worker. Calls are those in the audit log, by user, once the system has
fallen silent; watches and Leases aside. Times are from the creation's arrival at the API server, webhooks included, to
the answer to the creation of the Job. Trainer and JobSet are built from their modules and run with their own CRDs,
rights and webhooks, the latter registered by URL with a certificate of our own; Trainer without its rotation of
certificates. Their child is a Job of a JobSet made from the runtime torch-distributed, ours a Job; the pods are real
objects whose status is written as a kubelet would write it.
"""


if __name__ == "__main__":
    sys.exit(main())
