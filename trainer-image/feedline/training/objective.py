"""The objective of a run: its newest and best value, and a curve of bounded length. Pure."""

import math
from collections.abc import Mapping
from typing import Any, Final

from feedline.contract import MAX_CURVE_POINTS
from feedline.manifest import Objective

_MOST_KEPT: Final = MAX_CURVE_POINTS - 1  # the newest one is shown besides


class Tracked:
    """What was reported of an objective so far.

    Attributes
    ----------
    objective
        Which value, and whether more of it is better.
    newest, best
        Step and value; None before the first one. What is not a number is never the best.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.newest: tuple[int, float] | None = None
        self.best: tuple[int, float] | None = None
        self._points: list[tuple[int, float]] = []
        self._stride, self._seen = 1, 0

    def add(self, step: int, value: float) -> bool:
        """Take in a value; return whether it is the best so far."""
        self.newest = (step, value)
        if self._seen % self._stride == 0:
            self._points.append(self.newest)
            if len(self._points) > _MOST_KEPT:
                self._points = self._points[::2]
                self._stride *= 2
        self._seen += 1
        if math.isnan(value) or (self.best is not None and not self._is_better(value, self.best[1])):
            return False
        self.best = self.newest
        return True

    def _is_better(self, value: float, than: float) -> bool:
        return value > than if self.objective.is_maximized else value < than

    def curve(self) -> list[tuple[int, float]]:
        """Return at most 64 steps and values, the first and the newest among them."""
        # By their text, since a number that is none is not equal to itself.
        ends_with_newest = not self._points or repr(self._points[-1]) == repr(self.newest)
        return self._points if ends_with_newest or self.newest is None else [*self._points, self.newest]

    def state(self) -> dict[str, Any]:
        """Return all of it as JSON; numbers are text, which may be NaN."""

        def told(point: tuple[int, float] | None) -> list[Any] | None:
            return None if point is None else [point[0], repr(point[1])]

        return {
            "value": self.objective.value,
            "newest": told(self.newest),
            "best": told(self.best),
            "points": [told(point) for point in self._points],
            "stride": self._stride,
            "seen": self._seen,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; one of another objective is left aside, since its best says nothing of this one."""
        if state.get("value") != self.objective.value:
            return

        def read(told: Any) -> tuple[int, float] | None:
            return None if told is None else (int(told[0]), float(told[1]))

        self.newest, self.best = read(state["newest"]), read(state["best"])
        self._points = [point for told in state["points"] if (point := read(told)) is not None]
        self._stride, self._seen = int(state["stride"]), int(state["seen"])
