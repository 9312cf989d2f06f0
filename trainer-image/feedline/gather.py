"""Threads that copy the rows of coming batches into slots, a bounded way ahead of whoever takes them.

Slots are claimed in the order of steps and handed out in that order, whichever thread is done first, so that any
number of threads gives the same batches. The threads hold no reference to the `Feed`; they end with `close`.
Nothing here knows what a batch becomes.
"""

import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.arrays import Array, Arrays
from feedline.errors import UsageError
from feedline.order import Plan, Shuffle, order
from feedline.slots import Allocate, Pool, aligned

SLOT_BYTES = 4 << 20
"""Small batches share a slot of about this size: big enough that a hand-over between threads costs nothing against
the copy, small enough that a few slots fit the last-level cache."""


@dataclass(frozen=True)
class Position:
    """A place in the run: the next step of an epoch."""

    epoch: int
    step: int


@dataclass(frozen=True)
class Slot:
    """Consecutive batches of one epoch: for each array ``[batches, batch_size, *row_shape]``."""

    position: Position
    batches: int
    views: tuple[NDArray[Any], ...]


@dataclass
class Counters:
    """What the threads did so far."""

    busy_seconds: float = 0.0
    rows: int = 0
    minor_faults: int = 0
    major_faults: int = 0


@dataclass(frozen=True)
class _Layout:
    """Where the batches of one array lie in a slot's memory."""

    array: Array
    offset: int
    stride: int
    batch_bytes: int
    batch_strides: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        return self.stride == self.batch_bytes

    def view(self, memory: NDArray[np.uint8], batches: int, batch_rows: int) -> NDArray[Any]:
        shape = (batches, batch_rows, *self.array.row_shape)
        return np.ndarray(shape, self.array.dtype, memory, self.offset, (self.stride, *self.batch_strides))

    def fill(self, memory: NDArray[np.uint8], rows: NDArray[np.intp], batch_rows: int) -> None:
        row_bytes = self.array.row_bytes
        step = len(rows) if self.contiguous else batch_rows
        for batch, begin in enumerate(range(0, len(rows), step)):
            part = rows[begin : begin + step]
            start = self.offset + batch * self.stride
            out = memory[start : start + len(part) * row_bytes].reshape(len(part), row_bytes)
            self.array.take(part, out)


