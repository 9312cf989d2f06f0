"""What Prometheus is told of a run when it asks, from a snapshot: a batch costs nothing of it.

A duration that is not known yet, or cannot be seen, is left out and never 0.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, StateSetMetricFamily
from prometheus_client.registry import Collector

from feedline.checkpoints import Kept
from feedline.paging import resident_bytes
from feedline.training.snapshot import Snapshot, SplitSnapshot

STATES = ("loading", "training", "evaluating", "draining", "done", "failed")
PREFIX = "feedline_trainer_"


class Told(Protocol):
    """What is known of a run besides its snapshot: its phase, and when it came to be there, by `time.perf_counter`."""

    state: str
    process_started: float
    imported: float
    opened: float
    last_step_time: float
    learning_rate: float | None


class RunCollector(Collector):
    """Reads the run when Prometheus asks."""

    def __init__(self, snapshot: Callable[[], Snapshot], told: Told) -> None:
        self._snapshot = snapshot
        self._told = told

    def describe(self) -> Iterable[Metric]:
        """Nothing to say before the run is open; the registry would otherwise collect at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the run's gauges and counters."""
        run, told = self._snapshot(), self._told
        splits = [run.train] + ([run.validation] if run.validation is not None else [])
        yield StateSetMetricFamily(
            PREFIX + "state", "Current phase of the loop.", {state: state == told.state for state in STATES}
        )
        yield from _counters(splits, run.processes)
        yield from _data(splits, in_memory=run.in_memory)
        yield _gauge("epoch", "Finished epochs.", run.train.epochs)
        yield _gauge("epochs", "Epochs to do; 0 where the limit is another one.", run.target_epochs)
        yield _gauge("target_steps", "Steps to do; 0 where the limit is one of time.", run.target_steps)
        yield _gauge("last_step_timestamp_seconds", "Unix time of the last batch taken.", told.last_step_time)
        yield from _start(run, told)
        yield _gauge("loss", "Last reported loss.", run.values.get("loss"))
        yield _gauge(
            "learning_rate",
            "Last learning rate, as it was reported or as Keras' optimizer has it.",
            told.learning_rate,
        )
        yield from _loader(run.train)
        if run.seconds_of_ranks:
            yield from _ranks(run.seconds_of_ranks)
        if run.kept is not None:
            yield from _checkpoints(run.kept, run.every_seconds)
        family = CounterMetricFamily(
            PREFIX + "page_faults",
            "Page faults of this process since its run began; major ones waited for the disk.",
            labels=["kind"],
        )
        family.add_metric(["minor"], run.faults.minor)
        family.add_metric(["major"], run.faults.major)
        yield family


def _counters(splits: Sequence[SplitSnapshot], processes: int) -> Iterator[Metric]:
    steps = CounterMetricFamily(PREFIX + "steps", "Batches handed to the loop.", labels=["split"])
    samples = CounterMetricFamily(
        PREFIX + "samples", "Rows handed to the loop, to those of all processes of the pod.", labels=["split"]
    )
    size = CounterMetricFamily(
        PREFIX + "read_bytes", "Array bytes handed to the loop, to those of all processes of the pod.", labels=["split"]
    )
    for split in splits:
        steps.add_metric([split.name], split.steps)
        samples.add_metric([split.name], split.samples * processes)
        size.add_metric([split.name], split.bytes * processes)
    yield from (steps, samples, size)


def _ranks(seconds: Mapping[int, tuple[float, float]]) -> Iterator[Metric]:
    """Tell whom the others wait for: in a training that keeps in step the wait of one rank is everybody's."""
    waited = CounterMetricFamily(
        PREFIX + "rank_batch_fetch_seconds",
        "Time that each rank's loop was blocked waiting for its next batch; the first batch is left out. Of trainings "
        "in several processes, by the first of them alone.",
        labels=["rank"],
    )
    worked = CounterMetricFamily(
        PREFIX + "rank_step_seconds",
        "Time from having a batch to asking for the next one, of each rank, in which it waits for the others, too; the "
        "first step is left out.",
        labels=["rank"],
    )
    for rank, (waiting, working) in seconds.items():
        waited.add_metric([str(rank)], waiting)
        worked.add_metric([str(rank)], working)
    yield from (waited, worked)


def _data(splits: Sequence[SplitSnapshot], *, in_memory: bool) -> Iterator[Metric]:
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


