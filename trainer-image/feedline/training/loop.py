"""A run without its process: it hands out batches, keeps the limits and tells where the time went.

Everything is measured where the training thread takes its batches. How a process starts and ends around it, its
signals, exit codes and files, is not known here.
"""

import logging
import platform
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from feedline import contract
from feedline.errors import StopTraining, UsageError
from feedline.limits import cpu_count, default_threads, memory_bytes
from feedline.manifest import Manifest, Parameter
from feedline.paging import limits_of
from feedline.training import backends, sources
from feedline.training.batches import Batches
from feedline.training.metrics import TrainerMetrics
from feedline.training.snapshot import Snapshot

WITHOUT_END = 2**31 - 1
"""Epochs of a run that is limited otherwise; the largest number that Keras takes."""
_log = logging.getLogger("feedline")


class Loop:
    """A training run; what a training function gets of it is `feedline.Run`.

    Parameters
    ----------
    manifest, volumes
        What to run, and the folder of every volume.

    Attributes
    ----------
    backend, engine, parameters, device, inputs, targets, weights, extras, train, validation
        As `feedline.Run` says.
    limits
        What this machine gives, which the run is held against.
    """

    def __init__(self, manifest: Manifest, volumes: Mapping[str, Path]) -> None:
        backends.require_backend(manifest.backend)
        backends.import_backend(manifest.backend)
        self.manifest = manifest
        self.pipeline = manifest.name
        self.backend, self.engine = manifest.backend, manifest.loader.engine
        self.parameters: Mapping[str, Parameter] = manifest.train.parameters
        self.seed = manifest.train.seed
        if self.seed is not None:
            backends.seed_everything(self.backend, self.seed)
        self.device, clock = backends.device_and_clock(self.backend)
        splits = ["train", *(["validation"] if manifest.validation_data is not None else [])]
        self.metrics = TrainerMetrics(self._identity(), splits, self.snapshot)
        self.values: dict[str, float] = {}
        self._stop: contract.ExitCode | None = None
        by_role: dict[str, list[str]] = {role: [] for role in ("Input", "Target", "Weight", "Extra")}
        for array in manifest.train_data.arrays:
            by_role[array.role].append(array.name)
        self.inputs, self.targets = by_role["Input"], by_role["Target"]
        self.weights, self.extras = by_role["Weight"], by_role["Extra"]
        self._train_source = sources.train_source(manifest, volumes, self.device)
        watched = (clock, self.metrics, self.check_stop, self.limit_reached)
        self.train = Batches("train", self._train_source, *watched)
        validation = sources.validation_source(manifest, volumes, self.device)
        self.validation = Batches("validation", validation, *watched) if validation else None
        if self._train_source.feed is not None and self._train_source.feed.blocks is not None:
            _log.info(sources.price(manifest, self.train.arrays, self._train_source.feed.blocks))
        self.limits = limits_of(self.train.arrays, manifest.loader.threads or default_threads(), memory_bytes())
        self.metrics.opened = time.perf_counter()

    def _identity(self) -> dict[str, str]:
        package = {"pytorch": "torch"}.get(self.backend, self.backend)
        return {
            "backend": self.backend,
            "engine": self.engine,
            "backend_version": _version(package),
            "feedline_version": _version("feedline"),
            "python_version": platform.python_version(),
            "device": str(self.device),
        }

    @property
    def on_accelerator(self) -> bool:
        """Whether batches are copied to a device."""
        return "cpu" not in str(self.device).lower()

    # --- limits ---------------------------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """Yield epoch numbers from 0 until the limit in epochs, steps or seconds is reached."""
        epoch = 0
        while epoch < (self.manifest.train.epochs or WITHOUT_END) and not self.limit_reached(self.train):
            yield epoch
            epoch += 1

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

    # --- telling --------------------------------------------------------------------------------------------------

    @property
    def opaque(self) -> bool:
        """Whether the loop's time cannot be seen."""
        return self.metrics.opaque

    def hide_time(self) -> None:
        """Note that batches are taken where the loop's time cannot be seen."""
        self.metrics.opaque = True

    def snapshot(self) -> Snapshot:
        """Return what was done so far."""
        return Snapshot(
            pipeline=self.pipeline,
            backend=self.backend,
            engine=self.engine,
            shuffle=self.manifest.loader.shuffle,
            in_memory=self.manifest.loader.residency == "memory",
            on_accelerator=self.on_accelerator,
            target_epochs=self.manifest.train.epochs or 0,
            target_steps=self.target_steps,
            train=self.train.snapshot(),
            validation=self.validation.snapshot() if self.validation is not None else None,
            values=dict(self.values),
            opaque=self.opaque,
            faults=self.metrics.faults(),
            limits=self.limits,
            memory_bytes=memory_bytes(),
            cpus=cpu_count(),
        )

    def report(self, **values: Any) -> None:
        """Take in the newest numbers, such as ``loss=…, accuracy=…``: at most 16 names, anything `float` accepts."""
        told: dict[str, float] = {}
        for name, value in values.items():
            try:
                # torch warns of a number that still has a gradient.
                told[name] = float(value.detach() if hasattr(value, "detach") else value)
            except (TypeError, ValueError):
                raise UsageError(f"run.report: {name} must be a number (got {type(value).__name__})") from None
        self.values |= told
        if len(self.values) > contract.MAX_REPORT_VALUES:
            raise UsageError(f"run.report: at most {contract.MAX_REPORT_VALUES} names (got {', '.join(self.values)})")
        self.metrics.reported(told)

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


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
