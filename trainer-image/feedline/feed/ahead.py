"""Has the rows of coming claims brought into memory, a bounded way ahead of the slots that are being filled.

What is coming is known; whether and how rows are brought in is decided by `feedline.paging`. Nothing here copies a row.
"""

import threading
from functools import partial

import numpy as np
from numpy.typing import NDArray

from feedline.feed.claims import Claim, Claims, Position
from feedline.feed.orders import Orders
from feedline.files import Arrays
from feedline.order import Blocks, Plan, Shuffle
from feedline.paging import OnePass, PageIn, fits, slots_ahead


class LookAhead:
    """Looks at claims before they are filled.

    Parameters
    ----------
    arrays, plan, shuffle
        What is gathered, and in which order.
    claims, orders
        What comes after a claim, and the rows of it.
    read_ahead
        Batches, beyond the slot that is filled, whose rows are brought into memory; None takes what there is room for.
    capacity
        Slots that can be filled or waiting at once.
    memory
        Bytes that this process may use.

    Attributes
    ----------
    pagein
        How rows come from their files into slots.
    """

    def __init__(
        self,
        arrays: Arrays,
        plan: Plan,
        shuffle: Shuffle | Blocks,
        claims: Claims,
        orders: Orders,
        *,
        is_once: bool,
        read_ahead: int | None,
        capacity: int,
        memory: int,
    ) -> None:
        self._plan, self._claims, self._orders, self._capacity = plan, claims, orders, capacity
        # Block shuffle brings whole blocks in, of which as many places later no row is left to take.
        self._lead, self._part = 0, 1
        if isinstance(shuffle, Blocks):
            self._lead, self._part = min(shuffle.lead, plan.rows), shuffle.part(plan.rows, plan.world)
        self._slots = (
            slots_ahead(plan.local_batch_size * claims.batches_per_slot, arrays, memory)
            if read_ahead is None
            else -(-read_ahead // claims.batches_per_slot)
        )
        self._one_pass = is_once and not fits(arrays.bytes, memory)
        self.pagein = PageIn(arrays, memory, self._once(shuffle) if self._one_pass else None)
        self._looking = threading.Lock()
        self._next = Claim(-1, 0, Position(0, 0), 0)  # the first claim that was not yet looked ahead to

    @property
    def bytes_on_the_way(self) -> int:
        """Bytes of rows between files and slots, at most."""
        return self.pagein.bytes_on_the_way(2 * self._lead // self._part)

    def look(self, claim: Claim, first: Claim) -> None:
        """Have the rows of a claim and of some that follow brought in, unless another thread is at it.

        Rows that come once are waited for: one that nobody brought in would be read by itself.

        Parameters
        ----------
        claim
            What is filled now.
        first
            The first claim of its generation.
        """
        look = self._next
        is_seen = look.generation == claim.generation and look.number > claim.number
        if not self._looking.acquire(blocking=self._one_pass and not is_seen):
            return
        try:
            look = self._next
            if look.generation < claim.generation:
                look = first
            elif look.number < claim.number and not self._lead and not self._one_pass:
                # What was claimed meanwhile is being read. Blocks that nobody told of would come row by row, and rows
                # that are let go are let go at a look.
                look = claim
            while look.generation == claim.generation and look.number <= claim.number + self._slots:
                # No more than two orders are kept.
                if look.position.epoch > claim.position.epoch + 1 or not self._claims.is_due(look.position.epoch):
                    break
                look = self._claims.sized(look)
                self.pagein.ahead(partial(self._coming, look))
                if self._one_pass:
                    self._let_go(look)
                look = self._next = self._claims.after(look)
        finally:
            self._looking.release()

    def _once(self, shuffle: Shuffle | Blocks) -> OnePass:
        """Return how rows come once: what a look brings in is gathered when all claims before it are."""
        slots, plan, batches = self._slots + 1 + self._capacity, self._plan, self._claims.batches_per_slot
        if isinstance(shuffle, Blocks):
            rows = 2 * self._lead + slots * batches * plan.batch_size
            return OnePass(shuffle.rows, -(-min(rows, plan.rows) // self._part))
        slot_rows = batches * plan.local_batch_size
        return OnePass(slot_rows if plan.world == 1 else plan.local_batch_size, min(slots * slot_rows, plan.rows))

    def _coming(self, look: Claim) -> NDArray[np.intp]:
        """Return the rows to bring in at a look: those of its slot, or of the blocks that begin in it."""
        if not self._lead:
            return self._orders.rows(look.position, look.batches)
        plan = self._plan
        start = look.position.step * plan.batch_size
        stop = start + look.batches * plan.batch_size
        # The first look takes the blocks as well that have begun before it.
        start = max(0, start - self._lead) if look.number == 0 else start
        return self._orders.get(look.position.epoch).unmixed(start, stop, plan.rank, plan.world)

    def _let_go(self, look: Claim) -> None:
        """Let go of rows that were gathered long ago, by threads that may still be at work on slots before this one."""
        slot = self._claims.batches_per_slot * self._plan.batch_size
        stop = look.position.step * self._plan.batch_size - self._lead - slot * (self._slots + self._capacity)
        if stop > 0:
            rows = self._orders.get(look.position.epoch).unmixed(
                max(0, stop - slot), stop, self._plan.rank, self._plan.world
            )
            if len(rows):
                self.pagein.let_go(rows)
