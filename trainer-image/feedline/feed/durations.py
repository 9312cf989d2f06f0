"""A window of durations: their sum and count, and percentiles of the newest. Nothing here knows what took so long."""

from array import array

import numpy as np

_WINDOW = 4096
"""Durations that the percentiles look back on."""


class Durations:
    """Durations of one kind.

    Attributes
    ----------
    count, total
        How many there were, and their sum in seconds.
    """

    def __init__(self) -> None:
        self._window = array("d", bytes(8 * _WINDOW))
        self.count = 0
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Take in one duration."""
        self._window[self.count % _WINDOW] = seconds
        self.count += 1
        self.total += seconds

    def percentiles(self) -> tuple[float, float, float]:
        """Return the median, 95th and 99th percentile of the last 4,096 durations in seconds, or zeros."""
        known = min(self.count, _WINDOW)
        if not known:
            return 0.0, 0.0, 0.0
        p50, p95, p99 = np.percentile(np.frombuffer(self._window, np.float64)[:known], (50, 95, 99)).tolist()
        return p50, p95, p99
