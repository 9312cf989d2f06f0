"""`reconcile_sweep`: what a sweep's trials say, what is decided by it, and what there is to do."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from feedline.contract import STOPPED_ANNOTATION, SUSPENDED_ANNOTATION
from feedline.manifest import ManifestError, Sweep, parse_sweep
from feedline.sweeps import Trial, decide, is_lost
from feedline_operator.reconcile import Transition, owned_by, times
from feedline_operator.reconcile.conditions import ACCEPTED, SUCCEEDED, is_over
from feedline_operator.reconcile.observed import condition, deleting
from feedline_operator.sweeps import status
from feedline_operator.sweeps.children import trials_of
from feedline_operator.sweeps.plan import ChangeTrial, ObservedSweep, SweepPlan
from feedline_operator.sweeps.status import Standing

Object = Mapping[str, Any]
Trials = Sequence[tuple[Object, Trial]]

_BY_SWEEP: Final = "sweep"
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
        return _unreadable(observed, "; ".join(error.problems), now)
    trials = trials_of(document, sweep, observed.trials)
    if is_over(document):
        return _after_the_end(document, sweep, trials, now)
    lost = () if "stop" in document["spec"] else tuple(pipeline for pipeline, _ in trials if is_lost(pipeline))
    known = [each for each in trials if each[0] not in lost]
    standing, changes, start = _decide(observed, sweep, known)
    if standing.status == "Unknown" and observed.unchanged:
        standing = replace(standing, message=f"{standing.message} {observed.unchanged}")
    if standing.status != "Unknown":  # of a sweep that ends, nothing begins again
        return _plan(document, trials, sweep, standing, now, changes)
    plan = _plan(document, known, sweep, standing, now, changes, start)
    return replace(plan, lost=lost, transitions=(*map(_told_again, lost), *plan.transitions))


def _unreadable(observed: ObservedSweep, problems: str, now: datetime) -> SweepPlan:
    """End a sweep that is wrong; one that was right once stays as it is, since it may be this operator that is old."""
    document = observed.sweep
    own = [pipeline for pipeline, _ in observed.trials if owned_by(pipeline, document["metadata"]["uid"])]
    if is_over(document):
        return _gone_in_time(document, document.get("status", {}), own, (), now)
    if own or _is_accepted(document):
        return _plan(document, [], None, status.unreadable(problems, has_trials=bool(own)), now)
    return _plan(document, [], None, Standing("False", "InvalidSpec", problems), now)


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
    # One that has ended counts as running until its report is there, and is not ended once more.
    stops = [_stop(pipelines[stop.index], stop.message) for stop in decision.stop if not is_over(pipelines[stop.index])]
    # One that was told to end has its pod until it has.
    start = decision.start[: max(0, sweep.parallel - len(unfinished))]
    standing = status.running(sweep, trials, refusal, is_waiting=bool(start))
    return standing, [*suspensions, *stops], start


def sweep_in(document: Object) -> Sweep:
    """Return a sweep as it is in the cluster, read.

    What its trials will be is checked before the first one, which takes a second or two, and not again.

    Raises
    ------
    ManifestError
        With all of its problems.
    """
    metadata = document["metadata"]
    key = metadata["uid"], metadata["generation"], _is_accepted(document)
    with _READING:
        found = _READ.get(key)
    if found is None:
        named = {"name": metadata["name"], "namespace": metadata["namespace"]}
        found = parse_sweep({"metadata": named, "spec": document["spec"]}, is_accepted=key[-1])
        with _READING:
            _READ[key] = found
            while len(_READ) > _MOST_READ:
                _READ.popitem(last=False)
    return found


_READ: OrderedDict[tuple[str, int, bool], Sweep] = OrderedDict()
_READING = threading.Lock()  # several threads look at sweeps


def _is_accepted(document: Object) -> bool:
    found = condition(document, ACCEPTED)
    return found is not None and found["status"] == "True"


def _after_the_end(document: Object, sweep: Sweep, trials: Trials, now: datetime) -> SweepPlan:
    """Let the trials that still run end, count them, and let the sweep go when its time is up."""
    new = status.compose(document, trials, sweep, None, now)
    unfinished = [pipeline for pipeline, _ in trials if not is_over(pipeline)]
    pipelines = [pipeline for pipeline, _ in trials]
    return _gone_in_time(document, new, pipelines, tuple(_ends(document["spec"], unfinished)), now)


def _gone_in_time(
    document: Object, new: Object, pipelines: Sequence[Object], changes: tuple[ChangeTrial, ...], now: datetime
) -> SweepPlan:
    """Let a sweep go, and its trials with it, when its time is up, which begins when the last of them has ended."""
    seconds = document["spec"].get("ttlSecondsAfterFinished")
    told = (each.get("status", {}).get("completionTime") for each in pipelines)
    ends = [time for said in (new.get("completionTime"), *told) if (time := times.parse(said)) is not None]
    is_running = any(not is_over(each) for each in pipelines)
    due = None if seconds is None or is_running or not ends else times.after(max(ends), seconds)
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
    change = {"metadata": {"annotations": {STOPPED_ANNOTATION: _BY_SWEEP}}, "spec": {"stop": {"message": message}}}
    return ChangeTrial(metadata["name"], metadata["uid"], change)


def _suspensions(pipelines: Sequence[Object], *, is_wanted: bool) -> Iterator[ChangeTrial]:
    """Return what suspends the trials of a sweep, or resumes those that it has suspended."""
    for pipeline in pipelines:
        metadata, spec = pipeline["metadata"], pipeline["spec"]
        is_ours = metadata.get("annotations", {}).get(SUSPENDED_ANNOTATION) == _BY_SWEEP
        if "stop" in spec or is_wanted == spec.get("suspend", False) or (not is_wanted and not is_ours):
            continue
        mark = {SUSPENDED_ANNOTATION: _BY_SWEEP if is_wanted else None}
        change = {"metadata": {"annotations": mark}, "spec": {"suspend": is_wanted}}
        yield ChangeTrial(metadata["name"], metadata["uid"], change)
