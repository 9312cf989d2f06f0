"""Measure data that do not fit into memory: ``python benchmarks/cold.py``, as root, in a memory cgroup of its own.

Every measurement is a process of its own in a cgroup of its own, and the files leave the page cache before it: what
comes from memory has come there within it. Rounds visit every way in turn. The bounds are measured in the same way, in
the same run: random reads past the page cache, 32 at once, and reading in order.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import data
import machine
from data import Data
from measure import Measure
from ways import cold

from feedline.units import size

_ROOT = Path(__file__).resolve().parent.parent
_CGROUPS = Path("/sys/fs/cgroup")
_NAME = "feedline-bench-cold"
_BATCH = 256
_PATIENCE_SECONDS = 60

Maker = Callable[[Data, int], Measure]


@dataclass(frozen=True)
class Way:
    """A measurement: its name for people, what makes it, and the memory of its cgroup as a share of the data."""

    title: str
    make: Maker
    memory_share: float | None = None
    """None: as `--memory` says."""
    is_rate: bool = True


def other(module: str, name: str) -> Callable[[Data, int], Measure]:
    """Return the maker of a way of the other benchmark."""

    def make(rows: Data, batch_size: int) -> Measure:
        from importlib import import_module

        makers = import_module(f"ways.{module}").MAKERS
        return makers[name](rows, batch_size)

    return make


WAYS: dict[str, Way] = {
    "random": Way("random reads of 4 KiB, 32 at once, past the page cache", cold.random_reads),
    "sequential": Way("reading in order", cold.sequential_reads),
    "feed": Way("feedline", cold.feed),
    "feed-block": Way("feedline, `shuffle: Block`", partial(cold.feed, shuffle="block")),
    "feed-mapped": Way("feedline, `residency: Mapped`", partial(cold.feed, residency="mapped")),
    "keras-generator": Way("Keras generator over the mapping", other("raw", "keras-generator")),
    "dataloader-2": Way("torch DataLoader, 2 workers", other("pytorch", "dataloader-2")),
    "dataloader-8": Way("torch DataLoader, 8 workers", other("pytorch", "dataloader-8")),
    "grain": Way("grain, 16 read threads", other("grain", "grain-16")),
    "spdl": Way("spdl, 2 threads", other("spdl", "spdl")),
    "tf.data": Way("tf.data `from_generator`", other("tensorflow", "from-generator")),
    "half": Way("feedline, half in memory: rows from the disk", cold.half, memory_share=0.62),
    "warm": Way("feedline, all in memory", partial(cold.warm, residency="auto"), memory_share=4),
    "warm-mapped": Way("the same, `residency: Mapped`", partial(cold.warm, residency="mapped"), memory_share=4),
    "epochs": Way("first batch of later epochs", cold.epoch_starts, is_rate=False),
}
_PEERS = ("dataloader-2", "dataloader-8", "grain", "spdl", "tf.data")
_RATIOS: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    ("full shuffle / random reads", "feed", ("random",), 0.85),
    ("full shuffle / plain mapped generator", "feed", ("keras-generator",), 10),
    ("full shuffle / the best of the peers", "feed", _PEERS, 3),
    ("block shuffle / reading in order", "feed-block", ("sequential",), 0.8),
    ("all in memory / without the governor", "warm", ("warm-mapped",), 0.97),
    ("half in memory: rows from the disk / random reads", "half", ("random",), 0.85),
)
"""What is divided by the best of what, and what it should reach."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure data that do not fit into memory.")
    parser.add_argument("--rows", type=int, default=800_000, help="rows of 2.5 kB (800000)")
    parser.add_argument("--memory", type=int, default=512, help="MiB of memory for everything (512)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement (6)")
    parser.add_argument("--only", nargs="+", choices=WAYS, help="measure only these")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--name", default="cold", help="of the files of results (cold)")
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "results", help="folder of results")
    options = parser.parse_args(arguments)
    rows = replace(data.prepare(_ROOT / ".cache" / "bench", options.rows, warm=False), cold=True)
    if options.measure:
        measure = WAYS[options.measure].make(rows, _BATCH)
        sys.stdout.write(json.dumps(measure(options.seconds)) + "\n")
        return 0
    if os.geteuid() != 0:
        sys.stderr.write("feedline: a memory cgroup takes root: run this as root\n")
        return 78
    names = options.only or list(WAYS)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.rounds):
        # To and fro, so that what is compared comes first as often as second.
        for name in names if number % 2 == 0 else reversed(names):
            share = WAYS[name].memory_share
            forget(rows)
            with cgroup(options.memory << 20 if share is None else int(share * rows.rows * data.ROW_BYTES)) as join:
                rates[name].append(measured(name, options, join))
            sys.stderr.write(f"round {number + 1}: {WAYS[name].title}: {rates[name][-1]:,.4g}\n")
    _write(options, rows, rates)
    return 0


