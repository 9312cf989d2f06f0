"""What is known of a trial: its parameters, how it does, and what was reported of the objective. Pure."""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from feedline.manifest import CONFIRMATION, Choice, Numbers, Objective, Parameter, Sweep

_BEYOND = 1e300


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
        """What was reported, but what is no number, or larger than one can reckon with."""
        return tuple(value for _, value in self.curve if is_reckoned(value))

    def best(self, objective: Objective) -> float | None:
        """Return the best value that was reported; None before the first."""
        return max(self.values, key=objective.merit, default=None)

    def until(self, rows: int) -> tuple[float, ...]:
        """Return the values that were reported after at most so many rows."""
        return tuple(value for at, value in self.curve if at <= rows)


def is_reckoned(value: float) -> bool:
    """Return whether a value can be reckoned with: it is a number, and not larger than sums and means can be."""
    return abs(value) < _BEYOND


def flaw(value: str, curve: Sequence[tuple[int, float]], reported: Iterable[str]) -> str:
    """Return why a trial that came to its end has failed all the same; "" where it has not.

    Parameters
    ----------
    value
        The name of the objective.
    curve
        What was reported of it.
    reported
        The names of all that was reported.
    """
    if not curve:
        return f"{value} was never reported; reported was {', '.join(sorted(reported)) or 'nothing'}"
    if any(is_reckoned(each) for _, each in curve):
        return ""
    is_finite = any(math.isfinite(each) for _, each in curve)
    return f"{value} was never a finite number{' below 1e300' if is_finite else ''}"


@dataclass(frozen=True)
class Confirmed:
    """What came of training a trial once more with other seeds: mean, standard deviation (0 of one) and how many."""

    mean: float
    deviation: float
    count: int


def is_confirmation(index: int) -> bool:
    """Return whether a trial is another one, trained once more."""
    return index >= CONFIRMATION


def confirmed_by(index: int) -> int:
    """Return the number of the trial that a confirmation is of."""
    return index % CONFIRMATION


def confirmations(sweep: Sweep, trials: Sequence[Trial]) -> Iterator[int]:
    """Yield the numbers of a sweep's confirmations, where all its trials have ended: first one of each, and so on."""
    if sweep.confirm is None:
        return
    done = [each for each in trials if each.state == State.COMPLETE and each.values and is_of(sweep, each.parameters)]
    best = [each for each in ranked(done, sweep.objective) if not is_confirmation(each.index)]
    for seed in range(1, sweep.confirm.seeds + 1):
        yield from (seed * CONFIRMATION + each.index for each in best[: sweep.confirm.top])


def confirmed(trial: Trial, trials: Iterable[Trial], objective: Objective) -> Confirmed | None:
    """Return what the confirmations of a trial say that came to their end; None where none has."""
    values = [
        value
        for each in trials
        if is_confirmation(each.index) and confirmed_by(each.index) == trial.index and each.state == State.COMPLETE
        # Or it is of an earlier trial of this number, which was deleted.
        if each.parameters == trial.parameters
        if (value := each.best(objective)) is not None
    ]
    if not values:
        return None
    return Confirmed(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))


def ranked(trials: Iterable[Trial], objective: Objective) -> list[Trial]:
    """Return trials with the best first, those that came to their end before others, and the first of equals.

    A trial that was confirmed is ranked by the mean of its confirmations, before all that were not: the best value of
    many is in part luck. Confirmations themselves come last.
    """
    trials = list(trials)
    again = [each for each in trials if is_confirmation(each.index)]
    means = {each.index: found for each in trials if (found := confirmed(each, again, objective)) is not None}

    def rank(trial: Trial) -> tuple[bool, bool, bool, float, int]:
        mean = means.get(trial.index)
        value = trial.best(objective) if mean is None else mean.mean
        merit = math.inf if value is None else -objective.merit(value)
        return is_confirmation(trial.index), trial.state != State.COMPLETE, mean is None, merit, trial.index

    return sorted(trials, key=rank)


def best_of(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """Return the best trial of those that came to their end, as `ranked` has it; None before any."""
    first = next(iter(ranked(trials, objective)), None)
    return first if first and first.state == State.COMPLETE and first.values else None


def is_of(sweep: Sweep, values: Mapping[str, Parameter]) -> bool:
    """Return whether values are those of a trial of this sweep: somebody may have changed what is said of one."""
    return all(each.name in values and _is_in(each.space, values[each.name]) for each in sweep.parameters)


def _is_in(space: Numbers | Choice, value: Parameter) -> bool:
    if isinstance(space, Choice):
        return any(each == value and type(each) is type(value) for each in space.values)
    if isinstance(value, bool) or not isinstance(value, int if space.is_whole else int | float):
        return False
    is_on_step = not space.is_whole or (int(value) - int(space.least)) % (space.step or 1) == 0
    return space.least <= value <= space.most and is_on_step
