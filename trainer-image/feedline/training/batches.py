"""One split of the data as the training thread takes it: native batches, counted and timed."""

import logging
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from feedline.paging import WORDS
from feedline.training.metrics import TrainerMetrics
from feedline.training.snapshot import SplitSnapshot
from feedline.training.sources import Source
from feedline.training.timeline import Clock, Timeline

_log = logging.getLogger("feedline")


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
        The open files, for shapes, dtypes and row counts.
    timeline
        Where the time of this split went.
    steps, samples
        Batches and rows handed out so far.
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
        self.arrays = source.arrays
        self.timeline = Timeline(
            clock,
            lambda seconds: metrics.fetched(name, seconds),
            lambda seconds: metrics.stepped(name, seconds),
            lambda seconds: metrics.iterated(name, seconds),
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
                self._check_stop()
                if limited and self._is_over(self):
                    timeline.mark()
                    return
                timeline.ask()
                try:
                    batch = next(batches, None)
                except Exception as error:
                    self._metrics.failed(error)
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
        self._metrics.counted(self.name)

    def count_from_outside(self, in_epoch: int) -> None:
        """Count a batch that did not come through `epoch`: Keras took it from a generator."""
        if self.started is None:
            self.started = time.perf_counter()
        self.count(in_epoch)

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
            waits=self.timeline.waits.spans(),
            works=self.timeline.steps.spans(),
            until_first_step=self.timeline.until_first_step,
            feed=self.feed_stats,
        )

    def close(self) -> None:
        """End the feed's threads."""
        self._source.close()
