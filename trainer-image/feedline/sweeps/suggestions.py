"""The parameters of the next trial: a pure function of the sweep, the trial's number and what is known of the others.

TPE is Optuna's, asked anew each time: a study in memory that is made of the trials as they are now. Whoever asks again,
in another process, with the same trials, gets the same answer.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from feedline.errors import EnvironmentInvalidError
from feedline.manifest import Choice, Numbers, Objective, Parameter, Sweep
from feedline.sweeps.trials import State, Trial, confirmed_by, is_confirmation, is_of

_FIRST_BY_CHANCE = 10
_MOST_POINTS = 64
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53)
_FINEST = 1e-9


def suggest(sweep: Sweep, index: int, trials: Sequence[Trial]) -> dict[str, Parameter] | None:
    """Return the parameters of trial `index`; `trials` are all others.

    None where it is to confirm one that is not there.

    Raises
    ------
    EnvironmentInvalidError
        Optuna is not installed, and TPE takes it.
    """
    if is_confirmation(index):
        found = (each.parameters for each in trials if each.index == confirmed_by(index))
        return next((dict(values) for values in found if is_of(sweep, values)), None)
    if sweep.algorithm == "Grid":
        return sweep.point(index)
    if sweep.algorithm == "TPE":
        return _asked(sweep, index, trials)
    if sweep.algorithm == "QuasiRandom":
        point = _halton(len(sweep.parameters), sweep.seed, index)
    else:
        chance = random.Random(_seed(sweep, index))  # noqa: S311 - nothing is kept secret
        point = [chance.random() for _ in sweep.parameters]
    return {each.name: _at(each.space, share) for each, share in zip(sweep.parameters, point, strict=True)}


def _asked(sweep: Sweep, index: int, trials: Sequence[Trial]) -> dict[str, Parameter]:
    optuna = optuna_for("spec.algorithm: TPE")
    sampler = optuna.samplers.TPESampler(seed=_seed(sweep, index), n_startup_trials=_FIRST_BY_CHANCE)
    study = optuna.create_study(direction="maximize" if sweep.objective.is_maximized else "minimize", sampler=sampler)
    space = {each.name: distribution(optuna, each.space, _places(each.space)) for each in sweep.parameters}
    searching = [each for each in trials if not is_confirmation(each.index) and is_of(sweep, each.parameters)]
    known = sorted(searching, key=lambda each: each.index)
    study.add_trials([_told(optuna, sweep, trial, space) for trial in known])
    asked = study.ask(space).params
    return {each.name: _value(each.space, asked[each.name]) for each in sweep.parameters}


def _seed(sweep: Sweep, index: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{sweep.seed} {index}".encode(), digest_size=4).digest())


def _told(optuna: Any, sweep: Sweep, trial: Trial, space: dict[str, Any]) -> Any:
    """Return a trial as Optuna knows them; of a long curve some points."""
    thinned = [*trial.curve[:: len(trial.curve) // _MOST_POINTS + 1], *trial.curve[-1:]]
    given = {each.name: _key(each.space, trial.parameters[each.name]) for each in sweep.parameters}
    return told_to(optuna, sweep.objective, replace(trial, curve=tuple(thinned)), given, space, {})


def told_to(
    optuna: Any,
    objective: Objective,
    trial: Trial,
    given: dict[str, Any],
    space: dict[str, Any],
    attributes: dict[str, Any],
) -> Any:
    """Return a trial as Optuna knows them.

    Parameters
    ----------
    given, space
        Its parameters as Optuna is told of them, and what each may be.
    attributes
        What is to be known of it besides.
    """
    states, best = optuna.trial.TrialState, trial.best(objective)
    state = {State.RUNNING: states.RUNNING, State.PRUNED: states.PRUNED}.get(trial.state, states.FAIL)
    if trial.state == State.COMPLETE and best is not None:
        state = states.COMPLETE
    return optuna.trial.create_trial(
        params=given,
        distributions=space,
        value=best if state == states.COMPLETE else None,
        intermediate_values={rows: value for rows, value in trial.curve if math.isfinite(value)},
        user_attrs=attributes,
        state=state,
    )


def distribution(optuna: Any, space: Numbers | Choice, choices: Sequence[Any]) -> Any:
    """Return what a parameter may be, as Optuna knows it; `choices` stand for the values of a choice."""
    if isinstance(space, Choice):
        return optuna.distributions.CategoricalDistribution(choices)
    if space.is_whole:
        return optuna.distributions.IntDistribution(int(space.least), int(space.most), space.is_log, space.step or 1)
    return optuna.distributions.FloatDistribution(space.least, space.most, space.is_log)


def _places(space: Numbers | Choice) -> Sequence[int]:
    """Return the places of choices, by which Optuna is told of them, since it takes true and 1 for the same."""
    return range(len(space.values)) if isinstance(space, Choice) else ()


def _value(space: Numbers | Choice, asked: Any) -> Parameter:
    if isinstance(space, Choice):
        return space.values[int(asked)]
    return int(asked) if space.is_whole else float(asked)


def _key(space: Numbers | Choice, value: Parameter) -> Any:
    if not isinstance(space, Choice):
        return value
    return next(place for place, each in enumerate(space.values) if each == value and type(each) is type(value))


def _at(space: Numbers | Choice, share: float) -> Parameter:
    """Return the value that lies at a share, from 0 to 1, of a parameter's values."""
    if isinstance(space, Choice):
        return space.values[int(share * len(space.values))]
    if not space.is_whole:
        return _between(space.least, space.most, share, is_log=space.is_log)
    if space.step is not None:
        count = (int(space.most) - int(space.least)) // space.step + 1
        return int(space.least) + int(share * count) * space.step
    # Each whole number has as much room as the others, on its scale.
    found = _between(space.least - 0.5, space.most + 0.5, share, is_log=space.is_log)
    return min(max(round(found), int(space.least)), int(space.most))


def _between(least: float, most: float, share: float, *, is_log: bool) -> float:
    if is_log:
        found = math.exp(math.log(least) + share * (math.log(most) - math.log(least)))
    else:
        found = least + share * (most - least)
    return min(max(found, least), most)


def _halton(dimensions: int, seed: int, index: int) -> Sequence[float]:
    """Return a point of a Halton sequence whose digits are permuted by chance (Owen, 2017).

    It leaves no gaps in a dimension, nor, as the plain one does, between two of a large base.
    """
    return [_permuted_inverse(index, base, f"{seed} {base}") for base in _PRIMES[:dimensions]]


def _permuted_inverse(number: int, base: int, seed: str) -> float:
    """Return the digits of a number behind the point, the lowest first, each exchanged for another of its place."""
    found, weight, place = 0.0, 1.0, 0
    while weight > _FINEST:
        number, digit = divmod(number, base)
        digits = list(range(base))
        random.Random(f"{seed} {place}").shuffle(digits)  # noqa: S311 - nothing is kept secret
        weight, place = weight / base, place + 1
        found += digits[digit] * weight
    return found


def optuna_for(what: str) -> Any:
    """Return Optuna, which says nothing.

    Raises
    ------
    EnvironmentInvalidError
        It is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise EnvironmentInvalidError(
            f"{what} takes Optuna, which is not installed here: pip install 'feedline[sweep]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
