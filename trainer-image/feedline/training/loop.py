"""A run without its process: it hands out batches, keeps the limits and tells where the time went.

Everything is measured where the training thread takes its batches. How a process starts and ends around it, its
signals, exit codes and files, is not known here. The file is long since a training function has one object for all of
it.
"""

import logging
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from feedline import contract
from feedline.contract import Report
from feedline.errors import StopTraining, StorageError, UsageError
from feedline.limits import cpu_count, default_threads, memory_bytes
from feedline.manifest import Manifest, Parameter
from feedline.paging import limits_of
from feedline.ranks import Asked, Place
from feedline.training import backends, classes, peers, report, sources
from feedline.training.batches import Batches
from feedline.training.border import Border
from feedline.training.history import History
from feedline.training.metrics import TrainerMetrics
from feedline.training.objective import Tracked
from feedline.training.output import Output, is_finished
from feedline.training.ranks_folder import ENV_FOLDER
from feedline.training.saver import Saver
from feedline.training.snapshot import Aim, Snapshot
from feedline.training.sums import Sums
from feedline.training.together import together
from feedline.training.transforms import roles

WITHOUT_END = 2**31 - 1
"""Epochs of a run that is limited otherwise; the largest number that Keras takes."""
_SEEDS_APART = 0x9E3779B97F4A7C15
_log = logging.getLogger("feedline")


