"""What calls of a function took: by the clock, of a CPU, and waiting for something that is neither."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds of a thread.

    Attributes
    ----------
    seconds
        By the clock.
    cpu
        On a CPU.
    blocked
        Neither on one nor waiting for one: for the interpreter, which another thread holds, or for a file; 0 where the
        kernel does not tell.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    blocked: float = 0.0

    def plus(self, other: "Spent") -> "Spent":
        """Return both together."""
        return Spent(self.seconds + other.seconds, self.cpu + other.cpu, self.blocked + other.blocked)


class Stopwatch:
    """Adds up what a thread spends within `running`."""

    def __init__(self) -> None:
        self.spent = Spent()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is done within."""
        queued = _queued()
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            on_cpu, seconds = time.thread_time() - cpu, time.perf_counter() - began
            after = _queued()
            blocked = 0.0 if queued is None or after is None else max(0.0, seconds - on_cpu - (after - queued))
            self.spent = self.spent.plus(Spent(seconds, on_cpu, blocked))


def _queued() -> float | None:
    """Return the seconds that this thread waited for a CPU since it began (proc(5), schedstat)."""
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:  # noqa: PTH123 - a path takes as long again
            return int(file.read(64).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return None
