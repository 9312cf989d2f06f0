"""What the operator costs an API server and a machine: ``make bench-operator``.

A real API server with its controllers, the operator as a process with the rights of the chart, and calls counted in
the audit log. Nothing is asserted: what must hold is printed with the figure, as met or not met.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import burst
import life
import machine
import report
import scale
import sweep
from cluster import build, operators
from cluster.api import ApiCluster
from figures import Figure, table

Section = Callable[[ApiCluster, Path], Awaitable[list[Figure]]]

# The operator's default, and so high that it does not bind.
LIMITS = (50, 2000)

NOTES = """\
Calls are counted in the API server's audit log, by user; watches and Leases aside. The pods are real objects whose
status is written as a kubelet would write it. The bare loop is bare.py: the operator's client, limiter and number of
workers, the Job and the status of each pipeline that is handed to it, and nothing else. A limit of 50 calls/s is the
operator's default; 2,000 does not bind, so that what is compared is the work.
"""


def main() -> int:
    """Measure, write the results, print what was reached; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure what the operator costs.")
    parser.add_argument("--pipelines", type=report.whole(10), default=1000, help="of the crowd (1000)")
    parser.add_argument("--trials", type=report.whole(10), default=500, help="of the sweep (500)")
    parser.add_argument("--progress-seconds", type=report.whole(60), default=120, help="to count progress writes (120)")
    parser.add_argument("--idle-seconds", type=report.whole(1), default=60, help="to measure idle CPU (60)")
    parser.add_argument("--only", nargs="+", choices=("life", "burst", "scale", "sweep"), help="measure only these")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of results (benchmarks/results)")
    options = parser.parse_args()
    return report.program(lambda: _run(options), options.out)


def _run(options: argparse.Namespace) -> None:
    before = machine.describe()
    figures = []
    for name, section in _sections(options):
        if options.only is None or name.split()[0] in options.only:
            report.say(f"{name} …")
            figures += _measured(section)
    results = report.setting(build.NEWEST, before)
    results["figures"] = [{**vars(figure), "verdict": figure.verdict} for figure in figures]
    rows = [[figure.what, figure.wanted, figure.measured, figure.verdict] for figure in figures]
    page = "\n\n".join(
        [
            "# What the operator costs",
            report.sentence(results),
            table(["", "wanted", "measured", ""], rows),
            NOTES,
        ]
    )
    # Some of the sections stand beside the rest, which was measured on another day.
    report.write("-".join(["operator", *(options.only or ())]), results, page, options.out)


def _sections(options: argparse.Namespace) -> list[tuple[str, Section]]:
    count = options.pipelines
    bursts = [
        (f"burst of {count} at {limit} calls/s", partial(burst.measure, count=count, calls_per_second=limit))
        for limit in LIMITS
    ]
    seconds = {"progress_seconds": options.progress_seconds, "idle_seconds": options.idle_seconds}
    return [
        ("life", partial(life.measure, count=10)),
        *bursts,
        (f"sweep of {options.trials} trials", partial(sweep.measure, trials=options.trials)),
        (f"scale to {count}", partial(scale.measure, finished=count, **seconds)),
    ]


def _measured(section: Section) -> list[Figure]:
    """Measure in a cluster of its own, so that no section inherits what another has left."""
    with ApiCluster() as cluster, tempfile.TemporaryDirectory(prefix="feedline-bench-") as folder:
        operators.install(cluster)
        figures = asyncio.run(section(cluster, Path(folder)))
    for figure in figures:
        report.say(f"  {figure.verdict}: {figure.what}: {figure.measured}")
    return figures


if __name__ == "__main__":
    sys.exit(main())
