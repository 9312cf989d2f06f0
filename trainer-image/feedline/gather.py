"""Threads that copy the rows of coming batches into slots, a bounded way ahead of whoever takes them.

Slots are claimed in the order of steps and handed out in that order, whichever thread is done first, so that any
number of threads gives the same batches. Threads and consumer meet only in two queues written in C: a condition
variable would cost more than copying a small slot. The threads hold no reference to the `Feed`; they end with
`close`. Nothing here knows what a batch becomes.
"""

import contextlib
import resource
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedline.arrays import Array, Arrays
from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.governor import Choice, fits, slots_ahead
from feedline.limits import anonymous_bytes, memory_bytes
from feedline.order import Blocks, Order, Plan, Shuffle, order
from feedline.pagein import OnePass, PageIn
from feedline.slots import Allocate, Pool, aligned
from feedline.verdict import size

SLOT_BYTES = 8 << 20
"""Small batches share a slot of about this size: big enough that a hand-over between threads costs nothing against
the copy, small enough that a few slots fit the last-level cache."""


_ROOM_BYTES = 64 << 20
"""Page cache without which even what is read ahead would be gone before it is gathered, and what Python needs."""


class Position(NamedTuple):
    """A place in the run: the next step of an epoch."""

    epoch: int
    step: int


class Work(NamedTuple):
    """What filling one slot took, or all so far."""

    busy_seconds: float = 0.0
    rows: int = 0
    minor_faults: int = 0
    major_faults: int = 0

    def plus(self, other: "Work") -> "Work":
        """Return both together."""
        return Work(
            self.busy_seconds + other.busy_seconds,
            self.rows + other.rows,
            self.minor_faults + other.minor_faults,
            self.major_faults + other.major_faults,
        )


class Claim(NamedTuple):
    """Consecutive batches of one epoch that one thread gathers, the `number`-th since `generation` began."""

    generation: int
    number: int
    position: Position
    batches: int


class Slot(NamedTuple):
    """The gathered batches of a claim: for each array ``[batches, batch_size, *row_shape]``."""

    claim: Claim
    views: tuple[NDArray[Any], ...]
    work: Work


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

    def fill(self, memory: NDArray[np.uint8], rows: NDArray[np.intp], batch_rows: int, take: "_Take") -> None:
        row_bytes = self.array.row_bytes
        step = len(rows) if self.contiguous else batch_rows
        for batch, begin in enumerate(range(0, len(rows), step)):
            part = rows[begin : begin + step]
            start = self.offset + batch * self.stride
            out = memory[start : start + len(part) * row_bytes].reshape(len(part), row_bytes)
            take(self.array, part, out)


