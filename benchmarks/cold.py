"""Measure data that do not fit into memory: ``python benchmarks/cold.py``, as root, in a memory cgroup of its own.

Every measurement is a process of its own in that cgroup, and the files leave the page cache before it: what comes from
memory has come there within it. Rounds visit every way in turn. The bounds are measured in the same way, in the same
run: 32 threads that read 4 KiB each at random, and one that reads in order.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import data
import machine
from data import Data
from measure import Measure, epochs, pulled

import feedline
from feedline.verdict import size

_ROOT = Path(__file__).resolve().parent.parent
_CGROUPS = Path("/sys/fs/cgroup")
_NAME = "feedline-bench-cold"
_BATCH = 256
_PATIENCE_SECONDS = 120
_THREADS = 32
_BLOCK = 4096


def random_reads(rows: Data, _: int) -> Measure:
    """Return a measure of reads of 4 KiB at random places by 32 threads; on few CPUs they bound it, not the disk."""

    def measure(seconds: float) -> float:
        descriptor = os.open(rows.paths["features"], os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        blocks = os.fstat(descriptor).st_size // _BLOCK
        end, counts = time.monotonic() + seconds, [0] * _THREADS

        def read(number: int) -> None:
            random = Random(number)
            while time.monotonic() < end:
                os.pread(descriptor, _BLOCK, random.randrange(blocks) * _BLOCK)
                counts[number] += 1

        threads = [threading.Thread(target=read, args=(number,)) for number in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / seconds

    return measure


def sequential_reads(rows: Data, _: int) -> Measure:
    """Return a measure of rows read in the order of the file, a mebibyte at a time."""

    def measure(seconds: float) -> float:
        done, begin = 0, time.monotonic()
        with rows.paths["features"].open("rb", buffering=0) as file:
            while time.monotonic() - begin < seconds and (piece := file.read(1 << 20)):
                done += len(piece)
        return done / (data.ROW_BYTES - 4) / (time.monotonic() - begin)

    return measure


def feed(rows: Data, batch_size: int, *, residency: Any = "auto") -> Measure:
    """Return a measure of the feed's own batches."""
    batches = feedline.Feed(feedline.open_arrays(rows.paths, residency=residency), batch_size)
    return pulled(lambda: epochs(batches), batch_size)


def other(module: str, name: str) -> Callable[[Data, int], Measure]:
    """Return the maker of a way of the other benchmark."""

    def make(rows: Data, batch_size: int) -> Measure:
        from importlib import import_module

        makers = import_module(f"ways.{module}").MAKERS
        return makers[name](rows, batch_size)

    return make


WAYS: dict[str, tuple[str, Callable[[Data, int], Measure]]] = {
    "random": ("random reads of 4 KiB, 32 at a time", random_reads),
    "sequential": ("reading in order", sequential_reads),
    "feed": ("feedline", feed),
    "feed-mapped": ("feedline, `residency: Mapped`", lambda rows, size: feed(rows, size, residency="mapped")),
    "keras-generator": ("Keras generator", other("raw", "keras-generator")),
    "dataloader-2": ("torch DataLoader, 2 workers", other("pytorch", "dataloader-2")),
    "dataloader-8": ("torch DataLoader, 8 workers", other("pytorch", "dataloader-8")),
    "grain": ("grain, 16 read threads", other("grain", "grain-16")),
    "spdl": ("spdl, 2 threads", other("spdl", "spdl")),
    "tf.data": ("tf.data `from_generator`", other("tensorflow", "from-generator")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure data that do not fit into memory.")
    parser.add_argument("--rows", type=int, default=800_000, help="rows of 2.5 kB (800000)")
    parser.add_argument("--memory", type=int, default=512, help="MiB of memory for everything (512)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (3)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of one measurement (6)")
    parser.add_argument("--only", nargs="+", choices=WAYS, help="measure only these")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "results", help="folder of results")
    options = parser.parse_args(arguments)
    rows = replace(data.prepare(_ROOT / ".cache" / "bench", options.rows, warm=False), cold=True)
    if options.measure:
        measure = WAYS[options.measure][1](rows, _BATCH)
        sys.stdout.write(json.dumps(measure(options.seconds)) + "\n")
        return 0
    if os.geteuid() != 0:
        sys.stderr.write("feedline: a memory cgroup takes root: run this as root\n")
        return 78
    names = options.only or list(WAYS)
    rates: dict[str, list[float]] = {name: [] for name in names}
    with cgroup(options.memory << 20) as join:
        for number in range(options.rounds):
            for name in names:
                forget(rows)
                rates[name].append(measured(name, options, join))
                sys.stderr.write(f"round {number + 1}: {WAYS[name][0]}: {rates[name][-1]:,.0f} rows/s\n")
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
        "batchSize": _BATCH,
        "seconds": options.seconds,
        "rowsPerSecond": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cold.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "cold.md").write_text(table(result))
    sys.stdout.write(table(result))


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    rates = result["rowsPerSecond"]
    described = (
        f"{result['rows']:,} rows of 2.5 kB ({size(result['bytes'])}) in a memory cgroup of "
        f"{result['memoryBytes'] >> 20} MiB, batches of {result['batchSize']} in random order, the page cache empty of "
        f"the files first; {result['date']}, {result['machine']['cpus']:g} CPUs of {result['machine']['cpu']}, "
        f"{result['machine']['kernel']}, load {result['machine']['load']}."
    )
    lines = [
        "# Data larger than memory",
        "",
        described,
        "",
        "| way | rows/s, median | least to most | share of random reads |",
        "| --- | ---: | ---: | ---: |",
    ]
    bound = rates.get("random")
    for name, found in rates.items():
        share = [rate / limit for rate, limit in zip(found, bound, strict=True)] if bound else []
        told = f"{statistics.median(share):.2f}" if share else ""
        median = statistics.median(found)
        shown = f"{median:,.0f}" if median else f"< {result['batchSize'] * 2 / _PATIENCE_SECONDS:.0f}"
        lines.append(f"| {WAYS[name][0]} | {shown} | {min(found):,.0f} to {max(found):,.0f} | {told} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
