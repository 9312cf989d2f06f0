"""The orders of the current and the next epoch, each computed once, by whichever thread needs it first."""

import threading

import numpy as np
from numpy.typing import NDArray

from feedline.feed.claims import Position
from feedline.order import Blocks, Draw, Order, Phases, Plan, Shuffle, order


class Orders:
    """The rows of every step.

    Parameters
    ----------
    plan, shuffle, seed, draw, phases
        Which rows make which batch.
    """

    def __init__(
        self,
        plan: Plan,
        shuffle: Shuffle | Blocks,
        seed: int,
        draw: Draw | None = None,
        phases: Phases | None = None,
    ) -> None:
        self._plan, self._shuffle, self._seed, self._draw, self._phases = plan, shuffle, seed, draw, phases
        self._known: dict[int, Order] = {}
        self._computing = threading.Lock()

    def rows(self, position: Position, batches: int) -> NDArray[np.intp]:
        """Return the rows of `batches` consecutive steps on this rank, in order."""
        plan, known = self._plan, self.get(position.epoch)
        if plan.world == 1 or isinstance(self._shuffle, Blocks):
            start, stop = position.step * plan.batch_size, (position.step + batches) * plan.batch_size
            return known.rows(start, min(stop, plan.rows))[plan.rank :: plan.world]
        spans = [plan.span(position.step + number) for number in range(batches)]
        return np.concatenate([known.rows(start, stop) for start, stop in spans])

    def get(self, epoch: int) -> Order:
        """Return the order of `epoch`; only who needs one that is not known yet waits for it."""
        try:
            return self._known[epoch]
        except KeyError:
            with self._computing:
                return self._compute(epoch)

    def prepare(self, epoch: int) -> None:
        """Compute the order of a coming epoch, unless another thread is at it."""
        if epoch not in self._known and self._computing.acquire(blocking=False):
            try:
                self._compute(epoch)
            finally:
                self._computing.release()

    def _compute(self, epoch: int) -> Order:
        if epoch not in self._known:
            # Two at most: the one in use and the one ahead.
            for old in [each for each in self._known if each not in (epoch - 1, epoch + 1)]:
                del self._known[old]
            self._known[epoch] = order(self._plan.rows, self._shuffle, self._seed, epoch, self._draw, self._phases)
        return self._known[epoch]
