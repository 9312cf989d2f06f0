"""`reconcile_sweep`: what a sweep's trials say, what is decided by it, and what there is to do."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from feedline.contract import SUSPENDED_ANNOTATION
from feedline.manifest import ManifestError, Sweep, parse_sweep
from feedline.sweeps import Trial, decide, is_lost
from feedline_operator.reconcile import Transition, times
from feedline_operator.reconcile.conditions import SUCCEEDED, is_over
from feedline_operator.reconcile.observed import condition, deleting
from feedline_operator.sweeps import status
from feedline_operator.sweeps.children import trials_of
from feedline_operator.sweeps.plan import ChangeTrial, ObservedSweep, SweepPlan
from feedline_operator.sweeps.status import Standing

Object = Mapping[str, Any]
Trials = Sequence[tuple[Object, Trial]]

_SUSPENDED_BY: Final = "sweep"
_MOST_READ: Final = 64
_ENDED: Final = "the sweep has ended"


def reconcile_sweep(observed: ObservedSweep, now: datetime) -> SweepPlan:
    """Return what is to be done about a sweep.

    It takes long where many trials are compared: call it where nobody waits.
    """
    document = observed.sweep
    if deleting(document):
        return SweepPlan()
    try:
        sweep = sweep_in(document)
    except ManifestError as error:
        if is_over(document):
            return _gone_in_time(document, document.get("status", {}), (), now)
        return _plan(document, [], None, Standing("False", "InvalidSpec", "; ".join(error.problems)), now)
    trials = trials_of(document, sweep, observed.trials)
    if is_over(document):
        return _after_the_end(document, sweep, trials, now)
    lost = () if "stop" in document["spec"] else tuple(pipeline for pipeline, _ in trials if is_lost(pipeline))
    known = [each for each in trials if each[0] not in lost]
    standing, changes, start = _decide(observed, sweep, known)
    if standing.status != "Unknown":  # of a sweep that ends, nothing begins again
        return _plan(document, trials, sweep, standing, now, changes)
    plan = _plan(document, known, sweep, standing, now, changes, start)
    return replace(plan, lost=lost, transitions=(*map(_told_again, lost), *plan.transitions))


def _told_again(pipeline: Object) -> Transition:
    name = pipeline["metadata"]["name"]
    return Transition("Warning", "TrialLost", f"{name} runs again: its pod was gone before its report was read.")


def _decide(
    observed: ObservedSweep, sweep: Sweep, trials: Trials
) -> tuple[Standing, Sequence[ChangeTrial], tuple[int, ...]]:
    """Ask in turn what ends a sweep, holds it, and lets it go on; return how it stands and what there is to do."""
    spec, refusal = observed.sweep["spec"], observed.refusal
    unfinished = [pipeline for pipeline, _ in trials if not is_over(pipeline)]
    if refusal is not None and refusal.invalid:
        return Standing("False", "InvalidSpec", refusal.message), (), ()
    if (stop := spec.get("stop")) is not None:
        return status.stopping(stop.get("message", ""), len(unfinished)), _ends(spec, unfinished), ()
    decision = decide(sweep, [trial for _, trial in trials])
    if decision.failure:
        return Standing("False", "TrialsFailed", decision.failure), _ends(spec, unfinished), ()
    if decision.is_finished and not unfinished:
        return status.completed(sweep, trials), (), ()
    suspensions = list(_suspensions(unfinished, is_wanted=spec.get("suspend", False)))
    if spec.get("suspend", False):
        return status.SUSPENDED, suspensions, ()
    pipelines = {trial.index: pipeline for pipeline, trial in trials}
    stops = [_stop(pipelines[stop.index], stop.message) for stop in decision.stop]
    # One that was told to end has its pod until it has.
    start = decision.start[: max(0, sweep.parallel - len(unfinished))]
    standing = status.running(sweep, trials, refusal, is_waiting=bool(start))
    return standing, [*suspensions, *stops], start


def sweep_in(document: Object) -> Sweep:
    """Return a sweep as it is in the cluster, read; each generation of it once.

    Raises
    ------
    ManifestError
        With all of its problems.
    """
    metadata = document["metadata"]
    key = metadata["uid"], metadata["generation"]
    found = _READ.get(key)
    if found is None:
        named = {"name": metadata["name"], "namespace": metadata["namespace"]}
        try:
            found = parse_sweep({"metadata": named, "spec": document["spec"]})
        except ManifestError as error:
            found = error
        while len(_READ) >= _MOST_READ:
            del _READ[next(iter(_READ))]
        _READ[key] = found
    if isinstance(found, ManifestError):
        raise found
    return found


_READ: dict[tuple[str, int], Sweep | ManifestError] = {}


def _after_the_end(document: Object, sweep: Sweep, trials: Trials, now: datetime) -> SweepPlan:
    """Let the trials that still run end, count them, and let the sweep go when its time is up."""
    new = status.compose(document, trials, sweep, None, now)
    unfinished = [pipeline for pipeline, _ in trials if not is_over(pipeline)]
    return _gone_in_time(document, new, tuple(_ends(document["spec"], unfinished)), now)


def _gone_in_time(document: Object, new: Object, changes: tuple[ChangeTrial, ...], now: datetime) -> SweepPlan:
    """Let a sweep go when its time is up."""
    seconds, ended = document["spec"].get("ttlSecondsAfterFinished"), times.parse(new.get("completionTime"))
    due = None if seconds is None or ended is None else times.after(ended, seconds)
    is_due = due is not None and now >= due
    return SweepPlan(
        status=None if new == document.get("status", {}) else new,
        changes=changes,
        again=None if is_due else due,
        delete=is_due,
    )


def _plan(
    document: Object,
    trials: Trials,
    sweep: Sweep | None,
    standing: Standing,
    now: datetime,
    changes: Sequence[ChangeTrial] = (),
    start: tuple[int, ...] = (),
) -> SweepPlan:
    new = status.compose(document, trials, sweep, standing, now)
    before = condition(document, SUCCEEDED)
    told: tuple[Transition, ...] = ()
    if standing.is_told and (before is None or before["reason"] != standing.reason):
        kind = "Warning" if standing.status == "False" else "Normal"
        told = (Transition(kind, standing.reason, standing.message[: status.MAX_EVENT]),)
    seconds = document["spec"].get("ttlSecondsAfterFinished")
    again = None if standing.status == "Unknown" or seconds is None else times.after(now, seconds)
    return SweepPlan(
        status=None if new == document.get("status", {}) else new,
        changes=tuple(changes),
        start=start,
        transitions=told,
        again=again,
    )


def _ends(spec: Object, pipelines: Sequence[Object]) -> list[ChangeTrial]:
    """Return what ends the trials of a sweep that has ended, or has them continue, the suspended ones too."""
    if spec.get("onFinish") == "Continue":
        return list(_suspensions(pipelines, is_wanted=spec.get("suspend", False)))
    return [_stop(pipeline, _ENDED) for pipeline in pipelines if "stop" not in pipeline["spec"]]


def _stop(pipeline: Object, message: str) -> ChangeTrial:
    metadata = pipeline["metadata"]
    return ChangeTrial(metadata["name"], metadata["uid"], {"spec": {"stop": {"message": message}}})


def _suspensions(pipelines: Sequence[Object], *, is_wanted: bool) -> Iterator[ChangeTrial]:
    """Return what suspends the trials of a sweep, or resumes those that it has suspended."""
    for pipeline in pipelines:
        metadata, spec = pipeline["metadata"], pipeline["spec"]
        is_ours = metadata.get("annotations", {}).get(SUSPENDED_ANNOTATION) == _SUSPENDED_BY
        if "stop" in spec or is_wanted == spec.get("suspend", False) or (not is_wanted and not is_ours):
            continue
        mark = {SUSPENDED_ANNOTATION: _SUSPENDED_BY if is_wanted else None}
        change = {"metadata": {"annotations": mark}, "spec": {"suspend": is_wanted}}
        yield ChangeTrial(metadata["name"], metadata["uid"], change)
