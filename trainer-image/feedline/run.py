"""`Run`: what a training function receives. It hands out batches, keeps the limits and tells where the time went.

Everything is measured where the training thread takes its batches. How a process starts and ends around a run, its
signals, exit codes and files, is `feedline.process`'s business.
"""

import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from feedline import contract, process, sources
from feedline.calibrate import limits_of
from feedline.columns import Columns, picker
from feedline.errors import StopTraining, UsageError
from feedline.governor import WORDS
from feedline.limits import cpu_count, default_threads, memory_bytes
from feedline.manifest import Manifest, Parameter
from feedline.metrics import TrainerMetrics
from feedline.timeline import Clock, HostClock, Timeline

_WITHOUT_END = 2**31 - 1
_log = logging.getLogger("feedline")


class Batches:
    """One split of the data: iterating it is one epoch of native batches, dicts of tensors by array name.

    Attributes
    ----------
    arrays
        The open files, for shapes, dtypes and row counts.
    timeline
        Where the time of this split went.
    steps, samples
        Batches and rows handed out so far.
    """

    def __init__(self, run: "Run", name: str, source: sources.Source, clock: Clock) -> None:
        self._run = run
        self._source = source
        self.name = name
        self.arrays = source.arrays
        self.timeline = Timeline(
            clock,
            lambda seconds: run.metrics.fetched(name, seconds),
            lambda seconds: run.metrics.stepped(name, seconds),
            lambda seconds: run.metrics.iterated(name, seconds),
        )
        self.steps = self.samples = self.epochs = 0
        self._told: dict[str, str] = {}
        self.started: float | None = None
        self.ended: float | None = None

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return self._source.plan.steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Start the next epoch; it ends early when a limit is reached."""
        return self.epoch(limited=True)

    @property
    def bytes(self) -> int:
        """Bytes handed out so far."""
        return self.samples * (self.arrays.bytes // self.arrays.rows)

    def epoch(self, *, limited: bool) -> Generator[dict[str, Any]]:
        """Yield an epoch; `limited` False leaves the limits to `Run.callbacks`."""
        batches, timeline, in_epoch = iter(self._source.batches), self.timeline, 0
        if self.started is None:
            self.started = time.perf_counter()
        try:
            while True:
                self._run.check_stop()
                if limited and self._run.limit_reached(self):
                    timeline.mark()
                    return
                timeline.ask()
                try:
                    batch = next(batches, None)
                except Exception as error:
                    self._run.metrics.failed(error)
                    raise
                if batch is None:
                    return
                timeline.give()
                if in_epoch == 0:
                    self._tell_paging()
                self.count(in_epoch)
                in_epoch += 1
                yield batch
        finally:
            timeline.end()
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _tell_paging(self) -> None:
        """Log how rows come into memory, where it is not as it was; at first, where they are not there."""
        for name, told in self.feed_stats.paging.items() if self._source.feed is not None else ():
            way = told.partition(":")[0]
            if way != self._told.get(name, WORDS["resident"]):
                _log.info("%s %s: %s", self.name, name, told)
            self._told[name] = way

    def count(self, in_epoch: int) -> None:
        """Count a batch that was handed out, the `in_epoch`-th of its epoch."""
        plan = self._source.plan
        rows = min(plan.local_batch_size, plan.rows - in_epoch * plan.batch_size)
        self.steps += 1
        self.samples += rows
        self.epochs += in_epoch + 1 == plan.steps
        self.ended = time.perf_counter()
        self._run.metrics.counted(self.name)

    def count_from_outside(self, in_epoch: int) -> None:
        """Count a batch that did not come through `epoch`: Keras took it from a generator."""
        if self.started is None:
            self.started = time.perf_counter()
        self.count(in_epoch)

    @property
    def feed_stats(self) -> Any:
        """The feed's statistics; None for a classic engine."""
        return self._source.feed.stats() if self._source.feed is not None else None

    def close(self) -> None:
        """End the feed's threads."""
        self._source.close()


