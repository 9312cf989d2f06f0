"""Keys to work on: each at most once, one at a time, some of them later, and those that failed with growing delays.

A key says that something may have changed, not what: it may be added any number of times, and work on it starts from
what is true by then.
"""

import asyncio
import heapq
import itertools
import random
from collections import OrderedDict
from typing import Final

from feedline_operator.store import Key

_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 300.0


class WorkQueue:
    """A queue without duplicates."""

    def __init__(self) -> None:
        self._ready: OrderedDict[Key, float] = OrderedDict()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        self._later: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._number = itertools.count()
        self._wake = asyncio.Event()

    def add(self, key: Key) -> None:
        """Work on a key as soon as possible, once more if it is being worked on."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = _now()
            self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on a key in a while, or sooner, if it is due sooner already."""
        due = _now() + max(seconds, 0.0)
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, next(self._number), key))
        self._wake.set()

    def retry(self, key: Key, at_least: float = 0.0) -> float:
        """Work on a key again after a delay that doubles with each failure, and return the delay in seconds."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        # Half of it is by chance, so that a thousand keys that failed together do not come back together.
        delay: float = min(_FIRST_DELAY * 2 ** min(failures - 1, 16), _LONGEST_DELAY) * random.uniform(0.5, 1.0)  # noqa: S311
        delay = max(delay, at_least)
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """Let the next failure of a key be its first."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """Return a key to work on; `done` must follow."""
        while True:
            self._move_due()
            if self._ready:
                key, _ = self._ready.popitem(last=False)
                self._working.add(key)
                return key
            self._wake.clear()
            timeout = None if not self._later else max(self._later[0][0] - _now(), 0.0)
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def done(self, key: Key) -> None:
        """End the work on a key; it comes back at once if it was added meanwhile."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def restart(self) -> None:
        """Let all that wait begin to wait now: until now nobody worked."""
        self._ready = OrderedDict.fromkeys(self._ready, _now())

    def oldest_seconds(self) -> float:
        """Return how long the oldest key has been waiting for a worker."""
        return _now() - next(iter(self._ready.values())) if self._ready else 0.0

    def __len__(self) -> int:
        return len(self._ready)

    def _move_due(self) -> None:
        now = _now()
        while self._later and self._later[0][0] <= now:
            due, _, key = heapq.heappop(self._later)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)


def _now() -> float:
    return asyncio.get_running_loop().time()
