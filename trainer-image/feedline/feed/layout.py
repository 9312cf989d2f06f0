"""Where the batches of each array lie in the memory of a slot, so that every batch starts on a boundary. Pure."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.feed.slots import aligned
from feedline.files import Array
from feedline.native import Conversion
from feedline.transforms import ArraySpec

Take = Callable[[Array, NDArray[np.intp], NDArray[np.uint8]], None]
"""Copies rows of an array to ``[rows, row_bytes]`` uint8."""


@dataclass(frozen=True)
class Layout:
    """Where the batches of one array lie in a slot's memory."""

    spec: ArraySpec
    offset: int
    stride: int
    batch_bytes: int
    batch_strides: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        """Whether batches lie together."""
        return self.stride == self.batch_bytes

    def view(self, memory: NDArray[np.uint8], batches: int, batch_rows: int) -> NDArray[Any]:
        """Return the batches in a slot's memory, ``[batches, batch_rows, *row_shape]``."""
        shape = (batches, batch_rows, *self.spec.row_shape)
        return np.ndarray(shape, self.spec.dtype, memory, self.offset, (self.stride, *self.batch_strides))

    def fill(
        self,
        memory: NDArray[np.uint8],
        rows: NDArray[np.intp],
        batch_rows: int,
        array: Array,
        take: Take,
        conversion: Conversion | None = None,
    ) -> float:
        """Have rows of an array, those of one batch after the other, copied to a slot's memory.

        Returns
        -------
        float
            Seconds of the conversion to what they are there.
        """
        row_bytes, seconds = self.spec.row_bytes, 0.0
        step = len(rows) if self.contiguous else batch_rows
        for batch, begin in enumerate(range(0, len(rows), step)):
            part = rows[begin : begin + step]
            start = self.offset + batch * self.stride
            out = memory[start : start + len(part) * row_bytes]
            # Of narrower numbers, to the end of where they are to be: from there they are converted in place.
            stored = out[len(part) * (row_bytes - array.row_bytes) :]
            take(array, part, stored.reshape(len(part), array.row_bytes))
            if conversion is not None:
                began = time.perf_counter()
                conversion.apply(out)
                seconds += time.perf_counter() - began
        return seconds


def batch_bytes(specs: Mapping[str, ArraySpec], batch_rows: int) -> int:
    """Return the bytes of a batch in a slot."""
    return sum(aligned(batch_rows * spec.row_bytes) for spec in specs.values())


def layouts(specs: Mapping[str, ArraySpec], batch_rows: int, batches: int) -> Iterator[tuple[str, Layout]]:
    """Lay the arrays out one after the other; batches of an array lie together where each then starts aligned."""
    offset = 0
    for name, spec in specs.items():
        batch_bytes = batch_rows * spec.row_bytes
        strides = np.empty((2, *spec.row_shape), spec.dtype).strides
        yield name, Layout(spec, offset, aligned(batch_bytes), batch_bytes, strides)
        offset += aligned(batch_bytes) * batches