def _start(run: Snapshot, told: Told) -> Iterator[Metric]:
    """Tell how long it took until the loop was going, and with what."""
    train = run.train
    stages = GaugeMetricFamily(
        PREFIX + "startup_duration_seconds",
        "Time until the loop asked for its first batch, by stage: import (from the start of the process until the "
        "framework and its device were there), open (opening and checking the files, or reading them into memory), "
        "build (the model, and whatever else came before the first batch).",
        labels=["stage"],
    )
    stages.add_metric(["import"], told.imported - told.process_started)
    stages.add_metric(["open"], told.opened - told.imported)
    first_batch, first_step, until_batch, until_step = train.waits.first, None, None, None
    if train.started is not None and first_batch is not None:
        stages.add_metric(["build"], train.started - told.opened)
        until_batch = train.started - told.process_started + first_batch
        if train.until_first_step is not None and not run.opaque:
            first_step, until_step = train.works.first, until_batch + train.until_first_step
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


def _loader(train: SplitSnapshot) -> Iterator[Metric]:
    """Tell how the feed is doing; nothing where a classic engine loads."""
    if (stats := train.feed) is None:
        return
    yield _gauge("prefetch_batches", "Batches that are ready; 0 is starving.", stats.queue_depth)
    yield _gauge("prefetch_capacity_batches", "Batches that can be ready at most.", stats.queue_capacity)
    yield _gauge("loader_threads", "Gather threads of the feed.", stats.threads)
    yield CounterMetricFamily(
        PREFIX + "gather_busy_seconds",
        "Time that the gather threads worked, summed over them.",
        value=stats.gather_busy_seconds,
    )
    transforms = CounterMetricFamily(
        PREFIX + "transform_seconds",
        "Time that the gather threads spent in transforms, summed over them: in declared ones, and in functions of the "
        "user's.",
        labels=["kind"],
    )
    transforms.add_metric(["declared"], max(0.0, stats.transform_seconds - stats.functions.seconds))
    transforms.add_metric(["function"], stats.functions.seconds)
    yield transforms
    yield CounterMetricFamily(
        PREFIX + "transform_blocked_seconds",
        "Time that functions of the user's waited for the interpreter, or for files, neither on a CPU nor waiting for "
        "one.",
        value=stats.functions.blocked,
    )
    yield CounterMetricFamily(
        PREFIX + "disk_samples",
        "Rows that were not in memory when they were due; they are read, which is no page fault.",
        value=stats.rows_from_disk,
    )


def _checkpoints(kept: Kept, every_seconds: int) -> Iterator[Metric]:
    """Tell how the saving goes, and what a run that went on would go on from."""

    def counter(name: str, text: str, value: float) -> CounterMetricFamily:
        return CounterMetricFamily(f"{PREFIX}checkpoint_{name}", text, value=value)

    yield counter("blocked_seconds", "Time that the loop stood still while its state was copied.", kept.blocked_total)
    yield counter(
        "write_seconds",
        "Time of writing those checkpoints that could be written, beside the training.",
        kept.write_total,
    )
    yield counter("written_bytes", "Bytes of the checkpoints that were written.", kept.bytes_total)
    yield counter("saves", "Checkpoints that were written by this process.", kept.saves)
    yield counter("failures", "Checkpoints that could not be written; the training goes on.", kept.failures)
    yield counter(
        "skipped", "Checkpoints that were due while another one was still being written, and left out.", kept.skipped
    )
    last = kept.last
    yield _gauge("checkpoint_last_step", "Steps trained in the newest checkpoint.", None if last is None else last.step)
    yield _gauge(
        "checkpoint_last_timestamp_seconds",
        "Unix time at which the state of the newest checkpoint was copied, by an earlier process of the run, too.",
        None if last is None else _unix_time(last.time),
    )
    yield _gauge(
        "checkpoint_interval_seconds", "How often a checkpoint is due, where it is due by time.", every_seconds or None
    )
    yield _gauge("checkpoint_state_bytes", "Memory that the copy of the state takes.", kept.state_bytes)


def _unix_time(text: str) -> float | None:
    """Return a time of RFC 3339 in Unix seconds; None where it is none, since a checkpoint may be by anybody."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Return a gauge, without a sample where there is no value."""
    return GaugeMetricFamily(PREFIX + name, text, value=value)
