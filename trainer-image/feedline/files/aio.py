"""Many pieces of a file read by one system call, through the page cache: no Python, and no GIL, for each of them.

Linux goes through the list itself (io_submit(2)). Read so, a row that cannot be read is an error number; through a
mapping it would end the process (SIGBUS). Pods may do it: container runtimes refuse io_uring and process_madvise, but
allow this (https://github.com/moby/profiles, seccomp/default.json). Where it is refused, the pieces are read one by
one. Nothing here knows a row.
"""

import ctypes
import errno
import os
import platform
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SETUP, _DESTROY, _GET_EVENTS, _SUBMIT = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}.get(
    platform.machine(), (-1, -1, -1, -1)
)
_AT_ONCE = 512
"""Pieces of one call, and as many of the 65,536 that a machine allows for all its processes (fs.aio-max-nr)."""
_RWF_NOWAIT = 8

# linux/aio_abi.h, little-endian.
_REQUEST = np.dtype(
    [
        ("number", "<u8"),
        ("key", "<u4"),
        ("rw_flags", "<i4"),
        ("opcode", "<u2"),
        ("priority", "<i2"),
        ("file", "<u4"),
        ("address", "<u8"),
        ("length", "<u8"),
        ("offset", "<i8"),
        ("reserved", "<u8"),
        ("flags", "<u4"),
        ("event_file", "<u4"),
    ]
)
_EVENT = np.dtype([("number", "<u8"), ("request", "<u8"), ("result", "<i8"), ("result2", "<i8")])

_syscall = ctypes.CDLL(None, use_errno=True).syscall  # releases the GIL for every call
_syscall.restype = ctypes.c_long
_of_thread = threading.local()