_Take = Callable[[Array, NDArray[np.intp], NDArray[np.uint8]], None]


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
    read_ahead
        Batches, beyond the slot that is filled, whose rows are brought into memory; None takes what there is room for.
    allocate
        Makes the memory of a slot.
    """

    def __init__(
        self,
        arrays: Arrays,
        plan: Plan,
        shuffle: Shuffle | Blocks,
        seed: int,
        epochs: int | None,
        threads: int,
        prefetch: int,
        read_ahead: int | None,
        allocate: Allocate,
    ) -> None:
        self._arrays, self._plan, self._epochs = arrays, plan, epochs
        self._orders = _Orders(plan.rows, shuffle, seed)
        batch_rows = plan.local_batch_size
        batch_bytes = sum(aligned(batch_rows * array.row_bytes) for array in arrays.values())
        self.batches_per_slot = max(1, min(SLOT_BYTES // batch_bytes, plan.steps))
        # Block shuffle brings whole blocks in, a window ahead, and has no need of them again when that is mixed.
        self._lead = min(shuffle.lead, plan.rows) if isinstance(shuffle, Blocks) else 0
        memory = memory_bytes()
        self.capacity = max(-(-prefetch // self.batches_per_slot), threads) + 1
        self._pagein, self._slots_ahead, self._one_pass = None, 0, False
        self._take: _Take = Array.take
        if arrays.residency in ("auto", "read"):
            self._slots_ahead = (
                slots_ahead(batch_rows * self.batches_per_slot, arrays, memory)
                if read_ahead is None
                else -(-read_ahead // self.batches_per_slot)
            )
            self._one_pass = shuffle != "full" and not fits(arrays.bytes, memory)
            self._pagein = PageIn(arrays, memory, self._once(shuffle) if self._one_pass else None)
            self._take = self._pagein.take
        self._layouts = tuple(_layouts(arrays, batch_rows, self.batches_per_slot))
        # In use besides the filled ones: a slot in each thread's hands, one at the consumer, one it is letting go.
        slots, slot_bytes = self.capacity + threads + 2, batch_bytes * self.batches_per_slot
        _require_room(
            memory,
            {
                f"{slots} slots of {size(slot_bytes)}": slots * slot_bytes,
                "two orders": 0 if shuffle == "none" else 2 * plan.rows * (4 if plan.rows <= 2**32 else 8),
                "rows on their way": self._pagein.bytes_on_the_way(2 * self._lead) if self._pagein else 0,
                "small arrays": self._pagein.kept_bytes if self._pagein else 0,
            },
            shuffle,
        )
        self._pool = Pool(slot_bytes, slots, allocate)
        self._room: SimpleQueue[bool] = SimpleQueue()  # a True for every slot that may be claimed, False to end
        self._done: SimpleQueue[Slot | BaseException | None] = SimpleQueue()  # None when closed
        self._claiming = threading.Lock()
        self._next_claim = self._first_claim = Claim(0, 0, Position(0, 0), 0)
        self._looking = threading.Lock()
        self._next_look = Claim(-1, 0, Position(0, 0), 0)  # the first claim that was not yet looked ahead to
        self._unclaimable = 0  # room that was found when no epoch was left
        # The consumer's alone: which slot comes next, and those that were done before it.
        self._next_taken = self._next_claim
        self._early: dict[int, Slot] = {}
        self.work = Work()
        self._closed = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"feedline-gather-{number}", daemon=True)
            for number in range(threads)
        ]
        self._started = False

    @property
    def ready_batches(self) -> int:
        """Batches that wait to be taken, in whole slots."""
        return min(self.capacity, self._done.qsize() + len(self._early)) * self.batches_per_slot

    @property
    def choices(self) -> dict[str, Choice]:
        """How the rows of each mapped array come into memory, and why."""
        return {} if self._pagein is None else self._pagein.choices

    @property
    def rows_from_disk(self) -> int:
        """Rows that were not in memory when they came to be due."""
        return 0 if self._pagein is None else self._pagein.rows_from_disk

    def seek(self, position: Position) -> None:
        """Go on from `position`; what was gathered ahead for another place is dropped."""
        if self._next_taken.position == position:
            return
        with self._claiming:
            self._next_claim = self._first_claim = Claim(self._next_claim.generation + 1, 0, position, 0)
            room, self._unclaimable = self._unclaimable, 0
        self._next_taken = self._next_claim
        room += len(self._early)
        self._early.clear()
        for _ in range(room):
            self._room.put(item=True)

    def take(self) -> Slot:
        """Return the next slot, waiting for it if need be; raise what a thread raised."""
        if not self._started:
            self._start()
        expected = self._next_taken
        while (slot := self._early.pop(expected.number, None)) is None:
            if self._error is not None:
                raise self._error
            done = None if self._closed else self._done.get()
            if done is None:
                raise UsageError("the feed is closed: make a new one")
            if isinstance(done, BaseException):
                self._error = done
                raise done
            if done.claim.generation == expected.generation:
                self._early[done.claim.number] = done
            else:
                self._room.put(item=True)
        self._next_taken = self._after(slot.claim)
        self._room.put(item=True)
        self.work = self.work.plus(slot.work)
        return slot

    def _start(self) -> None:
        self._started = True
        for _ in range(self.capacity):
            self._room.put(item=True)
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End the threads and wait for them; called in one of them, by a garbage collection, do not wait.

        It takes no lock, since a collection may call it anywhere.
        """
        self._closed = True
        for _ in self._threads:
            self._room.put(item=False)
        if threading.current_thread() not in self._threads:
            for thread in self._threads:
                if thread.is_alive():
                    thread.join()
        if self._pagein is not None:
            self._pagein.close()
        self._early.clear()
        with contextlib.suppress(Empty):
            while True:
                self._done.get_nowait()
        # After the rest, so that a consumer in another thread finds it, whatever it has taken before.
        self._done.put(None)

    def _after(self, claim: Claim) -> Claim:
        """Return the claim that follows, its batches not yet decided."""
        epoch, step = claim.position.epoch, claim.position.step + claim.batches
        position = Position(epoch, step) if step < self._plan.steps else Position(epoch + 1, 0)
        return Claim(claim.generation, claim.number + 1, position, 0)

    def _work(self) -> None:
        """Fill slots until closed; the body of each thread."""
        try:
            while self._room.get() and not self._closed:
                claim = self._claim()
                if claim is not None:
                    self._done.put(self._filled(claim))
                    self._orders.prepare(claim.position.epoch + 1, self._epochs)
        except BaseException as error:  # noqa: BLE001 - it belongs to the consumer, whatever it is
            self._done.put(error)

    def _claim(self) -> Claim | None:
        """Return what to fill next; None where no epoch is left."""
        with self._claiming:
            following = self._next_claim
            if self._epochs is not None and following.position.epoch >= self._epochs:
                self._unclaimable += 1
                return None
            claim = self._sized(following)
            self._next_claim = self._after(claim)
            return claim

    def _look_ahead(self, claim: Claim) -> None:
        """Have the rows of a claim and of some that follow brought in, unless another thread is at it.

        Rows that come once are waited for: one that nobody brought in would be read by itself.
        """
        look = self._next_look
        is_seen = look.generation == claim.generation and look.number > claim.number
        if self._pagein is None or not self._looking.acquire(blocking=self._one_pass and not is_seen):
            return
        try:
            look = self._next_look
            if look.generation != claim.generation:
                look = self._first_claim
            elif look.number < claim.number and not self._lead and not self._one_pass:
                # What was claimed meanwhile is being read. Blocks that nobody told of would come row by row, and rows
                # that are let go are let go at a look.
                look = claim
            while look.generation == claim.generation and look.number <= claim.number + self._slots_ahead:
                # No more than two orders are kept.
                if look.position.epoch > claim.position.epoch + 1 or not self._is_due(look.position.epoch):
                    break
                look = self._sized(look)
                self._pagein.ahead(partial(self._coming, look, claim))
                if self._one_pass:
                    self._let_go(look)
                look = self._next_look = self._after(look)
        finally:
            self._looking.release()

    def _once(self, shuffle: Shuffle | Blocks) -> OnePass:
        """Return how rows come once: what a look brings in is gathered when all claims before it are."""
        slots, plan = self._slots_ahead + 1 + self.capacity, self._plan
        if isinstance(shuffle, Blocks):
            rows = 2 * self._lead + slots * self.batches_per_slot * plan.batch_size
            return OnePass(shuffle.rows, min(rows, plan.rows))
        slot_rows = self.batches_per_slot * plan.local_batch_size
        return OnePass(slot_rows if plan.world == 1 else plan.local_batch_size, min(slots * slot_rows, plan.rows))

    def _is_due(self, epoch: int) -> bool:
        return self._epochs is None or epoch < self._epochs

    def _coming(self, look: Claim, claim: Claim) -> NDArray[np.intp]:
        """Return the rows to bring in at a look: those of its slot, or of the blocks that begin a window further on."""
        if not self._lead:
            return self._rows(look.position, look.batches)
        epoch, rows = look.position.epoch, self._plan.rows
        start = look.position.step * self._plan.batch_size
        stop = start + look.batches * self._plan.batch_size + self._lead
        # The first look takes its own window as well. At the start of an epoch the last one saw rows that are dropped.
        start += -self._lead if look.number == 0 else self._lead - (0 if start else self._plan.batch_size)
        found = [self._orders.get(epoch).unmixed(max(0, start), min(stop, rows))]
        if stop > rows and epoch <= claim.position.epoch and self._is_due(epoch + 1):
            found.append(self._orders.get(epoch + 1).unmixed(max(0, start - rows), stop - rows))
        return np.concatenate(found)

    def _let_go(self, look: Claim) -> None:
        """Let go of rows that were gathered long ago, by threads that may still be at work on slots before this one."""
        slot = self.batches_per_slot * self._plan.batch_size
        stop = look.position.step * self._plan.batch_size - self._lead - slot * (self._slots_ahead + self.capacity)
        if stop > 0 and self._pagein is not None:
            rows = self._orders.get(look.position.epoch).unmixed(max(0, stop - slot), stop)
            if len(rows):
                self._pagein.let_go(rows)

    def _sized(self, claim: Claim) -> Claim:
        """Return a claim with its number of batches; a smaller last batch has a slot of its own."""
        step, full = claim.position.step, self._plan.rows // self._plan.batch_size
        return claim._replace(batches=min(self.batches_per_slot, full - step) if step < full else 1)

    def _filled(self, claim: Claim) -> Slot:
        """Return the slot of a claim."""
        started, faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_THREAD)
        self._look_ahead(claim)
        rows = self._rows(claim.position, claim.batches)
        batch_rows = len(rows) // claim.batches
        memory = self._pool.take()
        self._arrays.verify()
        for layout in self._layouts:
            layout.fill(memory, rows, batch_rows, self._take)
        self._arrays.verify()
        views = tuple(layout.view(memory, claim.batches, batch_rows) for layout in self._layouts)
        ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_THREAD)
        work = Work(ended - started, len(rows), after.ru_minflt - faults.ru_minflt, after.ru_majflt - faults.ru_majflt)
        if self._pagein is not None:
            self._pagein.faulted(work.major_faults, work.rows)
        return Slot(claim, views, work)

    def _rows(self, position: Position, batches: int) -> NDArray[np.intp]:
        """Return the rows of `batches` consecutive steps on this rank, in order."""
        plan, order = self._plan, self._orders.get(position.epoch)
        if plan.world == 1:
            spans = [(plan.span(position.step)[0], plan.span(position.step + batches - 1)[1])]
        else:
            spans = [plan.span(position.step + number) for number in range(batches)]
        return np.concatenate([order.rows(start, stop) for start, stop in spans])