class Loop:
    """A training run; what a training function gets of it is `feedline.Run`.

    Parameters
    ----------
    manifest, volumes
        What to run, and the folder of every volume.
    output
        Where to leave what the run makes; None: nowhere, and what is left is gone with the run.

    Attributes
    ----------
    backend, engine, parameters, device, inputs, targets, weights, extras, train, validation, sums
        As `feedline.Run` says.
    limits
        What this machine gives, which the run is held against.
    at_end
        Called where the training function has come to its end, to leave something behind.
    """

    def __init__(self, manifest: Manifest, volumes: Mapping[str, Path], output: Output | None = None) -> None:
        backends.require_backend(manifest.backend)
        backends.import_backend(manifest.backend)
        self.place = Place.of(os.environ)
        peers.require_ranks(manifest, self.place.world)
        self.manifest = manifest
        self.pipeline = manifest.name
        self.backend, self.engine = manifest.backend, manifest.loader.engine
        self.parameters: Mapping[str, Parameter] = manifest.train.parameters
        self.seed = manifest.train.seed
        self.peers = (
            peers.Peers(self.place, lambda: report.summarize(self.snapshot()), self._seconds)
            if self.place.world > 1
            else None
        )
        if self.seed is not None:
            # Each rank draws for itself, as for a dropout; what must be alike is made so by `distribute`.
            backends.seed_everything(self.backend, (self.seed + self.place.rank * _SEEDS_APART) % 2**63)
        self.device, clock = backends.device_and_clock(self.backend)
        splits = ["train", *(["validation"] if manifest.validation_data is not None else [])]
        self.metrics = TrainerMetrics(self._identity(), splits, self.snapshot)
        self.values: dict[str, float] = {}
        self._stop: contract.ExitCode | None = None
        self._epoch = 0  # of `epochs`
        self._is_in_epoch = self._comes_back = self._has_ended = False
        self._is_time_over = self._is_asked_to_finish = self._is_warned = False  # of several ranks
        self._seconds_before = 0.0
        self.at_end: list[Callable[[], None]] = []
        self.sums = Sums()
        self.aim = Tracked(manifest.objective) if manifest.objective is not None else None
        self._before_epoch = 0, 0.0  # rows trained on, and seconds
        is_elsewhere = output is None or not self.place.is_chief
        # Of several ranks within a folder that is there no longer than they are, in case one of them is killed.
        within = os.environ.get(ENV_FOLDER)
        self._nowhere = tempfile.TemporaryDirectory(prefix="feedline-run-", dir=within) if is_elsewhere else None
        self.left_in = output or Output(Path(self._nowhere.name if self._nowhere else ""), is_kept=False)
        # Of several ranks one writes what all of them have in common.
        self.history = History(Path(self._nowhere.name) if self._nowhere is not None else self.left_in.folder)
        self.saver = Saver(self.left_in, manifest.train.checkpoint, self, self.sums, self._why_not_saved(), self.peers)
        classes.require_same_classes(manifest, volumes)
        self._train_source = sources.train_source(manifest, volumes, self.device, self.place)
        by_role = roles(manifest, self._train_source.element_spec)
        self.inputs, self.targets, self.weights, self.extras = (
            by_role[role] for role in ("Input", "Target", "Weight", "Extra")
        )
        watched = (clock, self.metrics, self._check_stop_between_steps, self.limit_reached)
        self.train = Batches("train", self._train_source, *watched)
        self.train.at_start = self.saver.restore_randomness
        self.train.at_step = self._at_step
        self.train.at_begin = self._at_begin
        validation = sources.validation_source(manifest, volumes, self.device, self.place)
        self.validation = Batches("validation", validation, *watched) if validation else None
        if self._train_source.feed is not None and self._train_source.feed.blocks is not None:
            _log.info(sources.price(manifest, self.train.arrays, self._train_source.feed.blocks))
        self.limits = limits_of(self.train.arrays, manifest.loader.threads or default_threads(), memory_bytes())
        self.metrics.opened = time.perf_counter()
        if self.peers is not None:
            self.peers.start(self.train.trained)

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
        """Yield epoch numbers from 0 until the limit in epochs, steps or seconds is reached.

        A run that goes on begins with the epoch that it was in.
        """
        while self.is_epoch_due and self._may_begin():
            self.enter_epoch()
            yield self._epoch
            self.leave_epoch()

    @property
    def epoch(self) -> int:
        """The epoch at hand, or the next one."""
        return self._epoch

    @property
    def is_epoch_due(self) -> bool:
        """Whether there is an epoch to do, or to come back to."""
        if self._comes_back:
            return True
        last = self.manifest.train.epochs or WITHOUT_END
        return not self._has_ended and self._epoch < last and not self.limit_reached(self.train)

    def enter_epoch(self) -> None:
        """Begin an epoch, or come back to the one in which the run was."""
        if not self._comes_back:
            self.saver.restore_randomness()
            self.sums.clear()
        self._comes_back, self._is_in_epoch = False, True
        self._before_epoch = self.train.samples, sum(self._seconds())

    def leave_epoch(self) -> None:
        """Note that all is done that an epoch has to do."""
        self._tell_speed()
        self._is_in_epoch = False
        self._epoch += 1
        self._warn_of_models_apart()
        self.train.leave()
        self.saver.at_epoch_end()
        self._do_what_is_due()
        self.check_stop()

    def _tell_speed(self) -> None:
        """Report how fast an epoch was, where that is the objective: no training function says which loader is best."""
        if self.aim is None or self.aim.objective.value != contract.SPEED:
            return
        rows, seconds = self._before_epoch
        taken = sum(self._seconds()) - seconds
        if taken > 0:
            self.report(**{contract.SPEED: (self.train.samples - rows) / taken})

    def _warn_of_models_apart(self) -> None:
        if self.peers is None or self.peers.is_model_distributed or self._is_warned or not self.place.is_chief:
            return
        self._is_warned = True
        _log.warning(
            "run.distribute was never called: unless the training averages gradients by itself, each of the %d "
            "processes trains a model of its own, on its part of every batch: write network = run.distribute(model)",
            self.place.world,
        )

    def _at_step(self) -> None:
        self.saver.at_step()
        self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        """Do between two steps what all ranks were asked for, if they come to this step."""
        if self.peers is not None:
            seconds = self.manifest.train.seconds
            is_late = seconds is not None and self.active_seconds >= seconds
            if is_late and self.place.is_chief and not self._is_asked_to_finish:
                self._is_asked_to_finish = True
                self.peers.ask(peers.FINISH)
            while (asked := self.peers.due(self.train.trained)) is not None:
                self._do(asked)

    def _may_begin(self) -> bool:
        """Do before an epoch what all ranks were asked for; return whether one is due then."""
        return self._comes_back or self._at_begin(self.train.trained + 1)

    def _at_begin(self, step: int) -> bool:
        """Begin a step, once done is what all ranks are to do before it; return whether it is due then."""
        if self.peers is not None:
            while (asked := self.peers.begin(step)) is not None:
                self._do(asked)
                if self._is_time_over:
                    return False
        return True

    def _do(self, asked: Asked) -> None:
        match asked.what:
            case peers.SAVE:
                self.saver.save_agreed()
            case peers.FINISH:
                self._is_time_over = True
            case _:
                self.saver.share()
                raise StopTraining(peers.stop_code(asked))

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
        if limits.seconds is not None and self.peers is not None:
            return self._is_time_over  # by the chief's clock
        if limits.seconds is not None:
            return self.active_seconds >= limits.seconds
        return batches.steps >= self.target_steps

    @property
    def active_seconds(self) -> float:
        """Seconds since the first batch was asked for, those of earlier processes of this run among them."""
        started = self.train.started
        return self._seconds_before + (time.perf_counter() - started if started is not None else 0.0)

    # --- what is left behind ------------------------------------------------------------------------------------------

    @property
    def output(self) -> Path:
        """The run's own folder, for whatever it is to leave behind."""
        return self.left_in.folder

    def checkpoint(self, **objects: Any) -> bool:
        """Restore what was saved of these objects, if anything was, and save them from now on.

        ::

            run.checkpoint(model=model, optimizer=optimizer, scheduler=scheduler)

        Called once, before the loop. The run is saved between steps, as `spec.train.checkpoint` says, at its end, and
        when it is stopped; `epochs` and `train` go on with exactly the next batch. What changes within an epoch and is
        in none of the objects begins anew where a run goes on; `sums` does not.

        Parameters
        ----------
        objects
            Models, optimizers, schedulers, random generators, and objects with `state_dict()` and
            `load_state_dict(state)`, each by the name that its file gets.

        Returns
        -------
        bool
            Whether they were restored.

        Raises
        ------
        UsageError
            An object has no state, it was called before or too late, or what was saved is of another training.
        DataError
            The model has other tensors than the one that was saved, or no checkpoint is whole.
        """
        return self.saver.register(objects)

    def _why_not_saved(self) -> str | None:
        if not self.left_in.is_kept:
            return "there is no output, and what is saved would be gone with this process"
        if self.engine == "Classic":
            return "loader.engine: Classic cannot go on in the middle of an epoch"
        return None

    def border(self) -> Border:
        """Return where the run stands."""
        train = self.train
        left = len(train) - train.in_epoch
        if self.manifest.train.seconds is None:
            left = min(left, self.target_steps - train.trained)
        is_between = self._is_in_epoch and train.in_epoch > 0 and left > 0
        return Border(train.trained, train.epochs, is_between or not self._is_in_epoch, is_last=left == 1)

    def facts(self) -> dict[str, Any]:
        """Return what another run must have in common to go on from here."""
        framework = {"pytorch": "torch"}.get(self.backend, self.backend)
        if self.backend == "keras":
            import keras

            framework = str(keras.backend.backend())
        return {"backend": self.backend, "framework": framework}

    def progress(self) -> dict[str, Any]:
        """Return the rest of what the run knows of itself, as JSON."""
        return {
            "place": self.train.place(),
            "epoch": self._epoch,
            "isInEpoch": self._is_in_epoch,
            "targetSteps": self.target_steps,
            "seconds": self.active_seconds,
            "values": {name: repr(value) for name, value in self.values.items()},
            "objective": self.aim.state() if self.aim is not None else None,
            "history": self.history.rows,
            "versions": self._identity(),
        }

    def go_on(self, progress: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises
        ------
        UsageError
            It was another data set, order or batch size.
        """
        self.train.go_on(progress["place"])
        # An epoch that a function has left is over, also where more are wanted by now.
        was_left = progress["finished"] and progress["isInEpoch"]
        self._epoch, self._comes_back = progress["epoch"] + was_left, progress["isInEpoch"] and not was_left
        # A program may have left with an exit code that only who started it knows, and tells.
        is_enough = progress["targetSteps"] >= self.target_steps and is_finished(self.left_in.folder)
        self._has_ended = was_left and is_enough
        self._seconds_before = progress["seconds"]
        self.values = {name: float(value) for name, value in progress["values"].items()}
        if self.aim is not None and progress["objective"] is not None:
            self.aim.restore(progress["objective"])
        if self._comes_back and self.limit_reached(self.train):
            self._epoch, self._comes_back = self._epoch + 1, False  # its time was over in the middle
        if self.place.is_chief:
            self.history.cut(progress["history"])

    def objective_now(self) -> str | None:
        """Return the newest value of the objective, as text."""
        newest = self.aim.newest if self.aim is not None else None
        return None if newest is None else report.decimal(newest[1])

    def best_step(self) -> int | None:
        """Return the step at which the objective was best."""
        best = self.aim.best if self.aim is not None else None
        return None if best is None else best[0]

    def pause(self) -> None:
        """Note that what comes now is neither a step nor a wait for data."""
        self.train.timeline.leave()

    def ended(self, error: BaseException | None) -> BaseException | None:
        """Save what is to be saved at the end; return how the training ended, by `error` or by what came up here."""
        try:
            if isinstance(error, StopTraining):
                self.saver.stopped()
            elif error is None and self.train.steps:
                if self.peers is not None:
                    self.peers.arrive(self.train.steps)
                problem = self.saver.finished()
                for leave in self.at_end:  # what matters less, behind what takes room on the same disk
                    leave()
                if problem is not None:
                    return StorageError(f"trained to its end, but the last checkpoint cannot be written: {problem}")
            else:
                self.saver.close()
                return error if error is None or self.peers is None else self.peers.explained(error)
        except Exception as raised:  # noqa: BLE001 - of the user's objects, or of ours
            return raised
        return error

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
            output=str(self.left_in.folder) if self.left_in.is_kept else None,
            from_step=self.saver.from_step,
            kept=self.saver.kept if self.saver.is_on else None,
            every_seconds=self.manifest.train.checkpoint.every_seconds,
            objective=self._aim(),
            faults=self.metrics.faults(),
            limits=self.limits,
            memory_bytes=memory_bytes(),
            cpus=cpu_count(),
            processes=self.place.local_world,
            seconds_of_ranks=self._seconds_of_ranks(),
        )

    def _aim(self) -> Aim | None:
        if self.aim is None:
            return None
        return Aim(self.aim.newest, self.aim.best, self.aim.curve(), len(self.train), self.train.epoch_rows)

    def _seconds(self) -> tuple[float, float]:
        timeline = self.train.timeline
        return timeline.waits.total, timeline.steps.total

    def _seconds_of_ranks(self) -> dict[int, tuple[float, float]]:
        if self.peers is None or not self.place.is_chief or self.opaque:
            return {}
        return {self.place.rank: self._seconds(), **self.peers.seconds}

    def summary(self) -> Report:
        """Return the numbers of the run so far, of all ranks where this is the chief."""
        own = report.summarize(self.snapshot())
        return own if self.peers is None else together(own, self.peers.told, self.place.world, self.peers.nodes)

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
        if told:
            self.history.add(self.train.steps, self._epoch, self.active_seconds, told)
        if self.aim is not None and self.aim.objective.value in told:
            self._aimed(self.aim, told[self.aim.objective.value])

    def _aimed(self, aim: Tracked, value: float) -> None:
        if math.isnan(value) and (aim.newest is None or not math.isnan(aim.newest[1])):
            _log.warning("spec.objective: %s is not a number at step %d", aim.objective.value, self.train.steps)
        if aim.add(self.train.steps, value) and not self.train.is_in_step:
            self.saver.improved()

    def stop(self, exit_code: contract.ExitCode) -> None:
        """Ask the loop to end: now if it waits for the feed, else at the next batch. Called by signal handlers."""
        self.metrics.state = "draining"
        if self.peers is not None:
            self.peers.ask(peers.STOP, exit_code)
            return
        self._stop = exit_code
        if self.engine != "Feed":
            return  # a DataLoader that is left in the middle of a batch has its workers print tracebacks
        is_looking = self.validation is not None and self.validation.timeline.asking and not self.train.is_in_step
        if self.train.timeline.asking or is_looking:
            raise StopTraining(exit_code)

    def check_stop(self) -> None:
        """Raise `StopTraining` if the loop was asked to end."""
        if self._stop is not None:
            raise StopTraining(self._stop)

    def _check_stop_between_steps(self) -> None:
        """Raise `StopTraining` if the loop was asked to end; not within a step, whose half could not be saved."""
        if not self.train.is_in_step:
            self.check_stop()

    def close(self) -> None:
        """End the threads of the feeds."""
        self.saver.close()
        self.history.close()
        if self.peers is not None:
            self.peers.close()
        if self._nowhere is not None:
            self._nowhere.cleanup()
        self.train.close()
        if self.validation is not None:
            self.validation.close()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
