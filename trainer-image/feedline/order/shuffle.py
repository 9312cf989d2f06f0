"""Which rows make which batch: a pure function of seed, epoch, step, rank and world.

Invariant: for one seed and epoch every row comes at most once, and the rows of a step are the same set for every world
size. `version` changes when the order does.
"""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from feedline.order.blocks import BlockOrder, Blocks
from feedline.order.draw import Draw
from feedline.order.full import FullOrder
from feedline.order.keyed import FEWEST_ROWS, KeyedOrder
from feedline.order.permutation import permutation
from feedline.order.phases import Phases

Shuffle = Literal["full", "block", "none"]


class Order(Protocol):
    """The order of an epoch's rows."""

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """Return the rows from place `start` to `stop`."""

    def unmixed(self, start: int, stop: int, rank: int = 0, world: int = 1) -> NDArray[np.intp]:
        """Return what is to be in memory before places from `start` to `stop`: the rows, or a rank's blocks there."""


class _Drawn:
    """The order of rows that were drawn, in ascending order: that of as many rows, each of which stands for one."""

    def __init__(self, inner: Order, numbers: NDArray[np.unsignedinteger]) -> None:
        self._inner, self._numbers = inner, numbers

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        return self._numbers[self._inner.rows(start, stop)].astype(np.intp)

    def unmixed(self, start: int, stop: int, rank: int = 0, world: int = 1) -> NDArray[np.intp]:
        return self._numbers[self._inner.unmixed(start, stop, rank, world)].astype(np.intp)


class _Shifted:
    """The order of rows that are windows, which begin elsewhere in each epoch."""

    def __init__(self, inner: Order, phases: Phases, origins: NDArray[np.int64]) -> None:
        self._inner, self._phases, self._origins = inner, phases, origins

    def rows(self, start: int, stop: int) -> NDArray[np.intp]:
        return self._phases.places(self._inner.rows(start, stop), self._origins)

    def unmixed(self, start: int, stop: int, rank: int = 0, world: int = 1) -> NDArray[np.intp]:
        return self._phases.places(self._inner.unmixed(start, stop, rank, world), self._origins)


def version(shuffle: Shuffle | Blocks, rows: int) -> int:
    """Return the version of an order: a position that was saved in one of another version has no place in it.

    Block shuffle has its second: in the first every batch was of one window, which each rank had to read whole. A full
    shuffle of more than 2**26 rows has its third, which takes no memory.
    """
    if isinstance(shuffle, Blocks):
        return 2
    return 3 if _is_keyed(shuffle, rows) else 1


def is_computed(shuffle: Shuffle | Blocks, rows: int) -> bool:
    """Return whether an order takes no memory."""
    return shuffle == "none" or _is_keyed(shuffle, rows)


def _is_keyed(shuffle: Shuffle | Blocks, rows: int) -> bool:
    return shuffle == "full" and rows >= FEWEST_ROWS


def order(
    rows: int, shuffle: Shuffle | Blocks, seed: int, epoch: int, draw: Draw | None = None, phases: Phases | None = None
) -> Order:
    """Return the order of an epoch, of as many rows as there are or as are drawn."""
    if phases is not None:
        return _Shifted(order(rows, shuffle, seed, epoch, draw), phases, phases.origins(seed, epoch))
    if draw is not None:
        return _Drawn(order(rows, shuffle, seed, epoch), draw.numbers(seed, epoch))
    if isinstance(shuffle, Blocks):
        return BlockOrder(rows, seed, epoch, shuffle)
    if _is_keyed(shuffle, rows):
        return KeyedOrder(rows, seed, epoch)
    return FullOrder(permutation(rows, seed, epoch) if shuffle == "full" else None)
