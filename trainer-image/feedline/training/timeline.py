"""Where a training loop's time goes: waiting for a batch, or working on it.

Measured only where the training thread takes a batch: from `ask` to `give` it waits, from `give` to the next `ask`
within the epoch it steps. What lies between epochs is neither, and the first batch and the first step, which carry
opening files and compiling, are kept apart. The clock is passed in: a GPU's own events tell its time honestly, since
the host only queues work for it. This module knows no framework and no metric.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from feedline.feed import Durations
from feedline.training.snapshot import Spans


class Clock(Protocol):
    """Takes stamps whose distance may be known only later."""

    def stamp(self) -> Any:
        """Mark this point in time."""

    def known(self, stamp: Any) -> bool:
        """Tell whether the stamped point has been reached."""

    def seconds(self, start: Any, stop: Any) -> float:
        """Return the distance of two known stamps."""


class HostClock:
    """The clock of a loop whose calls return when their work is done."""

    def stamp(self) -> float:
        """Return monotonic seconds."""
        return time.perf_counter()

    def known(self, stamp: float) -> bool:  # noqa: ARG002
        """Host time is known at once."""
        return True

    def seconds(self, start: float, stop: float) -> float:
        """Return the difference."""
        return stop - start


class Kind(Durations):
    """Durations of one kind; the first one apart."""

    def __init__(self, observe: Callable[[float], None]) -> None:
        super().__init__()
        self._observe = observe
        self.first: float | None = None

    def add(self, seconds: float) -> None:
        """Take in one duration."""
        if self.first is None:
            self.first = seconds
            return
        super().add(seconds)
        self._observe(seconds)

    def spans(self) -> Spans:
        """Return what there was so far."""
        return Spans(self.first, self.count, self.total, self.percentiles())


class Timeline:
    """Tells waiting from stepping.

    Parameters
    ----------
    clock
        `HostClock`, or a device's.
    on_wait, on_step, on_iteration
        Called with the seconds of every wait and step but the first, and of both together when the step is over.

    Attributes
    ----------
    until_first_step
        Seconds from having the first batch to the end of the first step; None before that.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        on_wait: Callable[[float], None] = lambda _: None,
        on_step: Callable[[float], None] = lambda _: None,
        on_iteration: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._clock = clock or HostClock()
        self.waits, self.steps = Kind(on_wait), Kind(on_step)
        self.until_first_step: float | None = None
        self.asking = False
        self._in_vain = 0.0  # waits that an exception ended
        self._asking_since = 0.0  # by the host's clock, whatever the device's
        self._on_iteration = on_iteration
        self._waited = 0.0  # for the batch whose step comes next
        self._first_given: Any = None
        self._asked: Any = None
        self._given: Any = None
        self._marked: Any = None
        self._pending: deque[tuple[Kind, Any, Any]] = deque()

    def ask(self) -> None:
        """Note that the training thread asks for the next batch: its step is over, it waits."""
        if self._given is not None:
            self._pending.append((self.steps, self._given, self._clock.stamp()))
            self._given = None
        self._settle()
        # Stamped anew: a wait of microseconds should not be doubled by its own observation.
        self._asked, self._asking_since = self._clock.stamp(), time.perf_counter()
        self.asking = True

    def give(self) -> None:
        """Note that the training thread has its batch."""
        now = self._clock.stamp()
        self.asking = False
        self._pending.append((self.waits, self._asked, now))
        self._given, self._marked = now, None
        if self._first_given is None:
            self._first_given = now

    @property
    def waiting(self) -> float:
        """Seconds of waits for batches that have not come: the one that is going on, and those that were broken off.

        The one for the first batch is none of them: it holds all of a start.
        """
        return self._in_vain + (time.perf_counter() - self._asking_since if self._is_late else 0.0)

    @property
    def _is_late(self) -> bool:
        return self.asking and self._first_given is not None

    def break_off(self) -> None:
        """Note that the training thread was torn away while it waited."""
        if self._is_late:
            self._in_vain += time.perf_counter() - self._asking_since
        self.asking = False

    def leave(self) -> None:
        """Note that the step is over and something else begins, which is neither a step nor a wait."""
        if self._given is not None:
            self._pending.append((self.steps, self._given, self._clock.stamp()))
            self._given = None

    def mark(self) -> None:
        """Note that a step seems over; counts if no batch is asked for after it, as at the end of Keras' epochs."""
        self._marked = self._clock.stamp()

    def end(self) -> None:
        """Note that the epoch is over: what comes until the next `ask` is neither waiting nor stepping."""
        self.asking = False
        if self._given is not None and self._marked is not None:
            self._pending.append((self.steps, self._given, self._marked))
        self._given = self._marked = None
        self._settle()

    def _settle(self) -> None:
        while self._pending and self._clock.known(self._pending[0][2]):
            kind, start, stop = self._pending.popleft()
            seconds = self._clock.seconds(start, stop)
            if kind is self.waits:
                self._waited = seconds
            elif self.until_first_step is None:
                self.until_first_step = self._clock.seconds(self._first_given, stop)
            else:
                self._on_iteration(self._waited + seconds)
            kind.add(seconds)
