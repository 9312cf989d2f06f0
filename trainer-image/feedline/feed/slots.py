"""Reusable batch buffers: memory that starts on a 64-byte boundary and comes back when nobody holds it any more.

A slot's memory is reached only through its `Lease`, an owner at the bottom of every view. Whoever keeps a view of
any kind (an ndarray, a torch or TensorFlow tensor, a saved autograd input) keeps the lease, and with it the memory.
This module knows no rows, order or thread.
"""

import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

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

    It is neither an ndarray nor a memoryview on purpose: numpy collapses chains of those, and the memory would be free
    while views are still held.
    """

    __slots__ = ("__array_interface__", "__weakref__", "_memory")

    def __init__(self, memory: NDArray[np.uint8], interface: dict[str, Any]) -> None:
        self._memory = memory  # which may outlive the pool
        self.__array_interface__ = interface


class _Out(weakref.ref[Lease]):
    """A lease that is out, which outlives it, and its memory with the address written out once: numpy makes it anew."""

    __slots__ = ("interface", "memory")
    memory: NDArray[np.uint8]
    interface: dict[str, Any]


class Pool:
    """Slots of one size. A new one is made when all are held, so that taking one never waits.

    A lease dies wherever its last view does, in a garbage collection too, hence without a lock; and without a line of
    Python, where Ctrl-C could come and be lost: what the interpreter calls then is `deque.append`.
    """

    def __init__(self, size: int, kept: int, allocate: Allocate = allocate) -> None:
        self._size, self._kept = size, kept
        self._allocate = allocate
        self._free: deque[_Out] = deque()
        self._out: set[_Out] = set()  # they would not be told of their lease's end if nobody held them

    def take(self) -> NDArray[np.uint8]:
        """Return ``[size]`` uint8 whose memory is leased for as long as it or a view of it lives."""
        while len(self._free) > self._kept:
            self._out.discard(self._free.popleft())
        try:
            last = self._free.pop()
        except IndexError:
            memory = self._allocate(self._size)
            interface = memory.__array_interface__
        else:
            self._out.discard(last)
            memory, interface = last.memory, last.interface
        lease = Lease(memory, interface)
        out = _Out(lease, self._free.append)
        out.memory, out.interface = memory, interface
        self._out.add(out)
        return np.asarray(lease)