def read(descriptor: int, offsets: NDArray[np.intp], length: int, addresses: NDArray[np.intp]) -> NDArray[np.intp]:
    """Read pieces of a file to memory, waiting for each.

    Parameters
    ----------
    descriptor
        Of the file.
    offsets, length
        Bytes of the file at which pieces begin, ``[n]``, and how long each is.
    addresses
        Where each is to go, ``[n]``; the caller keeps that memory alive.

    Returns
    -------
    ndarray
        ``[n]``: bytes that were read, fewer than `length` at the end of the file or before an error; or, negative, the
        number of the error.
    """
    results = np.empty(len(offsets), np.intp)
    queue = _queue()
    for begin in range(0, len(offsets), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        told = queue.run(descriptor, offsets[part], length, addresses[part], 0) if queue else None
        results[part] = _one_by_one(descriptor, offsets[part], length, addresses[part]) if told is None else told
    return results


def begin(descriptor: int, offsets: NDArray[np.intp], lengths: NDArray[np.intp], address: int) -> float | None:
    """Have pieces of a file read into memory, behind, and return without waiting.

    Each costs one request to the disk, which the kernel holds to the device's read_ahead_kb: pieces should not be
    longer. The file should be marked POSIX_FADV_RANDOM, or more is read than is asked for.

    Parameters
    ----------
    descriptor
        Of the file.
    offsets, lengths
        Bytes at which pieces begin and how long they are, ``[n]``.
    address
        Of memory as long as the longest piece, to which those that are in memory already are copied.

    Returns
    -------
    float or None
        Share of the pieces that were in memory as a whole; None where the file system does not tell (it then was told
        of them by POSIX_FADV_WILLNEED).
    """
    here, queue = 0, _queue()
    for first in range(0, len(offsets), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        told = queue.run(descriptor, offsets[part], lengths[part], address, _RWF_NOWAIT) if queue else None
        if told is None:
            advise(descriptor, offsets[first:], lengths[first:])
            return None
        here += int(np.count_nonzero(told == lengths[part]))
    return here / len(offsets)


def advise(descriptor: int, offsets: NDArray[np.intp], lengths: NDArray[np.intp]) -> None:
    """Tell the kernel of pieces of a file that will be read, one call for each."""
    for offset, length in zip(offsets.tolist(), lengths.tolist(), strict=True):
        os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_WILLNEED)


class Queue:
    """The kernel's queue of asynchronous reads, for one thread.

    Parameters
    ----------
    depth
        Most reads at once.

    Attributes
    ----------
    requests
        ``[depth]``: what is to be read. Set `file`, `offset`, `length`, `address` and `rw_flags`.

    Raises
    ------
    OSError
        The kernel gives none: it is too old or told not to, or its processes have too many.
    """

    def __init__(self, depth: int) -> None:
        context = self._context = ctypes.c_ulong(0)
        if _SETUP < 0 or _syscall(_SETUP, ctypes.c_long(depth), ctypes.byref(context)) != 0:
            raise OSError(ctypes.get_errno() or errno.ENOSYS, "io_setup")
        # Of the number alone: the queue must go when its thread does, which the kernel does not see to.
        weakref.finalize(self, _syscall, _DESTROY, ctypes.c_ulong(context.value))
        self.requests = np.zeros(depth, _REQUEST)
        self.requests["number"] = np.arange(depth)
        self._pointers = _address(self.requests) + _REQUEST.itemsize * np.arange(depth)
        self._chosen = np.empty(depth, np.intp)
        self._events = np.zeros(depth, _EVENT)

    def submit(self, numbers: slice | NDArray[np.intp]) -> int:
        """Begin with some requests; return how many were taken, none or less if the first is refused.

        A read through the page cache is over when this returns; one past it (O_DIRECT) is not.
        """
        chosen = self._pointers[numbers]
        self._chosen[: len(chosen)] = chosen
        return int(
            _syscall(_SUBMIT, self._context, ctypes.c_long(len(chosen)), ctypes.c_void_p(_address(self._chosen)))
        )

    def wait(self, least: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Wait for so many; return the numbers of all that are over, and for each its bytes or, negative, its error."""
        depth = ctypes.c_long(len(self._events))
        events = ctypes.c_void_p(_address(self._events))
        count = int(_syscall(_GET_EVENTS, self._context, ctypes.c_long(least), depth, events, None))
        done = self._events[: max(0, count)]
        return done["number"].astype(np.intp), done["result"].astype(np.intp)

    def run(
        self,
        descriptor: int,
        offsets: NDArray[np.intp],
        lengths: NDArray[np.intp] | int,
        addresses: NDArray[np.intp] | int,
        flags: int,
    ) -> NDArray[np.intp] | None:
        """Return for each piece its bytes or, negative, its error; None where the kernel does not take the list."""
        count = len(offsets)
        requests = self.requests[:count]
        requests["rw_flags"], requests["file"], requests["offset"] = flags, descriptor, offsets
        requests["length"], requests["address"] = lengths, addresses
        taken = self.submit(slice(count))
        numbers, found = self.wait(taken) if taken > 0 else (np.empty(0, np.intp), np.empty(0, np.intp))
        if len(numbers) != count:
            return None
        results = np.empty(count, np.intp)
        results[numbers] = found
        return results


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _queue() -> Queue | None:
    """Return this thread's queue; None where the kernel gives none."""
    try:
        queue: Queue | None = _of_thread.queue
    except AttributeError:
        try:
            queue = Queue(_AT_ONCE)
        except OSError:
            queue = None
        _of_thread.queue = queue
    return queue


def _one_by_one(
    descriptor: int, offsets: NDArray[np.intp], length: int, addresses: NDArray[np.intp]
) -> NDArray[np.intp]:
    results = np.empty(len(offsets), np.intp)
    for number, (offset, address) in enumerate(zip(offsets.tolist(), addresses.tolist(), strict=True)):
        target = (ctypes.c_char * length).from_address(address)
        try:
            results[number] = os.preadv(descriptor, [target], offset)
        except OSError as error:
            results[number] = -(error.errno or errno.EIO)
    return results