class Run:
    """A training run, as the training function sees it.

    ::

        def train(run: feedline.Run) -> None:
            model = build(run.parameters["learningRate"])
            for epoch in run.epochs():
                for batch in run.train:
                    loss = step(model, batch["features"], batch["labels"])
                run.report(loss=loss)

    Attributes
    ----------
    backend, engine
        The manifest's ``spec.backend`` and ``spec.loader.engine``.
    parameters
        The manifest's ``spec.train.parameters``.
    device
        Where batches are: a `torch.device`, or the name of a TensorFlow device.
    inputs, targets, weights, extras
        Names of the arrays by role.
    train, validation
        The splits; validation is unshuffled, with all its rows, and None where the manifest has none.
    """

    def __init__(self, manifest: Manifest, volumes: Mapping[str, Path]) -> None:
        sources.require_backend(manifest.backend)
        sources.import_backend(manifest.backend)
        self.manifest = manifest
        self.pipeline = manifest.name
        self.backend, self.engine = manifest.backend, manifest.loader.engine
        self.parameters: Mapping[str, Parameter] = manifest.train.parameters
        self.seed = manifest.train.seed
        if self.seed is not None:
            sources.seed_everything(self.backend, self.seed)
        self.device, clock = _device_and_clock(self.backend)
        self.metrics = TrainerMetrics(self)
        self.values: dict[str, float] = {}
        self.opaque = False  # whether the loop's time cannot be seen
        self._stop: contract.ExitCode | None = None
        by_role: dict[str, list[str]] = {role: [] for role in ("Input", "Target", "Weight", "Extra")}
        for array in manifest.train_data.arrays:
            by_role[array.role].append(array.name)
        self.inputs, self.targets = by_role["Input"], by_role["Target"]
        self.weights, self.extras = by_role["Weight"], by_role["Extra"]
        self._train_source = sources.train_source(manifest, volumes, self.device)
        self.train = Batches(self, "train", self._train_source, clock)
        validation = sources.validation_source(manifest, volumes, self.device)
        self.validation = Batches(self, "validation", validation, clock) if validation else None
        if self._train_source.feed is not None and self._train_source.feed.blocks is not None:
            _log.info(sources.price(manifest, self.train.arrays, self._train_source.feed.blocks))
        self.limits = limits_of(self.train.arrays, manifest.loader.threads or default_threads(), memory_bytes())
        self.metrics.opened = time.perf_counter()

    @classmethod
    def from_environment(cls) -> "Run":
        """Return the run of this process, for a program of one's own that `spec.train.command` starts.

        Reads the manifest that feedline put into the environment or the pod, serves the metrics, and writes the
        report when the program ends.
        """
        return process.run_from_environment(cls)

    @property
    def on_accelerator(self) -> bool:
        """Whether batches are copied to a device."""
        return "cpu" not in str(self.device).lower()

    # --- limits ---------------------------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """Yield epoch numbers from 0 until the limit in epochs, steps or seconds is reached."""
        epoch = 0
        while epoch < (self.manifest.train.epochs or _WITHOUT_END) and not self.limit_reached(self.train):
            yield epoch
            epoch += 1

    @property
    def max_epochs(self) -> int:
        """The limit as a number of epochs, for Keras' `fit`; `callbacks` end it earlier where that is due."""
        limits = self.manifest.train
        if limits.epochs is not None:
            return limits.epochs
        return -(-limits.steps // len(self.train)) if limits.steps is not None else _WITHOUT_END

    @property
    def target_steps(self) -> int:
        """Steps until the limit; 0 where it is one of time."""
        limits = self.manifest.train
        if limits.steps is not None:
            return limits.steps
        return limits.epochs * len(self.train) if limits.epochs is not None else 0

    def limit_reached(self, batches: Batches) -> bool:
        """Tell whether no further batch of `batches` is due; validation has no limit."""
        limits = self.manifest.train
        if batches is not self.train:
            return False
        if limits.seconds is not None:
            return batches.started is not None and time.perf_counter() - batches.started >= limits.seconds
        return batches.steps >= self.target_steps

    # --- Keras ----------------------------------------------------------------------------------------------------

    @cached_property
    def dataset(self) -> Any:
        """The training rows as Keras' `fit` takes them, with `steps_per_epoch`, `max_epochs` and `callbacks`."""
        if self.engine == "Classic":
            from feedline.classic import keras as classic

            # Keras takes from a generator ahead of need and on threads of its own.
            self.opaque = True
            return classic.endless(self._train_source.batches, self._pick(self.train))
        return self._keras_dataset(self.train)

    @cached_property
    def validation_dataset(self) -> Any:
        """The validation rows as Keras' `evaluate` and `validation_data=` take them; None where there are none."""
        return self._keras_dataset(self.validation) if self.validation is not None else None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, for Keras' `fit`."""
        return len(self.train)

    @cached_property
    def callbacks(self) -> list[Any]:
        """Keras callbacks that keep the limits, report what `fit` logs, and tell the time of an epoch's last step."""
        from feedline.keras import RunCallback

        return [RunCallback(self)]

    def _keras_dataset(self, batches: Batches) -> Any:
        from feedline.keras import Dataset

        pick = self._pick(batches)
        return Dataset(lambda: batches.epoch(limited=False), len(batches), pick, self.manifest.loader.batch_size)

    def _pick(self, batches: Batches) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        weights = _columns(self.weights) if self.weights else None
        return picker([_columns(self.inputs), _columns(self.targets), weights], batches.arrays)

    # --- telling --------------------------------------------------------------------------------------------------

    def report(self, **values: Any) -> None:
        """Take in the newest numbers, such as ``loss=…, accuracy=…``: at most 16 names, anything `float` accepts."""
        for name, value in values.items():
            try:
                # torch warns of a number that still has a gradient.
                self.values[name] = float(value.detach() if hasattr(value, "detach") else value)
            except (TypeError, ValueError):
                raise UsageError(f"run.report: {name} must be a number (got {type(value).__name__})") from None
        if len(self.values) > contract.MAX_REPORT_VALUES:
            raise UsageError(f"run.report: at most {contract.MAX_REPORT_VALUES} names (got {', '.join(self.values)})")
        self.metrics.reported(values.keys())

    def stop(self, exit_code: contract.ExitCode) -> None:
        """Ask the loop to end: now if it waits for the feed, else at the next batch. Called by signal handlers."""
        self._stop = exit_code
        self.metrics.state = "draining"
        if self.engine != "Feed":
            return  # a DataLoader that is left in the middle of a batch has its workers print tracebacks
        if self.train.timeline.asking or (self.validation is not None and self.validation.timeline.asking):
            raise StopTraining(exit_code)

    def check_stop(self) -> None:
        """Raise `StopTraining` if the loop was asked to end."""
        if self._stop is not None:
            raise StopTraining(self._stop)

    def close(self) -> None:
        """End the threads of the feeds."""
        self.train.close()
        if self.validation is not None:
            self.validation.close()


def _device_and_clock(backend: str) -> tuple[Any, Clock]:
    """Return where batches go and the clock that is honest there."""
    if backend == "keras":
        from feedline.keras import framework

        backend = framework()
    if backend == "pytorch":
        import torch

        if not torch.cuda.is_available():
            _leave_a_cpu_to_the_feed()
            return torch.device("cpu"), HostClock()
        from feedline.pytorch import StreamClock

        device = torch.device("cuda", torch.cuda.current_device())
        return device, StreamClock(device)
    import tensorflow as tf

    return ("/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"), HostClock()


def _leave_a_cpu_to_the_feed() -> None:
    """Keep torch's operations off one of the CPUs this process may use, unless OMP_NUM_THREADS says otherwise.

    OpenMP threads spin while they wait for each other, and torch starts one for each CPU of the host, whatever the
    pod's limit. A step whose partner has no CPU then waits for whole time slices: measured on 2 cores with one busy,
    70 ms instead of 2 ms (2026-11).
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), int(cpu_count()) - 1)))


def _columns(names: list[str]) -> Columns:
    return names[0] if len(names) == 1 else names
