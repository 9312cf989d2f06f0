"""Fills the memory of a slot: rows as they are stored, or what transforms make of them.

What no declared transform concerns is copied right to where it ends, and what compiled code converts is converted
there. The rest is taken in pieces; functions take whole batches.
"""

import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.feed.claims import Claim
from feedline.feed.layout import Take, layouts
from feedline.files import Array, Arrays
from feedline.transforms import Batch, Chain, Spent

_PIECE_BYTES: Final = 4 << 20
"""Each call of NumPy's gives the interpreter up and asks for it again: pieces that stay in a core's own cache (256 KiB)
were a quarter as fast by two threads, which waited for each other (2026-11)."""


class Filling:
    """How slots are filled.

    Parameters
    ----------
    arrays
        What is stored.
    chain
        What becomes of it.
    batch_rows, batches
        Rows of a batch, and batches of a slot; both may be fewer where there are no more.

    Attributes
    ----------
    bytes_on_the_way
        Memory of a thread between files and slots.
    """

    def __init__(self, arrays: Arrays, chain: Chain, batch_rows: int, batches: int) -> None:
        self._arrays, self._chain = arrays, chain
        self._layouts = dict(layouts(chain.specs, batch_rows, batches))
        # Small batches that lie together are one to a transform, which costs more to call than to let run.
        self._is_joined = not chain.has_functions and all(layout.contiguous for layout in self._layouts.values())
        self._piece = batch_rows
        if not chain.has_functions:
            self._piece = max(1, min(_PIECE_BYTES // chain.widest, batch_rows * batches))
        self.bytes_on_the_way = chain.bytes_of_row * self._piece

    def fill(self, memory: NDArray[np.uint8], claim: Claim, rows: NDArray[np.intp], take: Take) -> tuple[float, Spent]:
        """Fill a slot with the rows of its batches, one after the other.

        Returns
        -------
        float
            Seconds that transforms took.
        Spent
            Those of them in functions of the user's.
        """
        batch_rows, converted = len(rows) // claim.batches, self._chain.converted
        transforming, in_functions = 0.0, Spent()
        for name in (*self._chain.direct, *converted):
            layout, array = self._layouts[name], self._arrays[name]
            transforming += layout.fill(memory, rows, batch_rows, array, take, converted.get(name))
        if self._chain.is_empty:
            return transforming, in_functions
        batches, batch_rows = (1, len(rows)) if self._is_joined else (claim.batches, batch_rows)
        views = {name: layout.view(memory, batches, batch_rows) for name, layout in self._layouts.items()}
        for batch in range(batches):
            step = claim.position.step + batch
            for begin in range(0, batch_rows, self._piece):
                end = min(begin + self._piece, batch_rows)
                part = rows[batch * batch_rows + begin : batch * batch_rows + end]
                outs = {name: view[batch, begin:end] for name, view in views.items()}
                given = {name: outs[name] for name in (*self._chain.direct, *converted)}
                given |= {name: _taken(self._arrays[name], part, take) for name in self._chain.gathered}
                # A function may go by the order of its arrays, which is that of the files whoever has made them.
                given = {name: given[name] for name in self._arrays if name in given}
                began = time.perf_counter()
                in_functions = in_functions.plus(self._chain.apply(given, outs, part, claim.position.epoch, step))
                transforming += time.perf_counter() - began
        return transforming, in_functions

    def views(self, memory: NDArray[np.uint8], batches: int, batch_rows: int) -> tuple[NDArray[Any], ...]:
        """Return the batches of a slot, of each array ``[batches, batch_rows, *row_shape]``."""
        return tuple(layout.view(memory, batches, batch_rows) for layout in self._layouts.values())


def sample(arrays: Arrays, rows: int) -> tuple[Batch, NDArray[np.intp]]:
    """Return the first rows of each array as they are stored, and their numbers."""
    numbers = np.arange(min(rows, arrays.rows))
    return {name: _taken(array, numbers, Array.copy) for name, array in arrays.items()}, numbers


def _taken(array: Array, rows: NDArray[np.intp], take: Take) -> NDArray[Any]:
    """Return rows of an array, ``[n, *row_shape]``, in memory of their own."""
    values = np.empty((len(rows), *array.row_shape), array.dtype)
    take(array, rows, values.reshape(len(rows), -1).view(np.uint8))
    return values
