"""The trainer's Prometheus metrics: what `/metrics` shows of a run.

Durations are observed as they happen; everything that the run or its feeds count anyway is read from them when
Prometheus asks, so that a batch costs two observations and a few additions. Series carry only `split`; the rest comes
from the target's labels.
"""

import math
import platform
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, StateSetMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from feedline.run import Batches, Run

FETCH_BUCKETS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STEP_BUCKETS = (1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
STATES = ("loading", "training", "evaluating", "done", "failed")
PREFIX = "feedline_trainer_"

disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Faults:
    """Page faults of this process since its run began."""

    minor: int
    major: int


class TrainerMetrics:
    """The instruments of one run, in a registry of their own."""

    def __init__(self, run: "Run") -> None:
        self.registry = CollectorRegistry()
        self.state = "loading"
        self.last_step_time = 0.0
        self._run = run
        self._faults_before = _usage()
        registry = self.registry
        ProcessCollector(registry=registry)
        Info("feedline_trainer", "Constant 1; what runs here", registry=registry).info(_identity(run))
        fetch = Histogram(
            PREFIX + "batch_fetch_duration_seconds",
            "Time the loop was blocked waiting for the next batch, the first one left out",
            ["split"],
            buckets=FETCH_BUCKETS,
            registry=registry,
        )
        step = Histogram(
            PREFIX + "step_duration_seconds",
            "Time from having a batch to asking for the next one within an epoch, on the device's clock; not the first",
            ["split"],
            buckets=STEP_BUCKETS,
            registry=registry,
        )
        self._nonfinite = Counter(
            PREFIX + "nonfinite_loss_total", "Reports whose loss was NaN or infinite", registry=registry
        )
        splits = ["train"] if run.manifest.validation_data is None else ["train", "validation"]
        # Every label set exists before the first batch, or rate() would not see the first increments.
        self._fetch = {split: fetch.labels(split) for split in splits}
        self._step = {split: step.labels(split) for split in splits}
        registry.register(_RunCollector(run, self))

    def fetched(self, split: str, seconds: float) -> None:
        """Observe a wait for a batch."""
        self._fetch[split].observe(seconds)

    def stepped(self, split: str, seconds: float) -> None:
        """Observe a step."""
        self._step[split].observe(seconds)

    def counted(self, split: str) -> None:
        """Note that a batch of `split` was handed out."""
        self.state = "training" if split == "train" else "evaluating"
        self.last_step_time = time.time()

    def reported(self, names: Iterable[str]) -> None:
        """Values of these names were reported."""
        if "loss" in names and not math.isfinite(self._run.values["loss"]):
            self._nonfinite.inc()

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
            PREFIX + "state", "Current phase of the loop", {state: state == metrics.state for state in STATES}
        )
        yield from _counters(splits)
        yield from _data(splits)
        yield _gauge("epoch", "Finished epochs", run.train.epochs)
        yield _gauge("epochs", "Epochs to do; 0 where the limit is another one", run.manifest.train.epochs or 0)
        yield _gauge("target_steps", "Steps to do; 0 where the limit is one of time", run.target_steps)
        yield _gauge("last_step_timestamp_seconds", "Unix time of the last batch taken", metrics.last_step_time)
        waits, steps = run.train.timeline.waits, run.train.timeline.steps
        yield _gauge("first_batch_duration_seconds", "Wait for the first batch: threads and page-in", waits.first or 0)
        yield _gauge("first_step_duration_seconds", "First step: compiling included", steps.first or 0)
        if "loss" in run.values:
            yield _gauge("loss", "Last reported loss", run.values["loss"])
        if (stats := run.train.feed_stats) is not None:
            yield _gauge("prefetch_batches", "Batches that are ready; 0 is starving", stats.queue_depth)
            yield _gauge("prefetch_capacity_batches", "Batches that can be ready at most", stats.queue_capacity)
            yield _gauge("loader_threads", "Gather threads of the feed", stats.threads)
            busy = CounterMetricFamily(
                PREFIX + "gather_busy_seconds", "Time the gather threads worked, summed over them"
            )
            busy.add_metric([], stats.gather_busy_seconds)
            yield busy
        faults = metrics.faults()
        family = CounterMetricFamily(
            PREFIX + "page_faults", "Page faults; major ones waited for the disk", labels=["kind"]
        )
        family.add_metric(["minor"], faults.minor)
        family.add_metric(["major"], faults.major)
        yield family


def _counters(splits: list["Batches"]) -> Iterator[Metric]:
    steps = CounterMetricFamily(PREFIX + "steps", "Batches handed to the loop", labels=["split"])
    samples = CounterMetricFamily(PREFIX + "samples", "Rows handed to the loop", labels=["split"])
    size = CounterMetricFamily(PREFIX + "read_bytes", "Array bytes handed to the loop", labels=["split"])
    for split in splits:
        steps.add_metric([split.name], split.steps)
        samples.add_metric([split.name], split.samples)
        size.add_metric([split.name], split.bytes)
    yield from (steps, samples, size)


def _data(splits: list["Batches"]) -> Iterator[Metric]:
    size = GaugeMetricFamily(PREFIX + "dataset_bytes", "Bytes of the split's rows", labels=["split"])
    rows = GaugeMetricFamily(PREFIX + "dataset_samples", "Rows of the split", labels=["split"])
    for split in splits:
        size.add_metric([split.name], split.arrays.bytes)
        rows.add_metric([split.name], split.arrays.rows)
    yield from (size, rows)


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, help_text, value=value)


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
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