@contextmanager
def cgroup(limit: int) -> Iterator[Path]:
    """Make a memory cgroup (version 1 or 2) and yield the file that takes processes into it."""
    version_1 = (_CGROUPS / "memory").is_dir()
    folder = (_CGROUPS / "memory" if version_1 else _CGROUPS) / _NAME
    folder.mkdir(exist_ok=True)
    (folder / ("memory.limit_in_bytes" if version_1 else "memory.max")).write_text(str(limit))
    try:
        yield folder / "cgroup.procs"
    finally:
        # Of what was killed, some may still wait for the disk.
        while (folder / "cgroup.procs").read_text():
            time.sleep(0.1)
        folder.rmdir()


def forget(rows: Data) -> None:
    """Take the files out of the page cache."""
    for path in rows.paths.values():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(name: str, options: argparse.Namespace, join: Path) -> float:
    """Return the rows a second of a way, in a process of its own; what takes too long for two batches is 0."""
    shell = ("sh", "-c", f'echo $$ > {join}; exec "$@"', "sh")
    own = ("--measure", name, "--rows", str(options.rows), "--seconds", str(options.seconds))
    command = (*shell, sys.executable, __file__, *own)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        told, error = process.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return 0.0
    if process.returncode:
        last = error.strip().splitlines()[-1:] or ["(nothing said)"]
        sys.stderr.write(f"{name} ended with {process.returncode}: {last[0]}\n")
        return 0.0
    return float(told.strip().splitlines()[-1])


def _write(options: argparse.Namespace, rows: Data, rates: dict[str, list[float]]) -> None:
    bytes_of_rows = rows.rows * data.ROW_BYTES
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "rows": rows.rows,
        "bytes": bytes_of_rows,
        "memoryBytes": options.memory << 20,
        "readAheadKilobytes": _read_ahead(rows.folder),
        "batchSize": _BATCH,
        "seconds": options.seconds,
        "rowsPerSecond": {name: [float(f"{rate:.6g}") for rate in found] for name, found in rates.items()},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / f"{options.name}.md").write_text(table(result))
    sys.stdout.write(table(result))


def _read_ahead(folder: Path) -> int:
    """Return the kernel's read-ahead for the device of a folder, in kB."""
    device = folder.stat().st_dev
    return int(Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").read_text())


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    rates = result["rowsPerSecond"]
    here = result["machine"]
    described = (
        f"{result['rows']:,} rows of 2.5 kB ({size(result['bytes'])}) in a memory cgroup of "
        f"{result['memoryBytes'] >> 20} MiB, batches of {result['batchSize']} in random order, the page cache empty of "
        f"the files first; the kernel's read-ahead, which decides how slow plain mappings are, is "
        f"{result['readAheadKilobytes']} kB; {result['date']}, {here['cpus']:g} CPUs of {here['cpu']}, "
        f"{here['kernel']}, load {here['load']}."
    )
    lines = ["# Data larger than memory", "", described, "", *_ratio_table(rates), ""]
    lines += ["| way | rows/s, median | least to most |", "| --- | ---: | ---: |"]
    for name, found in rates.items():
        if WAYS[name].is_rate:
            middle = statistics.median(found)
            shown = f"{middle:,.0f}" if middle else f"< {result['batchSize'] * 2 / _PATIENCE_SECONDS:.0f}"
            lines.append(f"| {WAYS[name].title} | {shown} | {min(found):,.0f} to {max(found):,.0f} |")
    return "\n".join(lines) + "\n"


def _ratio_table(rates: dict[str, list[float]]) -> list[str]:
    """Return what is wanted and what was measured: ratios within a round, and their median."""
    lines = ["| what | median | least to most | wanted |", "| --- | ---: | ---: | ---: |"]
    for title, name, others, wanted in _RATIOS:
        bounds = [rates[other] for other in others if other in rates]
        if name in rates and bounds:
            # What was too slow for two batches has a rate of 0: a bound, by what would have been noticed.
            slow = _BATCH * 2 / _PATIENCE_SECONDS
            found = [rate / max(slow, *best) for rate, *best in zip(rates[name], *bounds, strict=True)]
            told = f"{statistics.median(found):.3g} | {min(found):.3g} to {max(found):.3g}"
            lines.append(f"| {title} | {told} | ≥ {wanted:g} |")
    if (found := rates.get("epochs")) is not None:
        told = f"{statistics.median(found):.3g} | {min(found):.3g} to {max(found):.3g}"
        lines.append(f"| wait for the first batch of later epochs / fetch and step | {told} | ≤ 2 |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
