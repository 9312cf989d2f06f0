"""How a rate is measured: batches are taken for a given time, the first one excluded.

Invariant: every way that hands out batches is measured by the same loop. A feed's next order is computed within the
time, and whatever a way fetched ahead before it counts, which is a batch or some against thousands.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from time import perf_counter
from typing import Any

Measure = Callable[[float], float]
"""From seconds to rows a second."""


def pulled(start: Callable[[], Generator[Any]], batch_size: int) -> Measure:
    """Return a measure that takes batches from a new `start()`, an endless generator, which it then closes."""

    def measure(seconds: float) -> float:
        with closing(start()) as batches:
            next(batches)
            begin = now = perf_counter()
            count = 0
            for _ in batches:
                count += 1
                now = perf_counter()
                if now - begin >= seconds:
                    break
        return count * batch_size / (now - begin)

    return measure


def epochs(batches: Iterable[Any]) -> Generator[Any]:
    """Yield epoch after epoch."""
    while True:
        yield from batches
