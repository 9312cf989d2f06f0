"""The pipeline's status, composed once from what was seen and what was decided."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from feedline_operator.build import processes_of
from feedline_operator.reconcile import attempts, gang, times
from feedline_operator.reconcile.conditions import (
    ACCEPTED,
    CHECKPOINTS_HEALTHY,
    INPUT_BOUND,
    PODS_READY,
    SUCCEEDED,
    SUSPENDED,
    conditions,
)
from feedline_operator.reconcile.input_bound import input_bound
from feedline_operator.reconcile.observed import Object, condition, container_state, job_end
from feedline_operator.reconcile.outcome import INVALID_SPEC, RUNNING, Outcome
from feedline_operator.reconcile.outcome import SUSPENDED as STATE_SUSPENDED
from feedline_operator.reconcile.saving import checkpoints_healthy
from feedline_operator.reconcile.view import View

_LIVE_FIELDS: Final = (
    *("observedTime", "epochs", "steps", "targetSteps", "samples", "samplesPerSecond", "waitPermille"),
    *("feedSamplesPerSecond", "modelSamplesPerSecond", "fetchMicros", "stepMicros", "majorFaults"),
    *("diskSamples", "diskRandomLimitPermille", "values", "fromStep", "checkpoint", "ranks", "verdict"),
)
_CHECKPOINT_FIELDS: Final = ("step", "epoch", "time", "bytes", "milliseconds")
_OBJECTIVE_FIELDS: Final = ("value", "best", "bestStep", "curve", "epochSteps", "epochSamples")


def compose(view: View, outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return the whole status of a pipeline that stands as `outcome` says."""
    accounts = view.accounts
    over = outcome.status != "Unknown"
    report = _final_report(view) if over else None
    feed = _feed(view) if report is None else _live(report)
    newest = report or _sampled(view) or (_final_report(view) if view.running_pod is None else None) or {}
    status: dict[str, Any] = {
        "observedGeneration": view.pipeline["metadata"]["generation"],
        "startTime": view.status.get("startTime") or (accounts.job or {}).get("startTime"),
        "completionTime": _completion_time(view, now) if over else None,
        "conditions": conditions(view.pipeline, _values(view, outcome, feed, now), now),
        "feed": feed,
        "attempts": _with_from_step(view, feed) or None,
        "ranks": None if over else _ranks(view),
        "checkpoint": _only(newest.get("checkpoint"), _CHECKPOINT_FIELDS) or view.status.get("checkpoint"),
        "objective": _only(newest.get("objective"), _OBJECTIVE_FIELDS) or view.status.get("objective"),
        "failures": accounts.failures,
        "activeSeconds": accounts.active_seconds,
        "job": accounts.job,
        "report": report,
    }
    return {field: value for field, value in status.items() if value is not None}


def complete(view: View) -> dict[str, Any]:
    """Return the status of a finished pipeline, with what its pods have said since: nothing else changes any more."""
    status = {**view.status, "observedGeneration": view.pipeline["metadata"]["generation"]}
    if view.attempts:
        status["attempts"] = view.attempts
    if (report := _final_report(view)) is not None:
        status |= {"report": report, "feed": _live(report)}
        status |= {"checkpoint": saved} if (saved := _only(report.get("checkpoint"), _CHECKPOINT_FIELDS)) else {}
        status |= {"objective": aim} if (aim := _only(report.get("objective"), _OBJECTIVE_FIELDS)) else {}
    return status


def _ranks(view: View) -> dict[str, int] | None:
    if view.nodes == 1:
        return None
    running = len(gang.running(view.attempts, view.pods))
    return {"world": view.nodes * processes_of(view.pipeline), "nodes": view.nodes, "nodesRunning": running}


def _only(part: Object | None, fields: Sequence[str]) -> dict[str, Any]:
    return {field: part[field] for field in fields if field in part} if part is not None else {}


def _with_from_step(view: View, feed: Object | None) -> list[dict[str, Any]]:
    """Return the attempts; the one that runs has told from which step it went on."""
    found = [dict(attempt) for attempt in view.attempts]
    if found and view.running_pod is not None and feed is not None and "fromStep" in feed:
        found[0].setdefault("fromStep", feed["fromStep"])
    return found


def _values(view: View, outcome: Outcome, feed: Object | None, now: datetime) -> dict[str, tuple[str, str, str]]:
    invalid, running = outcome.reason == INVALID_SPEC, outcome.reason == RUNNING
    suspended = ("False", "NotSuspended", "spec.suspend is false.")
    if outcome.reason == STATE_SUSPENDED:
        suspended = ("True", STATE_SUSPENDED if view.own_job is None else "Suspending", outcome.message)
    return {
        SUCCEEDED: (outcome.status, outcome.reason, outcome.message),
        ACCEPTED: ("False", INVALID_SPEC, outcome.message) if invalid else ("True", "Accepted", "The spec is valid."),
        PODS_READY: ("True" if running else "False", outcome.reason, outcome.message),
        INPUT_BOUND: input_bound(feed, condition(view.pipeline, INPUT_BOUND)),
        CHECKPOINTS_HEALTHY: checkpoints_healthy(view.spec, feed, running_since(view), now),
        SUSPENDED: suspended,
    }


def _completion_time(view: View, now: datetime) -> str:
    if view.own_job is not None and (end := job_end(view.own_job)):
        return str(view.own_job["status"].get("completionTime") or end["lastTransitionTime"])
    return times.write(now)


def _feed(view: View) -> Object | None:
    """Return the newest numbers of the newest attempt: the sample's, or those written before."""
    pod, sample = view.running_pod, view.observed.sample
    previous: Object | None = view.status.get("feed")
    if pod is None:
        return previous
    uid = pod["metadata"]["uid"]
    if sample is not None and (numbers := _sampled(view)) is not None:
        return {**_live(numbers), "observedTime": times.write(sample.time)}
    # The numbers of an earlier attempt say nothing about this one.
    newest = (view.status.get("attempts") or [{}])[0]
    return previous if newest.get("uid") == uid else None


def _sampled(view: View) -> Object | None:
    """Return what the trainer that runs was seen to say of itself."""
    pod, sample = view.running_pod, view.observed.sample
    is_its = pod is not None and sample is not None and sample.pod_uid == pod["metadata"]["uid"]
    return sample.report if is_its and sample is not None else None


def running_since(view: View) -> datetime | None:
    """Return since when the newest container runs; None where none does."""
    pod = view.running_pod
    return None if pod is None else times.parse(container_state(pod)["running"].get("startedAt"))


def _live(report: Mapping[str, Any]) -> dict[str, Any]:
    return {field: report[field] for field in _LIVE_FIELDS if field in report}


def _final_report(view: View) -> Object | None:
    pods = {pod["metadata"]["uid"]: pod for pod in view.observed.pods}
    written: Object | None = view.status.get("report")
    for attempt in view.attempts:
        pod = pods.get(attempt.get("uid"))
        if pod is None and written is not None:
            # It may be of this attempt, or of a later one.
            return written
        if pod is not None and (report := attempts.report_of(pod)) is not None:
            return report
    return written
