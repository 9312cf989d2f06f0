"""The sweep's status, composed once from its trials and what was decided."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from feedline.manifest import Sweep
from feedline.sweeps import Confirmed, State, Trial, best_of, confirmed, is_confirmation, ranked
from feedline_operator.reconcile import Refusal, times
from feedline_operator.reconcile.conditions import ACCEPTED, SUCCEEDED, turned
from feedline_operator.sweeps.children import sweep_of

Object = Mapping[str, Any]

MAX_EVENT: Final = 1024
_MAX_MESSAGE: Final = 4096
_LEADERS: Final = 10
_STATES: Final = (State.RUNNING, State.COMPLETE, State.PRUNED, State.FAILED)


@dataclass(frozen=True)
class Standing:
    """What the condition Succeeded says of a sweep."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str

    @property
    def is_told(self) -> bool:
        """Whether an Event tells of it."""
        return self.status != "Unknown" or self.reason == "Suspended"


SUSPENDED: Final = Standing("Unknown", "Suspended", "Suspended by spec.suspend; set it to false to go on.")


def stopping(why: str, unfinished: int) -> Standing:
    """Return how a sweep stands that was asked to stop, and has so many trials that have not ended."""
    said = f"by spec.stop: {why}" if why else "by spec.stop"
    if unfinished:
        return Standing("Unknown", "Stopping", f"Stopping {said}; {unfinished} of its trials have not ended yet.")
    return Standing("True", "Stopped", f"Stopped {said}")


def running(
    sweep: Sweep, trials: Sequence[tuple[Object, Trial]], refusal: Refusal | None, *, is_waiting: bool
) -> Standing:
    """Return how a sweep stands that goes on; `is_waiting` where a trial is to begin."""
    if refusal is not None and is_waiting:
        return Standing("Unknown", "Pending" if not trials else "Running", refusal.message)
    if not trials:
        return Standing("Unknown", "Pending", "The first trials are being created.")
    return Standing("Unknown", "Running", f"{_counted(sweep, trials)}.")


def completed(sweep: Sweep, trials: Sequence[tuple[Object, Trial]]) -> Standing:
    """Return how a sweep ended whose trials all have."""
    best = best_of((trial for _, trial in trials), sweep.objective)
    told = ""
    if best is not None:
        again = confirmed(best, (trial for _, trial in trials), sweep.objective)
        told = f"; the best is {sweep.name}-{best.index}, {sweep.objective.value} {best.best(sweep.objective):.6g}"
        told += "" if again is None else f", confirmed at {again.mean:.6g} ± {again.deviation:.2g}"
    return Standing("True", "Completed", f"{_counted(sweep, trials)}{told}.")


def unreadable(problems: str, *, has_trials: bool) -> Standing:
    """Return how a sweep stands that was accepted and that this operator finds problems in: it may be the older one."""
    message = f"Nothing is begun or ended, since this operator cannot read the spec: {problems}."
    return Standing("Unknown", "Running" if has_trials else "Pending", message)


def name_taken(pipeline: Object, sweep: str) -> str:
    """Return why a trial of a sweep cannot be made whose name that pipeline has."""
    name = pipeline["metadata"]["name"]
    if sweep_of(pipeline) == sweep:
        return f"The trial {name} of an earlier sweep of this name is still being deleted."
    return (
        f"A TrainingPipeline {name} is there already and is no trial of this sweep: "
        "delete it, or give the sweep another name."
    )


def compose(
    document: Object,
    trials: Sequence[tuple[Object, Trial]],
    sweep: Sweep | None,
    standing: Standing | None,
    now: datetime,
) -> dict[str, Any]:
    """Return the whole status of a sweep; one that has ended stays as it stands, and only its trials are counted."""
    was = document.get("status", {})
    generation = document["metadata"]["generation"]
    status: dict[str, Any] = {"observedGeneration": generation}
    if starts := [pipeline["metadata"]["creationTimestamp"] for pipeline, _ in trials]:
        status["startTime"] = was.get("startTime") or min(starts)
    if standing is None:
        status |= {field: was[field] for field in ("completionTime", "conditions") if field in was}
    else:
        if standing.status != "Unknown":
            status["completionTime"] = times.write(now)
        status["conditions"] = [
            turned(document, SUCCEEDED, (standing.status, standing.reason, standing.message), now),
            turned(document, ACCEPTED, _accepted(standing), now),
        ]
    states = Counter(trial.state for _, trial in trials)
    status["trials"] = {"created": len(trials), **{state.lower(): states[state] for state in _STATES}}
    if sweep is None:  # and nothing is known of its trials but what was
        status |= {field: was[field] for field in ("startTime", "trials", "best", "leaders") if field in was}
    elif leaders := _leaders(sweep, trials):
        status |= {"best": leaders[0], "leaders": leaders}
    return status


def _accepted(standing: Standing) -> tuple[str, str, str]:
    if standing.reason == "InvalidSpec":
        return "False", "InvalidSpec", standing.message
    return "True", "Accepted", "The spec is valid."


def _leaders(sweep: Sweep, trials: Sequence[tuple[Object, Trial]]) -> list[dict[str, Any]]:
    every = [trial for _, trial in trials]
    complete = [trial for trial in ranked(every, sweep.objective) if trial.state == State.COMPLETE and trial.values]
    return [
        _result(sweep, trial, confirmed(trial, every, sweep.objective))
        for trial in complete[:_LEADERS]
        if not is_confirmation(trial.index)
    ]


def _result(sweep: Sweep, trial: Trial, again: Confirmed | None) -> dict[str, Any]:
    told: dict[str, Any] = {"trial": f"{sweep.name}-{trial.index}", "value": repr(trial.best(sweep.objective))}
    if again is not None:
        told |= {"mean": repr(again.mean), "confirmations": again.count}
        told |= {"deviation": repr(again.deviation)} if again.count > 1 else {}
    names = [each.name for each in sweep.parameters if each.name in trial.parameters]
    return {**told, "parameters": {name: _text(trial.parameters[name])[:_MAX_MESSAGE] for name in names}}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _counted(sweep: Sweep, trials: Sequence[tuple[Object, Trial]]) -> str:
    states = Counter(trial.state for _, trial in trials)
    told = ", ".join(f"{states[state]} {state.lower()}" for state in _STATES if states[state])
    more = sum(is_confirmation(trial.index) for _, trial in trials)
    again = f" and {more} confirmations" if more else ""
    return f"{len(trials) - more} of {sweep.trials} trials{again}: {told}"
