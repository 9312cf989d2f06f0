"""One split of the data as the training thread takes it: native batches, counted and timed."""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

from feedline.paging import WORDS
from feedline.training.metrics import TrainerMetrics
from feedline.training.snapshot import SplitSnapshot
from feedline.training.sources import Source
from feedline.training.timeline import Clock, Timeline

_log = logging.getLogger("feedline")


def _nothing() -> None:
    """Nobody wants to know."""


class Batches:
    """One split of the data: iterating it is one epoch of native batches, dicts of tensors by array name.

    Parameters
    ----------
    name, source, clock, metrics
        Which split, where its batches come from, and what times and counts them.
    check_stop
        Raises where the loop was asked to end; called before every batch.
    is_over
        Whether no further batch of this split is due.

    Attributes
    ----------
    arrays
        The open files, for what is stored, and row counts.
    element_spec
        Dtype and row shape of each array of a batch, by name.
    timeline
        Where the time of this split went.
    steps, samples
        Batches and rows handed out so far, those of earlier processes of this run among them.
    trained, in_epoch
        Steps that were trained so far, and those of the epoch at hand.
    is_in_step
        Whether a batch was handed out whose step may still be under way.
    at_step, at_start, at_begin
        Called between two steps of an epoch, before an epoch's first one, and with the number of a step, from 1, before
        its batch is handed out, unless the last returns False.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        clock: Clock,
        metrics: TrainerMetrics,
        check_stop: Callable[[], None],
        is_over: Callable[["Batches"], bool],
    ) -> None:
        self._source = source
        self._metrics = metrics
        self._check_stop = check_stop
        self._is_over = is_over
        self.name = name
        self.arrays, self.element_spec = source.arrays, source.element_spec
        self.timeline = Timeline(
            clock,
            lambda seconds: metrics.fetched(name, seconds),
            lambda seconds: metrics.stepped(name, seconds),
            lambda seconds: metrics.iterated(name, seconds),
        )
        self.steps = self.samples = self.epochs = 0
        self.steps_before = self.samples_before = 0  # in earlier processes
        self.trained = self.in_epoch = 0
        self.is_in_step = False
        self.at_step: Callable[[], None] = _nothing
        self.at_start: Callable[[], None] = _nothing
        self.at_begin: Callable[[int], bool] | None = None
        self._number = self._handed = 0  # which epoch, and batches of it handed out
        self._goes_on = False
        self._told: dict[str, str] = {}
        self._newest: object = None  # stands for the newest epoch: one that was left must not end the time of another
        self.started: float | None = None
        self.ended: float | None = None

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return self._source.plan.steps

    @property
    def epoch_rows(self) -> int:
        """Rows of an epoch, those that fill no batch included."""
        return self._source.plan.rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Start the next epoch; it ends early when a limit is reached."""
        return self.epoch(limited=True)

    @property
    def bytes(self) -> int:
        """Bytes handed out so far."""
        return self.samples * sum(array.row_bytes for array in self.arrays.values())

    def epoch(self, *, limited: bool) -> Generator[dict[str, Any]]:
        """Yield an epoch; `limited` False leaves the limits to `Run.callbacks`."""
        batches, timeline = iter(self._source.batches), self.timeline
        if self._newest is not None:
            timeline.end()
        mine = self._newest = object()
        if self.started is None:
            self.started = time.perf_counter()
        self._begin()
        try:
            while (batch := self._next(batches, limited=limited)) is not None:
                if self.at_begin is not None and not self.at_begin(self.steps + 1):
                    timeline.mark()
                    break
                timeline.give()
                if self._handed == 0:
                    self._tell_paging()
                self.count(self._handed)
                self._handed += 1
                self.is_in_step = True
                yield batch
        finally:
            if self._newest is mine:
                self._newest = None
                timeline.end()
                if self.is_in_step and limited:  # the loop was left by `break`, with the step that it was in
                    self.trained += 1
                    self.leave()
            close = getattr(batches, "close", None)
            if close is not None:
                close()

    def _next(self, batches: Iterator[dict[str, Any]], *, limited: bool) -> dict[str, Any] | None:
        """Return the next batch; None at the end of the epoch, and where a limit is reached."""
        if limited and self.is_in_step:
            self.end_step(self._handed)
        self._check_stop()
        if limited and self._is_over(self):
            self.timeline.mark()
            return None
        return self._asked(batches)

    def _begin(self) -> None:
        """Begin the next epoch, or go on with one."""
        self.at_start()
        if not self._goes_on:
            self._number += self._handed > 0
            self._handed = self.in_epoch = 0
        self._goes_on = False

    def end_step(self, in_epoch: int) -> None:
        """Note that a step is over, so that so many of this epoch are."""
        self.trained += in_epoch - self.in_epoch
        self.in_epoch = in_epoch
        self.is_in_step = False
        if in_epoch < self._source.plan.steps:
            self.at_step()

    def leave(self) -> None:
        """Note that whatever comes next is of the next epoch."""
        self.is_in_step = False
        if self._handed > self.in_epoch or self.in_epoch >= self._source.plan.steps:
            self._number += 1
            self._handed = self.in_epoch = 0

    def place(self) -> dict[str, Any]:
        """Return how far the training is, as JSON, for `go_on`."""
        feed = self._source.feed
        return {
            "feed": feed.state_at(self._number, self.in_epoch) if feed is not None else None,
            "number": self._number,
            "inEpoch": self.in_epoch,
            "steps": self.trained,
            "samples": self.samples * self._source.plan.world,  # of all ranks, of which there may be others then
            "epochs": self.epochs,
        }

    def go_on(self, place: Mapping[str, Any]) -> None:
        """Go on with the very next batch.

        Raises
        ------
        UsageError
            It was another data set, order or batch size.
        """
        if self._source.feed is not None:
            self._source.feed.restore(place["feed"])
        self._number, self._handed = int(place["number"]), int(place["inEpoch"])
        if self._handed >= self._source.plan.steps:
            self._number, self._handed = self._number + 1, 0
        self.in_epoch = self._handed
        self.steps = self.trained = self.steps_before = int(place["steps"])
        self.samples = self.samples_before = int(place["samples"]) // self._source.plan.world
        self.epochs = int(place["epochs"])
        self.is_in_step, self._goes_on = False, self.in_epoch > 0

    def _asked(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the next batch, None at the end of the epoch; whatever ends the wait, it is told from work."""
        self.timeline.ask()
        try:
            return next(batches, None)
        except BaseException as error:
            self.timeline.break_off()
            if isinstance(error, Exception):
                self._metrics.failed(error)
            raise

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
        self._metrics.counted(self.name)

    def count_from_outside(self, in_epoch: int) -> None:
        """Count a batch that did not come through `epoch`: Keras took it from a generator."""
        if self.started is None:
            self.started = time.perf_counter()
        self.count(in_epoch)
        self.trained += 1

    @property
    def feed_stats(self) -> Any:
        """The feed's statistics; None for a classic engine."""
        return self._source.feed.stats() if self._source.feed is not None else None

    def snapshot(self) -> SplitSnapshot:
        """Return what was done so far."""
        return SplitSnapshot(
            name=self.name,
            arrays=self.arrays,
            steps=self.steps,
            samples=self.samples,
            bytes=self.bytes,
            epochs=self.epochs,
            started=self.started,
            ended=self.ended,
            steps_before=self.steps_before,
            samples_before=self.samples_before,
            waits=self.timeline.waits.spans(),
            waiting=self.timeline.waiting,
            works=self.timeline.steps.spans(),
            until_first_step=self.timeline.until_first_step,
            feed=self.feed_stats,
        )

    def close(self) -> None:
        """End the feed's threads."""
        self._source.close()
