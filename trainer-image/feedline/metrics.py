"""The trainer's Prometheus metrics: what `/metrics` shows of a run.

Durations are observed as they happen; everything that the run, its feeds or the kernel count anyway is read from them
when Prometheus asks, so that a batch costs three observations and a few additions. Series carry only `split`; the
rest comes from the target's labels. A duration that is not known yet, or cannot be seen, is left out and never 0.
"""

import math
import os
import platform
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, StateSetMetricFamily
from prometheus_client.registry import Collector

from feedline.errors import DataError, FileShrankError
from feedline.residency import resident_bytes

if TYPE_CHECKING:
    from feedline.run import Batches, Run

FETCH_BUCKETS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STEP_BUCKETS = (1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
STATES = ("loading", "training", "evaluating", "draining", "done", "failed")
ERRORS = ("io", "data", "shrank", "memory", "other")
PREFIX = "feedline_trainer_"
_LEARNING_RATES = ("learning_rate", "learningRate")

disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Faults:
    """Page faults of this process since its run began."""

    minor: int
    major: int


class TrainerMetrics:
    """The instruments of one run, in a registry of their own; made when the framework and its device are there."""

    def __init__(self, run: "Run") -> None:
        self.registry = CollectorRegistry()
        self.state = "loading"
        self.last_step_time = 0.0
        self.learning_rate: float | None = None
        self.process_started = time.perf_counter() - _process_age()
        self.imported = self.opened = time.perf_counter()
        self._run = run
        self._faults_before = _usage()
        ProcessCollector(registry=self.registry)
        Info("feedline_trainer", "Constant 1; its labels say what runs here.", registry=self.registry).info(
            _identity(run)
        )
        # Every label set exists before the first batch, or rate() would not see the first increments.
        self._fetch = self._histograms(
            "batch_fetch_duration_seconds",
            "Time that the loop was blocked waiting for the next batch; the first batch is left out.",
            FETCH_BUCKETS,
        )
        self._step = self._histograms(
            "step_duration_seconds",
            "Time from having a batch to asking for the next one within an epoch, by the device's clock; the first "
            "step is left out.",
            STEP_BUCKETS,
        )
        self._iteration = self._histograms(
            "iteration_duration_seconds",
            "Time of a whole iteration within an epoch, waiting and step together; the first one is left out.",
            STEP_BUCKETS,
        )
        self._nonfinite = Counter(
            PREFIX + "nonfinite_loss_total", "Reports whose loss was NaN or infinite.", registry=self.registry
        )
        self._errors = Counter(
            PREFIX + "loader_errors_total",
            "Errors that the loop got when it asked for a batch, by reason: io (reading failed), data (a file's "
            "content, or a file that was written to), shrank (a file was cut short), memory (none was left), other.",
            ["reason"],
            registry=self.registry,
        )
        for reason in ERRORS:
            self._errors.labels(reason)
        self.registry.register(_RunCollector(run, self))

    def _histograms(self, name: str, text: str, buckets: tuple[float, ...]) -> dict[str, Histogram]:
        family = Histogram(PREFIX + name, text, ["split"], buckets=buckets, registry=self.registry)
        splits = ["train"] if self._run.manifest.validation_data is None else ["train", "validation"]
        return {split: family.labels(split) for split in splits}

    def fetched(self, split: str, seconds: float) -> None:
        """Observe a wait for a batch, where it can be seen."""
        if not self._run.opaque:
            self._fetch[split].observe(seconds)

    def stepped(self, split: str, seconds: float) -> None:
        """Observe a step, where it can be seen."""
        if not self._run.opaque:
            self._step[split].observe(seconds)

    def iterated(self, split: str, seconds: float) -> None:
        """Observe a wait and its step together, where they can be seen."""
        if not self._run.opaque:
            self._iteration[split].observe(seconds)

    def counted(self, split: str) -> None:
        """Note that a batch of `split` was handed out."""
        if self.state != "draining":
            self.state = "training" if split == "train" else "evaluating"
        self.last_step_time = time.time()

    def failed(self, error: Exception) -> None:
        """Count what was raised in place of a batch."""
        match error:
            case FileShrankError():
                reason = "shrank"
            case OSError():
                reason = "io"
            case MemoryError():
                reason = "memory"
            case DataError():
                reason = "data"
            case _:
                reason = "other"
        self._errors.labels(reason).inc()

    def reported(self, names: Iterable[str]) -> None:
        """Values of these names were reported."""
        if "loss" in names and not math.isfinite(self._run.values["loss"]):
            self._nonfinite.inc()
        for name in _LEARNING_RATES:
            if name in names:
                self.learning_rate = self._run.values[name]

    def faults(self) -> Faults:
        """Return the page faults so far."""
        now = _usage()
        return Faults(now.minor - self._faults_before.minor, now.major - self._faults_before.major)


class _RunCollector(Collector):
    """Reads the run when Prometheus asks."""

    def __init__(self, run: "Run", metrics: TrainerMetrics) -> None:
        self._run = run
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Nothing to say before the run is open; the registry would otherwise collect at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the run's gauges and counters."""
        run, metrics = self._run, self._metrics
        splits = [run.train] + ([run.validation] if run.validation is not None else [])
        yield StateSetMetricFamily(
            PREFIX + "state", "Current phase of the loop.", {state: state == metrics.state for state in STATES}
        )
        yield from _counters(splits)
        yield from _data(splits, in_memory=run.manifest.loader.residency == "memory")
        yield _gauge("epoch", "Finished epochs.", run.train.epochs)
        yield _gauge("epochs", "Epochs to do; 0 where the limit is another one.", run.manifest.train.epochs or 0)
        yield _gauge("target_steps", "Steps to do; 0 where the limit is one of time.", run.target_steps)
        yield _gauge("last_step_timestamp_seconds", "Unix time of the last batch taken.", metrics.last_step_time)
        yield from _start(run, metrics)
        yield _gauge("loss", "Last reported loss.", run.values.get("loss"))
        yield _gauge(
            "learning_rate",
            "Last learning rate, as it was reported or as Keras' optimizer has it.",
            metrics.learning_rate,
        )
        yield from _loader(run.train)
        faults = metrics.faults()
        family = CounterMetricFamily(
            PREFIX + "page_faults",
            "Page faults of this process since its run began; major ones waited for the disk.",
            labels=["kind"],
        )
        family.add_metric(["minor"], faults.minor)
        family.add_metric(["major"], faults.major)
        yield family


def _counters(splits: list["Batches"]) -> Iterator[Metric]:
    steps = CounterMetricFamily(PREFIX + "steps", "Batches handed to the loop.", labels=["split"])
    samples = CounterMetricFamily(PREFIX + "samples", "Rows handed to the loop.", labels=["split"])
    size = CounterMetricFamily(PREFIX + "read_bytes", "Array bytes handed to the loop.", labels=["split"])
    for split in splits:
        steps.add_metric([split.name], split.steps)
        samples.add_metric([split.name], split.samples)
        size.add_metric([split.name], split.bytes)
    yield from (steps, samples, size)


def _data(splits: list["Batches"], *, in_memory: bool) -> Iterator[Metric]:
    size = GaugeMetricFamily(PREFIX + "dataset_bytes", "Bytes of the split's rows.", labels=["split"])
    rows = GaugeMetricFamily(PREFIX + "dataset_samples", "Rows of the split.", labels=["split"])
    resident = GaugeMetricFamily(
        PREFIX + "dataset_resident_bytes",
        "Bytes of the split's rows that are in memory, for mapped files in the page cache, estimated from a sample of "
        "pages; left out where the kernel does not tell: this process must own the files or be allowed to write them.",
        labels=["split"],
    )
    for split in splits:
        size.add_metric([split.name], split.arrays.bytes)
        rows.add_metric([split.name], split.arrays.rows)
        in_cache = split.arrays.bytes if in_memory else resident_bytes(split.arrays)
        if in_cache is not None:
            resident.add_metric([split.name], in_cache)
    yield from (size, rows, resident)


def _start(run: "Run", metrics: TrainerMetrics) -> Iterator[Metric]:
    """Tell how long it took until the loop was going, and with what."""
    train, timeline = run.train, run.train.timeline
    stages = GaugeMetricFamily(
        PREFIX + "startup_duration_seconds",
        "Time until the loop asked for its first batch, by stage: import (from the start of the process until the "
        "framework and its device were there), open (opening and checking the files, or reading them into memory), "
        "build (the model, and whatever else came before the first batch).",
        labels=["stage"],
    )
    stages.add_metric(["import"], metrics.imported - metrics.process_started)
    stages.add_metric(["open"], metrics.opened - metrics.imported)
    first_batch, first_step, until_batch, until_step = timeline.waits.first, None, None, None
    if train.started is not None and first_batch is not None:
        stages.add_metric(["build"], train.started - metrics.opened)
        until_batch = train.started - metrics.process_started + first_batch
        if timeline.until_first_step is not None and not run.opaque:
            first_step, until_step = timeline.steps.first, until_batch + timeline.until_first_step
    yield stages
    yield _gauge("first_batch_duration_seconds", "Wait for the first batch: threads and page-in.", first_batch)
    yield _gauge("first_step_duration_seconds", "Time of the first step, compiling included.", first_step)
    yield _gauge(
        "time_to_first_batch_seconds",
        "Time from the start of the process until the loop had its first batch.",
        until_batch,
    )
    yield _gauge(
        "time_to_first_step_seconds", "Time from the start of the process to the end of the first step.", until_step
    )


def _loader(train: "Batches") -> Iterator[Metric]:
    """Tell how the feed is doing; nothing where a classic engine loads."""
    if (stats := train.feed_stats) is None:
        return
    yield _gauge("prefetch_batches", "Batches that are ready; 0 is starving.", stats.queue_depth)
    yield _gauge("prefetch_capacity_batches", "Batches that can be ready at most.", stats.queue_capacity)
    yield _gauge("loader_threads", "Gather threads of the feed.", stats.threads)
    yield CounterMetricFamily(
        PREFIX + "gather_busy_seconds",
        "Time that the gather threads worked, summed over them.",
        value=stats.gather_busy_seconds,
    )
    yield CounterMetricFamily(
        PREFIX + "disk_samples",
        "Rows that were not in memory when they were due; they are read, which is no page fault.",
        value=stats.rows_from_disk,
    )


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Return a gauge, without a sample where there is no value."""
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _process_age() -> float:
    """Return the seconds since this process started, to the kernel's tick of 10 ms (proc_pid_stat(5), field 22)."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _usage() -> Faults:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Faults(usage.ru_minflt, usage.ru_majflt)


def _identity(run: "Run") -> dict[str, str]:
    package = {"pytorch": "torch"}.get(run.backend, run.backend)
    return {
        "backend": run.backend,
        "engine": run.engine,
        "backend_version": _version(package),
        "feedline_version": _version("feedline"),
        "python_version": platform.python_version(),
        "device": str(run.device),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
