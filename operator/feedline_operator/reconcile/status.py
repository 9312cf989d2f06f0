"""The pipeline's status, composed once from what was seen and what was decided."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from feedline_operator.reconcile import attempts, times
from feedline_operator.reconcile.conditions import (
    ACCEPTED,
    INPUT_BOUND,
    PODS_READY,
    SUCCEEDED,
    SUSPENDED,
    conditions,
)
from feedline_operator.reconcile.input_bound import input_bound
from feedline_operator.reconcile.observed import Object, condition, job_end
from feedline_operator.reconcile.outcome import INVALID_SPEC, RUNNING, Outcome
from feedline_operator.reconcile.outcome import SUSPENDED as STATE_SUSPENDED
from feedline_operator.reconcile.view import View

_LIVE_FIELDS: Final = (
    *("observedTime", "epochs", "steps", "targetSteps", "samples", "samplesPerSecond", "waitPermille"),
    *("feedSamplesPerSecond", "modelSamplesPerSecond", "fetchMicros", "stepMicros", "majorFaults"),
    *("diskSamples", "diskRandomLimitPermille", "values", "verdict"),
)


def compose(view: View, outcome: Outcome, now: datetime) -> dict[str, Any]:
    """Return the whole status of a pipeline that stands as `outcome` says."""
    accounts = view.accounts
    over = outcome.status != "Unknown"
    report = _final_report(view) if over else None
    feed = _feed(view) if report is None else _live(report)
    status: dict[str, Any] = {
        "observedGeneration": view.pipeline["metadata"]["generation"],
        "startTime": view.status.get("startTime") or (accounts.job or {}).get("startTime"),
        "completionTime": _completion_time(view, now) if over else None,
        "conditions": conditions(view.pipeline, _values(view, outcome, feed), now),
        "feed": feed,
        "attempts": view.attempts or None,
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
    return status


def _values(view: View, outcome: Outcome, feed: Object | None) -> dict[str, tuple[str, str, str]]:
    invalid, running = outcome.reason == INVALID_SPEC, outcome.reason == RUNNING
    suspended = ("False", "NotSuspended", "spec.suspend is false.")
    if outcome.reason == STATE_SUSPENDED:
        suspended = ("True", STATE_SUSPENDED if view.own_job is None else "Suspending", outcome.message)
    return {
        SUCCEEDED: (outcome.status, outcome.reason, outcome.message),
        ACCEPTED: ("False", INVALID_SPEC, outcome.message) if invalid else ("True", "Accepted", "The spec is valid."),
        PODS_READY: ("True" if running else "False", outcome.reason, outcome.message),
        INPUT_BOUND: input_bound(feed, condition(view.pipeline, INPUT_BOUND)),
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
    if sample is not None and sample.pod_uid == uid:
        return {**_live(sample.report), "observedTime": times.write(sample.time)}
    # The numbers of an earlier attempt say nothing about this one.
    newest = (view.status.get("attempts") or [{}])[0]
    return previous if newest.get("uid") == uid else None


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
