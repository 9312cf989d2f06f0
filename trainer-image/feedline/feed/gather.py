"""Threads that copy the rows of coming batches into slots, a bounded way ahead of whoever takes them.

Slots are claimed in the order of steps and handed out in that order, whichever thread is done first, so that any
number of threads gives the same batches. Threads and consumer meet only in two queues written in C: a condition
variable would cost more than copying a small slot. The threads hold no reference to the `Feed`; they end with
`close`. Nothing here knows what a batch becomes.
"""

import _thread
import contextlib
import resource
import threading
import time
from queue import Empty, SimpleQueue

from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.feed.ahead import LookAhead
from feedline.feed.claims import Claim, Claims, Failed, Position, Slot, Work
from feedline.feed.filling import Filling
from feedline.feed.layout import Take, batch_bytes
from feedline.feed.orders import Orders
from feedline.feed.room import require_room
from feedline.feed.slots import Allocate, Pool
from feedline.files import Array, Arrays
from feedline.limits import memory_bytes
from feedline.order import Blocks, Draw, Phases, Plan, Shuffle, is_computed
from feedline.paging import Choice
from feedline.transforms import Chain
from feedline.units import size

SLOT_BYTES = 8 << 20
"""Small batches share a slot of about this size: big enough that a hand-over between threads costs nothing against
the copy, small enough that a few slots fit the last-level cache."""

_LOOK_UP_SECONDS = 1.0
"""How often a consumer that waits looks up: a signal that comes just before it falls asleep wakes nobody, and would
be handled when the next slot comes, which from a dead storage is never."""

_LAUNCH_SECONDS = 5.0
"""What starting the threads is waited for at most before they are joined; it takes less than a millisecond."""