class _Orders:
    """The orders of the current and the next epoch, each computed once, by whichever thread needs it first."""

    def __init__(self, rows: int, shuffle: Shuffle | Blocks, seed: int) -> None:
        self._arguments = (rows, shuffle, seed)
        self._known: dict[int, Order] = {}
        self._computing = threading.Lock()

    def get(self, epoch: int) -> Order:
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

    def _compute(self, epoch: int) -> Order:
        if epoch not in self._known:
            # Two at most: the one in use and the one ahead.
            for old in [each for each in self._known if each not in (epoch - 1, epoch + 1)]:
                del self._known[old]
            self._known[epoch] = order(*self._arguments, epoch)
        return self._known[epoch]


def _require_room(memory: int, own: dict[str, int], shuffle: Shuffle | Blocks) -> None:
    """Refuse a feed for which the memory is too small, with the arithmetic: the kernel would end the process."""
    parts = {"this process": anonymous_bytes(), **own, "room to work": _ROOM_BYTES}
    needed = sum(parts.values())
    if needed > memory:
        told = ", ".join(f"{size(part)} for {name}" for name, part in parts.items() if part)
        lower = (
            "loader.shuffle.window or loader.batchSize"
            if isinstance(shuffle, Blocks)
            else "loader.batchSize or loader.prefetchBatches"
        )
        raise EnvironmentInvalidError(
            f"the feed takes {size(needed)} of memory, and the limit is {size(memory)}: {told}: "
            f"raise resources.memory, or lower {lower}"
        )


def _layouts(arrays: Arrays, batch_rows: int, batches: int) -> Iterator[_Layout]:
    """Lay the arrays out one after the other; batches of an array lie together where each then starts aligned."""
    offset = 0
    for array in arrays.values():
        batch_bytes = batch_rows * array.row_bytes
        strides = np.empty((2, *array.row_shape), array.dtype).strides
        yield _Layout(array, offset, aligned(batch_bytes), batch_bytes, strides)
        offset += aligned(batch_bytes) * batches
