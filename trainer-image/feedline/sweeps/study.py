"""The trials of a sweep as a study of Optuna's, for its dashboard and whatever else reads one."""

import contextlib
from collections.abc import Sequence
from typing import Any

from feedline.errors import UsageError
from feedline.manifest import Choice, Numbers, Parameter, Sweep
from feedline.sweeps.suggestions import distribution, optuna_for, told_to
from feedline.sweeps.trials import Confirmed, Trial, confirmed, is_confirmation, is_of


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

    space = {each.name: distribution(optuna, each.space, _choices(each.space)) for each in sweep.parameters}
    # Confirmations were not chosen, and what somebody wrote over is none of the study's values.
    searching = [each for each in trials if not is_confirmation(each.index) and is_of(sweep, each.parameters)]
    told = [_trial(optuna, sweep, each, confirmed(each, trials, sweep.objective), space) for each in searching]
    # Of a database that another Optuna has made it says so by a RuntimeError.
    unwritable = sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, RuntimeError, ValueError
    try:
        study = optuna.create_study(
            study_name=sweep.name,
            storage=storage,
            direction="maximize" if sweep.objective.is_maximized else "minimize",
        )
    except optuna.exceptions.DuplicatedStudyError:
        raise UsageError(f"--optuna {storage}: has a study {sweep.name} already; name another file") from None
    except unwritable as error:
        raise _unwritten(storage, error) from None
    try:
        study.set_user_attr("objective", sweep.objective.value)
        study.add_trials(told)
    except unwritable as error:
        with contextlib.suppress(*unwritable):  # half a study would be in the way of the next attempt
            optuna.delete_study(study_name=sweep.name, storage=storage)
        raise _unwritten(storage, error) from None


def _unwritten(storage: str, error: Exception) -> UsageError:
    said = " ".join(str(error).split())[:300]
    return UsageError(f"--optuna {storage}: cannot be written ({said}); name a file as sqlite:///FILE.db")


def _trial(optuna: Any, sweep: Sweep, trial: Trial, again: Confirmed | None, space: dict[str, Any]) -> Any:
    known: dict[str, Any] = {"trial": f"{sweep.name}-{trial.index}"}
    known |= {"why": trial.message} if trial.message else {}
    if again is not None:
        known |= {"confirmations": again.count, "mean": again.mean, "deviation": again.deviation}
    given = {each.name: _shown(each.space, trial.parameters[each.name]) for each in sweep.parameters}
    return told_to(optuna, sweep.objective, trial, given, space, known)


def _choices(space: Numbers | Choice) -> list[Any]:
    return [_shown(space, value) for value in space.values] if isinstance(space, Choice) else []


def _shown(space: Numbers | Choice, value: Parameter) -> Any:
    """Return a value as Optuna can tell it from the others: true and 1 are the same to it, and are written out."""
    is_plain = not isinstance(space, Choice) or len(set(space.values)) == len(space.values)
    return value if is_plain else repr(value)