class Gatherer:
    """Fills slots ahead of need.

    Parameters
    ----------
    arrays, chain
        What to gather, and what becomes of it.
    plan, shuffle, seed, draw, epochs
        In which order; `epochs` None goes on for ever.
    threads
        Number of threads, at least 1.
    prefetch
        Batches to keep ready, rounded up to whole slots, at least one slot for each thread.
    read_ahead
        Batches, beyond the slot that is filled, whose rows are brought into memory; None takes what there is room for.
    allocate
        Makes the memory of a slot.
    before
        Whose place it takes, to go on with its counts.

    Attributes
    ----------
    work
        What filling all slots took that were handed out.
    own_bytes
        Memory that slots, orders and rows on their way take.
    is_torn
        Whether the consumer is in the middle of a call, or an exception ended one there: then it can only be closed.
    """

    def __init__(
        self,
        arrays: Arrays,
        chain: Chain,
        plan: Plan,
        shuffle: Shuffle | Blocks,
        seed: int,
        draw: Draw | None,
        epochs: int | None,
        threads: int,
        prefetch: int,
        read_ahead: int | None,
        allocate: Allocate,
        before: "Gatherer | None" = None,
    ) -> None:
        self._arrays = arrays
        batch_rows = plan.local_batch_size
        bytes_of_batch = batch_bytes(chain.specs, batch_rows)
        # What is stored may be more than what becomes of it, and a function may take as long as a step.
        widest = max(bytes_of_batch, batch_rows * sum(array.row_bytes for array in arrays.values()))
        self.batches_per_slot = 1 if chain.has_functions else max(1, min(SLOT_BYTES // widest, plan.steps))
        self.capacity = max(-(-prefetch // self.batches_per_slot), threads) + 1
        phases = None if arrays.segments is None else Phases(*arrays.segments)
        self._claims = Claims(plan, self.batches_per_slot, epochs)
        self._orders = Orders(plan, shuffle, seed, draw, phases)
        memory = memory_bytes()
        self._ahead: LookAhead | None = None
        self._take: Take = Array.take
        if arrays.residency in ("auto", "read"):
            self._ahead = LookAhead(
                arrays,
                plan,
                shuffle,
                self._claims,
                self._orders,
                # What was drawn may come again, and what comes elsewhere in the next epoch is no run of rows.
                is_once=shuffle != "full" and draw is None and phases is None,
                read_ahead=read_ahead,
                capacity=self.capacity,
                memory=memory,
            )
            self._take = self._ahead.pagein.take
        self._filling = Filling(arrays, chain, batch_rows, self.batches_per_slot)
        # In use besides the filled ones: a slot in each thread's hands, one at the consumer, one it is letting go.
        slots, slot_bytes = self.capacity + threads + 2, bytes_of_batch * self.batches_per_slot
        own = {
            f"{slots} slots of {size(slot_bytes)}": slots * slot_bytes,
            "two orders": 0 if is_computed(shuffle, plan.rows) else 2 * plan.rows * (4 if plan.rows <= 2**32 else 8),
            "what is drawn for them": 0 if draw is None else 2 * plan.rows * 4 + draw.cumulative.nbytes,
            "rows on their way": self._ahead.bytes_on_the_way if self._ahead else 0,
            "what is transformed": threads * self._filling.bytes_on_the_way,
            "small arrays": self._ahead.pagein.kept_bytes if self._ahead else 0,
        }
        require_room(memory, own, shuffle)
        self.own_bytes = sum(own.values())
        self._pool = Pool(slot_bytes, slots, allocate)
        # A True for every slot that may be claimed, None to see that another place is wanted, False to end.
        self._room: SimpleQueue[bool | None] = SimpleQueue()
        self._done: SimpleQueue[Slot | Failed | BaseException | None] = SimpleQueue()  # None when closed
        self._claiming = threading.Lock()  # never the consumer's: an exception from outside would leave it locked
        self._next_claim = self._first_claim = Claim(0, 0, Position(0, 0), 0)
        self._unclaimable = 0  # room that was found when no epoch was left
        self._wanted = self._next_claim  # the first claim of the newest generation, set by the consumer
        # The consumer's alone: which slot comes next, and those that were done before it.
        self._next_taken = self._wanted
        self._early: dict[int, Slot | Failed] = {}
        self.work: Work = Work() if before is None else before.work
        self._rows_from_disk_before = before.rows_from_disk if before is not None else 0
        self.is_torn = False
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"feedline-gather-{number}", daemon=True)
            for number in range(threads)
        ]
        self._started = self._launched = False

    @property
    def ready_batches(self) -> int:
        """Batches that wait to be taken, in whole slots."""
        slots = min(self.capacity, self._done.qsize() + len(self._early))
        return self._claims.batches_in(self._next_taken, slots)

    @property
    def most_batches(self) -> int:
        """Batches that may wait to be taken at this place of the run, in whole slots."""
        return self._claims.batches_in(self._next_taken, self.capacity)

    @property
    def choices(self) -> dict[str, Choice]:
        """How the rows of each mapped array come into memory, and why."""
        return {} if self._ahead is None else self._ahead.pagein.choices

    @property
    def rows_from_disk(self) -> int:
        """Rows that were not in memory when they came to be due."""
        return self._rows_from_disk_before + (0 if self._ahead is None else self._ahead.pagein.rows_from_disk)

    def seek(self, position: Position) -> None:
        """Go on from `position`; what was gathered ahead for another place is dropped."""
        if self._next_taken.position == position:
            return
        self.is_torn = True
        self._next_taken = self._wanted = Claim(self._wanted.generation + 1, 0, position, 0)
        room = len(self._early)
        self._early.clear()
        self._room.put(item=None)
        for _ in range(room):
            self._room.put(item=True)
        self.is_torn = False

    def take(self) -> Slot:
        """Return the next slot, waiting for it if need be; raise what a thread raised in its place."""
        self.is_torn = True
        if not self._started:
            self._start()
        expected = self._next_taken
        while (slot := self._early.pop(expected.number, None)) is None:
            done = None if self._closed else self._next_done()
            if done is None:
                raise UsageError("the feed is closed: make a new one")
            if isinstance(done, BaseException):
                raise done
            if done.claim.generation == expected.generation:
                self._early[done.claim.number] = done
            else:
                self._room.put(item=True)
        if isinstance(slot, Failed):
            raise slot.error
        self._next_taken = self._claims.after(slot.claim)
        self._room.put(item=True)
        self.work = self.work.plus(slot.work)
        self.is_torn = False
        return slot

    def _next_done(self) -> Slot | Failed | BaseException | None:
        while True:
            with contextlib.suppress(Empty):
                return self._done.get(timeout=_LOOK_UP_SECONDS)

    def _start(self) -> None:
        for _ in range(self.capacity):
            self._room.put(item=True)
        # One call, which an exception from outside comes before or after: in the midst of `Thread.start` it would be
        # lost in a RuntimeError of the condition there, and the thread listed as about to start for ever.
        self._started = bool(_thread.start_new_thread(self._launch, ()))

    def _launch(self) -> None:
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            told = (
                f"a thread of the feed cannot be started ({error}): raise the limit of processes, or take fewer threads"
            )
            self._done.put(EnvironmentInvalidError(told))
        self._launched = True

    def close(self) -> None:
        """End the threads and wait for them; called in one of them, by a garbage collection, do not wait.

        It takes no lock, since a collection may call it anywhere.
        """
        self._closed = True
        for _ in self._threads:
            self._room.put(item=False)
        due = time.monotonic() + _LAUNCH_SECONDS
        while self._started and not self._launched and time.monotonic() < due:
            time.sleep(1e-4)
        if threading.current_thread() not in self._threads:
            for thread in self._threads:
                if thread.is_alive():
                    thread.join()
        if self._ahead is not None:
            self._ahead.pagein.close()
        self._early.clear()
        with contextlib.suppress(Empty):
            while True:
                self._done.get_nowait()
        # After the rest, so that a consumer in another thread finds it, whatever it has taken before.
        self._done.put(None)

    def _work(self) -> None:
        """Fill slots until closed; the body of each thread."""
        try:
            while (may_claim := self._room.get()) is not False and not self._closed:
                claim = self._claim(may_claim is not None)
                if claim is not None:
                    self._done.put(self._filled_or_failed(claim))
                    # While the first batches are waited for, nobody needs the order of another epoch.
                    is_time = not self._claims.is_growing(claim) or self._room.empty()
                    if is_time and self._claims.is_due(claim.position.epoch + 1):
                        self._orders.prepare(claim.position.epoch + 1)
        except BaseException as error:  # noqa: BLE001 - it belongs to the consumer, whatever it is
            self._done.put(error)

    def _claim(self, may_claim: bool) -> Claim | None:  # noqa: FBT001 - not called by name anywhere
        """Return what to fill next; None where no epoch is left, or nothing may be filled."""
        with self._claiming:
            if self._wanted.generation > self._next_claim.generation:
                self._next_claim = self._first_claim = self._wanted
                room, self._unclaimable = self._unclaimable, 0
                for _ in range(room):
                    self._room.put(item=True)
            if not may_claim:
                return None
            following = self._next_claim
            if not self._claims.is_due(following.position.epoch):
                self._unclaimable += 1
                return None
            claim = self._claims.sized(following)
            self._next_claim = self._claims.after(claim)
            return claim

    def _filled_or_failed(self, claim: Claim) -> Slot | Failed:
        """Return the slot of a claim, or what was raised, which has its turn when that slot would have it."""
        try:
            return self._filled(claim)
        except BaseException as error:  # noqa: BLE001 - it belongs to the consumer, whatever it is
            return Failed(claim, error)

    def _filled(self, claim: Claim) -> Slot:
        """Return the slot of a claim."""
        started, faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_THREAD)
        if self._ahead is not None:
            self._ahead.look(claim, self._first_claim)
        rows = self._orders.rows(claim.position, claim.batches)
        memory = self._pool.take()
        self._arrays.verify()
        seconds = self._filling.fill(memory, claim, rows, self._take)
        self._arrays.verify()
        views = self._filling.views(memory, claim.batches, len(rows) // claim.batches)
        ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_THREAD)
        minor, major = after.ru_minflt - faults.ru_minflt, after.ru_majflt - faults.ru_majflt
        work = Work(ended - started, len(rows), minor, major, *seconds)
        if self._ahead is not None:
            self._ahead.pagein.faulted(work.major_faults, work.rows)
        return Slot(claim, views, work)
