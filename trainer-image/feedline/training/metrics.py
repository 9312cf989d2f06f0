"""The trainer's Prometheus metrics: what `/metrics` shows of a run.

Durations are observed as they happen; everything that the run, its feeds or the kernel count anyway is read from them
when Prometheus asks, so that a batch costs three observations and a few additions. Series carry only `split`; the
rest comes from the target's labels. A duration that is not known yet, or cannot be seen, is left out and never 0.
"""

import math
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, disable_created_metrics

from feedline.errors import DataError, FileShrankError
from feedline.training.collector import PREFIX, RunCollector
from feedline.training.snapshot import Faults, Snapshot

FETCH_BUCKETS = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STEP_BUCKETS = (1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
ERRORS = ("io", "data", "shrank", "memory", "other")
_LEARNING_RATES = ("learning_rate", "learningRate")

disable_created_metrics()  # type: ignore[no-untyped-call]


class TrainerMetrics:
    """The instruments of one run, in a registry of their own; made when the framework and its device are there.

    Parameters
    ----------
    identity
        What runs here, by label.
    splits
        Names of the splits: train, and validation where there is one.
    snapshot
        Gives the run as it is now; asked only once the run is open.

    Attributes
    ----------
    state
        The phase of the loop, one of `feedline.training.collector.STATES`.
    opaque
        Whether the loop's time cannot be seen.
    process_started, imported, opened, last_step_time, learning_rate
        What the collector tells besides the snapshot.
    """

    def __init__(self, identity: Mapping[str, str], splits: Sequence[str], snapshot: Callable[[], Snapshot]) -> None:
        self.registry = CollectorRegistry()
        self.state = "loading"
        self.opaque = False
        self.last_step_time = 0.0
        self.learning_rate: float | None = None
        self.process_started = time.perf_counter() - _process_age()
        self.imported = self.opened = time.perf_counter()
        self._splits = splits
        self._faults_before = _usage()
        ProcessCollector(registry=self.registry)
        Info("feedline_trainer", "Constant 1; its labels say what runs here.", registry=self.registry).info(
            dict(identity)
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
        self.registry.register(RunCollector(snapshot, self))

    def _histograms(self, name: str, text: str, buckets: tuple[float, ...]) -> dict[str, Histogram]:
        family = Histogram(PREFIX + name, text, ["split"], buckets=buckets, registry=self.registry)
        return {split: family.labels(split) for split in self._splits}

    def fetched(self, split: str, seconds: float) -> None:
        """Observe a wait for a batch, where it can be seen."""
        if not self.opaque:
            self._fetch[split].observe(seconds)

    def stepped(self, split: str, seconds: float) -> None:
        """Observe a step, where it can be seen."""
        if not self.opaque:
            self._step[split].observe(seconds)

    def iterated(self, split: str, seconds: float) -> None:
        """Observe a wait and its step together, where they can be seen."""
        if not self.opaque:
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

    def reported(self, values: Mapping[str, float]) -> None:
        """Note the values that were reported now."""
        if "loss" in values and not math.isfinite(values["loss"]):
            self._nonfinite.inc()
        for name in _LEARNING_RATES:
            if name in values:
                self.learning_rate = values[name]

    def faults(self) -> Faults:
        """Return the page faults so far."""
        now = _usage()
        return Faults(now.minor - self._faults_before.minor, now.major - self._faults_before.major)


def _process_age() -> float:
    """Return the seconds since this process started, to the kernel's tick of 10 ms (proc_pid_stat(5), field 22)."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _usage() -> Faults:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Faults(usage.ru_minflt, usage.ru_majflt)