@dataclass
class _State:
    """What the threads and the consumer share; guarded by `changed`."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    next_claim: Position = Position(0, 0)
    next_take: Position = Position(0, 0)
    claimed: int = 0
    taken: int = 0
    generation: int = 0
    ready: dict[int, Slot] = field(default_factory=dict)
    error: BaseException | None = None
    closed: bool = False


class Gatherer:
    """Fills slots ahead of need.

    Parameters
    ----------
    arrays, plan, shuffle, seed, epochs
        What to gather and in which order; `epochs` None goes on for ever.
    threads
        Number of threads, at least 1.
    prefetch
        Batches to keep ready, rounded up to whole slots, at least one slot for each thread.
    allocate
        Makes the memory of a slot.
    """

    def __init__(
        self,
        arrays: Arrays,
        plan: Plan,
        shuffle: Shuffle,
        seed: int,
        epochs: int | None,
        threads: int,
        prefetch: int,
        allocate: Allocate,
    ) -> None:
        self._arrays, self._plan, self._epochs = arrays, plan, epochs
        self._orders = _Orders(plan.rows, shuffle, seed)
        batch_rows = plan.local_batch_size
        batch_bytes = sum(aligned(batch_rows * array.row_bytes) for array in arrays.values())
        self.batches_per_slot = max(1, min(SLOT_BYTES // batch_bytes, plan.steps))
        self.capacity = max(-(-prefetch // self.batches_per_slot), threads) + 1
        self._layouts = tuple(_layouts(arrays, batch_rows, self.batches_per_slot))
        # In use besides the filled ones: a slot in each thread's hands, one at the consumer, one it is letting go.
        self._pool = Pool(batch_bytes * self.batches_per_slot, self.capacity + threads + 2, allocate)
        self._state = _State()
        self.counters = Counters()
        self._threads = [
            threading.Thread(target=self._work, name=f"feedline-gather-{number}", daemon=True)
            for number in range(threads)
        ]
        self._started = False

    @property
    def ready_batches(self) -> int:
        """Batches that wait to be taken."""
        with self._state.changed:
            return sum(slot.batches for slot in self._state.ready.values())

    def seek(self, position: Position) -> None:
        """Go on from `position`; what was gathered ahead for another place is dropped."""
        state = self._state
        with state.changed:
            if state.next_take != position:
                state.generation += 1
                state.ready.clear()
                state.taken = state.claimed
                state.next_take = state.next_claim = position
                state.changed.notify_all()

    def take(self) -> Slot:
        """Return the next slot, waiting for it if need be; raise what a thread raised."""
        state = self._state
        with state.changed:
            if not self._started:
                self._started = True
                for thread in self._threads:
                    thread.start()
            while state.taken not in state.ready:
                if state.error is not None:
                    raise state.error
                if state.closed:
                    raise UsageError("the feed is closed: make a new one")
                state.changed.wait()
            slot = state.ready.pop(state.taken)
            state.taken += 1
            state.next_take = self._after(slot.position, slot.batches)
            state.changed.notify_all()
            return slot

    def close(self) -> None:
        """End the threads and wait for them; called in one of them, by a garbage collection, do not wait."""
        state = self._state
        with state.changed:
            state.closed = True
            state.ready.clear()
            state.changed.notify_all()
        if threading.current_thread() not in self._threads:
            for thread in self._threads:
                if thread.is_alive():
                    thread.join()

    def _after(self, position: Position, batches: int) -> Position:
        step = position.step + batches
        return Position(position.epoch, step) if step < self._plan.steps else Position(position.epoch + 1, 0)

    def _work(self) -> None:
        """Fill slots until closed; the body of each thread."""
        try:
            while (claim := self._claim()) is not None:
                self._fill(*claim)
        except BaseException as error:  # noqa: BLE001 - it belongs to the consumer, whatever it is
            with self._state.changed:
                self._state.error = self._state.error or error
                self._state.closed = True
                self._state.changed.notify_all()

    def _claim(self) -> tuple[int, int, Position, int] | None:
        """Wait for room and return generation, number, position and batches of the next slot; None when closed."""
        state = self._state
        with state.changed:
            while not state.closed:
                position = state.next_claim
                more = self._epochs is None or position.epoch < self._epochs
                if more and state.claimed - state.taken < self.capacity:
                    full = self._plan.rows // self._plan.batch_size
                    batches = min(self.batches_per_slot, full - position.step) if position.step < full else 1
                    state.next_claim = self._after(position, batches)
                    state.claimed += 1
                    return state.generation, state.claimed - 1, position, batches
                state.changed.wait()
        return None

    def _fill(self, generation: int, number: int, position: Position, batches: int) -> None:
        started, faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_THREAD)
        rows = self._rows(position, batches)
        batch_rows = len(rows) // batches
        memory = self._pool.take()
        self._arrays.verify()
        for layout in self._layouts:
            layout.fill(memory, rows, batch_rows)
        self._arrays.verify()
        slot = Slot(position, batches, tuple(layout.view(memory, batches, batch_rows) for layout in self._layouts))
        busy, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_THREAD)
        with self._state.changed:
            self.counters.busy_seconds += busy
            self.counters.rows += len(rows)
            self.counters.minor_faults += after.ru_minflt - faults.ru_minflt
            self.counters.major_faults += after.ru_majflt - faults.ru_majflt
            if generation == self._state.generation:
                self._state.ready[number] = slot
                self._state.changed.notify_all()
        self._orders.prepare(position.epoch + 1, self._epochs)

    def _rows(self, position: Position, batches: int) -> NDArray[np.intp]:
        """Return the rows of `batches` consecutive steps on this rank, in order."""
        plan, order = self._plan, self._orders.get(position.epoch)
        spans = [plan.span(position.step + number) for number in range(batches)]
        if plan.world == 1:
            spans = [(spans[0][0], spans[-1][1])]
        if order is None:
            return np.concatenate([np.arange(start, stop) for start, stop in spans])
        return np.concatenate([order[start:stop] for start, stop in spans]).astype(np.intp)


class _Orders:
    """The orders of the current and the next epoch, each computed once, by whichever thread needs it first."""

    def __init__(self, rows: int, shuffle: Shuffle, seed: int) -> None:
        self._arguments = (rows, shuffle, seed)
        self._known: dict[int, NDArray[np.unsignedinteger] | None] = {}
        self._computing = threading.Lock()

    def get(self, epoch: int) -> NDArray[np.unsignedinteger] | None:
        """Return the order of `epoch`; only who needs one that is not known yet waits for it."""
        try:
            return self._known[epoch]
        except KeyError:
            with self._computing:
                return self._compute(epoch)

    def prepare(self, epoch: int, epochs: int | None) -> None:
        """Compute the order of a coming epoch, unless another thread is at it."""
        if epoch in self._known or (epochs is not None and epoch >= epochs):
            return
        if self._computing.acquire(blocking=False):
            try:
                self._compute(epoch)
            finally:
                self._computing.release()

    def _compute(self, epoch: int) -> NDArray[np.unsignedinteger] | None:
        if epoch not in self._known:
            # Two at most: the one in use and the one ahead.
            for old in [each for each in self._known if each not in (epoch - 1, epoch + 1)]:
                del self._known[old]
            self._known[epoch] = order(*self._arguments, epoch)
        return self._known[epoch]


def _layouts(arrays: Arrays, batch_rows: int, batches: int) -> Iterator[_Layout]:
    """Lay the arrays out one after the other; batches of an array lie together where each then starts aligned."""
    offset = 0
    for array in arrays.values():
        batch_bytes = batch_rows * array.row_bytes
        strides = np.empty((2, *array.row_shape), array.dtype).strides
        yield _Layout(array, offset, aligned(batch_bytes), batch_bytes, strides)
        offset += aligned(batch_bytes) * batches
