"""Reusable batch buffers: memory that starts on a 64-byte boundary and comes back when nobody holds it any more.

A slot's memory is reached only through its `Lease`, an owner at the bottom of every view. Whoever keeps a view of
any kind (an ndarray, a torch or TensorFlow tensor, a saved autograd input) keeps the lease, and with it the memory.
This module knows no rows, order or thread.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes. TensorFlow ends the process on a DLPack buffer that is not aligned to it."""

Allocate = Callable[[int], NDArray[np.uint8]]


def aligned(size: int) -> int:
    """Round `size` bytes up to a whole number of alignments."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def allocate(size: int) -> NDArray[np.uint8]:
    """Return `size` bytes of ordinary memory that start on a boundary."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    shift = -memory.__array_interface__["data"][0] % ALIGNMENT
    return memory[shift : shift + size]


class Lease:
    """Owner of a slot's memory while it is in use; when the last view is gone, the memory goes back to its pool.

    It is neither an ndarray nor a memoryview on purpose: numpy collapses chains of those, and the finalizer would
    run while views are still held.
    """

    __slots__ = ("__array_interface__", "__weakref__", "_free", "_memory")

    def __init__(self, memory: "_Memory", free: "deque[_Memory]") -> None:
        self._memory = memory
        self._free = free
        self.__array_interface__ = memory.interface

    def __del__(self) -> None:
        # Runs wherever the last reference dies, within a garbage collection too: it must take no lock.
        self._free.append(self._memory)


class _Memory:
    """A slot's memory with its address written out once: numpy makes it anew at every request."""

    __slots__ = ("interface", "memory")

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self.memory = memory
        self.interface = memory.__array_interface__


class Pool:
    """Slots of one size. A new one is made when all are held, so that taking one never waits."""

    def __init__(self, size: int, kept: int, allocate: Allocate = allocate) -> None:
        self._size = size
        self._allocate = allocate
        self._free: deque[_Memory] = deque(maxlen=kept)

    def take(self) -> NDArray[np.uint8]:
        """Return ``[size]`` uint8 whose memory is leased for as long as it or a view of it lives."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = _Memory(self._allocate(self._size))
        return np.asarray(Lease(memory, self._free))
