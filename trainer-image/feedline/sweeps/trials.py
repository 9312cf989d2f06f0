"""What is known of a trial: its parameters, how it does, and what was reported of the objective. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from feedline.manifest import Objective, Parameter


class State(StrEnum):
    """How far a trial is."""

    RUNNING = "Running"
    COMPLETE = "Complete"
    PRUNED = "Pruned"
    FAILED = "Failed"


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes
    ----------
    index
        Which trial it is, from 0.
    parameters
        The value of each parameter.
    curve
        Rows trained on and the value of the objective, in the order of the rows; a value may be no number.
    rows_of_epoch
        Rows that an epoch trains on; 0 where none has ended.
    message
        Why it failed or was pruned.
    """

    index: int
    parameters: Mapping[str, Parameter]
    state: State
    curve: tuple[tuple[int, float], ...] = ()
    rows_of_epoch: int = 0
    message: str = ""

    @property
    def values(self) -> tuple[float, ...]:
        """What was reported, but what is no number."""
        return tuple(value for _, value in self.curve if math.isfinite(value))

    def best(self, objective: Objective) -> float | None:
        """Return the best value that was reported; None before the first."""
        return max(self.values, key=objective.merit, default=None)

    def until(self, rows: int) -> tuple[float, ...]:
        """Return the values that were reported after at most so many rows."""
        return tuple(value for at, value in self.curve if at <= rows)


def ranked(trials: Iterable[Trial], objective: Objective) -> list[Trial]:
    """Return trials with the best first, those that came to their end before others, and the first of equals."""

    def rank(trial: Trial) -> tuple[bool, float, int]:
        best = trial.best(objective)
        return trial.state != State.COMPLETE, math.inf if best is None else -objective.merit(best), trial.index

    return sorted(trials, key=rank)


def best_of(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """Return the trial with the best value of those that came to their end; the first of equals, None before any."""
    first = next(iter(ranked(trials, objective)), None)
    return first if first and first.state == State.COMPLETE and first.values else None
