"""How much each parameter decides about whether a training is among the good ones.

The method is PED-ANOVA (Watanabe and others, 2023), as Optuna has it. It takes trainings that came to their end, and
only parameters that all of them have.
"""

import contextlib
import math

from feedline.manifest import Parameter
from feedline.overview.entry import Overview

_GOOD = 0.25
_MOST = 1e300
_FEWEST = 12
"""Of fewer trainings, it says nothing."""


def importance(overview: Overview) -> dict[str, float]:
    """Return the share of each parameter, the largest first, all together 1; nothing where nothing can be said.

    That is so where trainings are few, parameters do not differ, or Optuna is not installed.
    """
    done = [
        each
        for each in overview.entries
        if each.state == "Complete" and each.value is not None and not each.is_repeated
    ]
    done = [each for each in done if all(map(_is_told, (each.value, *each.parameters.values())))]
    spaces = {
        name: values
        for name in overview.parameters
        if all(name in each.parameters for each in done)
        and len(values := list(dict.fromkeys(_key(each.parameters[name]) for each in done))) > 1
    }
    if len(done) < _FEWEST or not spaces:
        return {}
    try:
        import optuna
    except ImportError:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {
        name: _distribution(optuna, values, name in overview.logarithmic) for name, values in spaces.items()
    }
    study = optuna.create_study(direction="maximize" if overview.is_maximized else "minimize")
    for each in done:
        parameters = {
            name: value if _is_numbers(values) else values.index(value)
            for name, values in spaces.items()
            for value in [_key(each.parameters[name])]
        }
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=distributions, value=each.value))
    with contextlib.suppress(ValueError, ZeroDivisionError):
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=_GOOD)
        found: dict[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return {name: share for name, share in found.items() if math.isfinite(share)}
    return {}


def _is_told(value: Parameter | None) -> bool:
    return not isinstance(value, int | float) or (-_MOST < value < _MOST)


def _key(value: Parameter) -> float | str:
    """Return a value by which others are told from it; true and 1 are two."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def _is_numbers(values: list[float | str]) -> bool:
    return all(isinstance(value, float) for value in values)


def _distribution(optuna: object, values: list[float | str], is_log: bool) -> object:  # noqa: FBT001 - of one call
    distributions = optuna.distributions  # type: ignore[attr-defined]
    numbers = [value for value in values if isinstance(value, float)]
    if len(numbers) < len(values):
        return distributions.CategoricalDistribution(tuple(range(len(values))))
    return distributions.FloatDistribution(min(numbers), max(numbers), log=is_log and min(numbers) > 0)
