"""Threads that read rows of a file system with latency, such as a network's: as many as Little's law asks for.

Nothing here knows a slot or an order.
"""

import math
import threading
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feedline.files import Array
from feedline.paging.presence import HIT_SECONDS

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_LEAST_READERS, MOST_READERS = 8, 64
_SLOTS_REMEMBERED = 8
_ROWS_TO_LEARN = 4
"""Of each thread, in a step."""


def readers(rows_per_second: float, latency: float) -> int:
    """Return how many reads to keep under way: twice what Little's law asks for, from 8 to 64.

    Twice, so that it grows until more of them bring no more rows; then it stays at twice of what is busy.

    Parameters
    ----------
    rows_per_second
        Of the last slot.
    latency
        Seconds of a read where few others waited: the shortest lately.
    """
    return max(_LEAST_READERS, min(MOST_READERS, math.ceil(2 * rows_per_second * latency)))


class Readers:
    """Threads that read rows of a file system with latency, as many as keep it busy.

    Attributes
    ----------
    wanted
        Reads to keep under way.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()
        self._latencies: deque[float] = deque(maxlen=_SLOTS_REMEMBERED)
        self.wanted = readers(0, 0)
        self._settled = False

    @property
    def latency(self) -> float:
        """Seconds of a read where few others waited: the shortest of the last slots; 0 before the first."""
        return min(self._latencies, default=0.0)

    def take(self, array: Array, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> int:
        """Copy `rows` of an array to `out`, ``[len(rows), row_bytes]`` uint8, read by all threads at once.

        Returns
        -------
        int
            Rows that took longer than one in memory does, in the parts of the slot.
        """
        with self._starting:
            if self._pool is None:
                # Imported here and below, with logging behind it: `import feedline` should not wait for them.
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(MOST_READERS, thread_name_prefix="feedline-read")

        slow = done = 0
        while done < len(rows):
            # A slot is read in steps until it is known how many reads the file system likes best.
            wanted = self.wanted
            stop = len(rows) if self._settled else min(len(rows), done + _ROWS_TO_LEARN * wanted)
            slow += self._take(self._pool, array, rows[done:stop], out[done:stop])
            self._settled = self.wanted <= wanted
            done = stop
        return slow

    def _take(self, pool: "ThreadPoolExecutor", array: Array, rows: NDArray[np.intp], out: NDArray[np.uint8]) -> int:
        from concurrent.futures import wait

        def part(start: int, stop: int) -> float:
            began = time.perf_counter()
            array.take_past_mapping(rows[start:stop], out[start:stop])
            return (time.perf_counter() - began) / (stop - start)

        began = time.perf_counter()
        cuts = np.linspace(0, len(rows), min(self.wanted, len(rows)) + 1).astype(int).tolist()
        parts = [pool.submit(part, start, stop) for start, stop in pairwise(cuts)]
        wait(parts)  # all of them, also if one fails: they write to memory that is the caller's
        seconds = np.array([each.result() for each in parts])
        self._latencies.append(float(np.median(seconds)))
        self.wanted = readers(len(rows) / (time.perf_counter() - began), self.latency)
        return int(len(rows) * np.count_nonzero(seconds > HIT_SECONDS) / len(parts))

    def close(self) -> None:
        """End the threads, once what they read is there."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
