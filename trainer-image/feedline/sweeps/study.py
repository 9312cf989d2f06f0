"""The trials of a sweep as a study of Optuna's, for its dashboard and whatever else reads one."""

import math
from collections.abc import Sequence
from typing import Any

from feedline.errors import UsageError
from feedline.manifest import Choice, Numbers, Parameter, Sweep
from feedline.sweeps.suggestions import optuna_for
from feedline.sweeps.trials import Confirmed, State, Trial, confirmed, is_confirmation, is_of


def write_study(sweep: Sweep, trials: Sequence[Trial], storage: str) -> None:
    """Write a study, named as the sweep is, into a storage of Optuna's, such as ``sqlite:///trials.db``.

    Raises
    ------
    UsageError
        The storage cannot be used, or has a study of that name.
    EnvironmentInvalidError
        Optuna is not installed.
    """
    optuna = optuna_for("export --optuna")
    import sqlalchemy

    space = {each.name: _distribution(optuna, each.space) for each in sweep.parameters}
    # Confirmations were not chosen, and what somebody wrote over is none of the study's values.
    searching = [each for each in trials if not is_confirmation(each.index) and is_of(sweep, each.parameters)]
    told = [_trial(optuna, sweep, each, confirmed(each, trials, sweep.objective), space) for each in searching]
    try:
        study = optuna.create_study(
            study_name=sweep.name,
            storage=storage,
            direction="maximize" if sweep.objective.is_maximized else "minimize",
        )
    except optuna.exceptions.DuplicatedStudyError:
        raise UsageError(f"--optuna {storage}: has a study {sweep.name} already; name another file") from None
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise UsageError(f"--optuna {storage}: cannot be written ({said}); name a file as sqlite:///FILE.db") from None
    study.set_user_attr("objective", sweep.objective.value)
    study.add_trials(told)


def _trial(optuna: Any, sweep: Sweep, trial: Trial, again: Confirmed | None, space: dict[str, Any]) -> Any:
    states, best = optuna.trial.TrialState, trial.best(sweep.objective)
    known = {State.COMPLETE: states.COMPLETE, State.PRUNED: states.PRUNED, State.RUNNING: states.RUNNING}
    state = known.get(trial.state, states.FAIL)
    if state == states.COMPLETE and best is None:
        state = states.FAIL
    told = {each.name: trial.parameters[each.name] for each in sweep.parameters}
    known_more: dict[str, Any] = {"why": trial.message} if trial.message else {}
    if again is not None:
        known_more |= {"confirmations": again.count, "mean": again.mean, "deviation": again.deviation}
    return optuna.trial.create_trial(
        params={name: _shown(sweep, name, value) for name, value in told.items()},
        distributions=space,
        value=best if state == states.COMPLETE else None,
        intermediate_values={rows: value for rows, value in trial.curve if math.isfinite(value)},
        user_attrs={"trial": f"{sweep.name}-{trial.index}", **known_more},
        state=state,
    )


def _distribution(optuna: Any, space: Numbers | Choice) -> Any:
    if isinstance(space, Choice):
        return optuna.distributions.CategoricalDistribution([_choice(space, value) for value in space.values])
    if space.is_whole:
        return optuna.distributions.IntDistribution(int(space.least), int(space.most), space.is_log, space.step or 1)
    return optuna.distributions.FloatDistribution(space.least, space.most, space.is_log)


def _shown(sweep: Sweep, name: str, value: Parameter) -> Any:
    space = next(each.space for each in sweep.parameters if each.name == name)
    return _choice(space, value) if isinstance(space, Choice) else value


def _choice(space: Choice, value: Parameter) -> Any:
    """Return a choice as Optuna can tell it from the others: true and 1 are the same to it, and are written out."""
    return value if len(set(space.values)) == len(space.values) else repr(value)
