"""`reconcile`: ask the policies in turn, compose the status once, say what else there is to do.

The order of the policies is the order of what counts: a finished pipeline stays finished, a Job that has ended decides
even if it should have been suspended, a deadline passes whatever the pods do.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from feedline.contract import ExitCode
from feedline_operator.build import build_job, build_service
from feedline_operator.reconcile import accept, deadlines, gang, injected, pending, status, stop, times, ttl
from feedline_operator.reconcile.attempts import disruption
from feedline_operator.reconcile.conditions import SUCCEEDED, is_over
from feedline_operator.reconcile.finished import exhausted, finished
from feedline_operator.reconcile.observed import (
    Object,
    Observed,
    condition,
    container_state,
    deleting,
    ended,
    job_end,
)
from feedline_operator.reconcile.outcome import (
    INVALID_SPEC,
    PENDING,
    QUEUED,
    RUNNING,
    STARTING,
    SUSPENDED,
    Outcome,
    active,
    failed,
)
from feedline_operator.reconcile.plan import Action, CreateJob, CreateService, DeleteJob, EvictPod, Plan, Policy
from feedline_operator.reconcile.transitions import transitions
from feedline_operator.reconcile.view import View, sort

_SETTLE_SECONDS: Final = 2
"""What follows from a moment ago is not known yet: a pod ends shortly before its Job says what that means. Waiting for
it saves a write and a wrong word."""
_JOB_SECONDS: Final = 5
"""How long the start of a Job, and the end of one whose pod has ended well, waits for the word of the Job controller: a
second or two as a rule, 4.5 s where its two cores were wanted by eighteen processes (2026-11-22)."""
_POD_SECONDS: Final = 10
"""How long the end of a Job waits for the news that its pods have ended, which the watch of pods may bring later."""


def reconcile(observed: Observed, now: datetime, policy: Policy) -> Plan:
    """Return what is to be done about a pipeline.

    Parameters
    ----------
    observed
        The pipeline and what is known about it.
    now
        The time, with a time zone.
    policy
        What of the operator's settings decides about pipelines.
    """
    if deleting(observed.pipeline):
        return Plan()
    view = sort(observed, now)
    if is_over(observed.pipeline):
        return _after_the_end(view, now)
    outcome, actions = _decide(view, now, policy)
    if _nothing_to_tell_yet(view, outcome, actions, now):
        # Who began an end is written down before others are ended for it.
        at_once = tuple(action for action in actions if not isinstance(action, EvictPod))
        return Plan(actions=at_once, again=times.after(now, _SETTLE_SECONDS))
    new = status.compose(view, outcome, now)
    plan = Plan(
        status=None if new == view.status else new,
        actions=actions,
        transitions=transitions(view.status, new),
        # No event may follow the write that ends a pipeline.
        again=outcome.again if outcome.status == "Unknown" else ttl.due(view.spec, new),
    )
    return _ask_for_more(plan, view, outcome, now)


def _decide(  # noqa: PLR0911 - one for each policy
    view: View, now: datetime, policy: Policy
) -> tuple[Outcome, tuple[Action, ...]]:
    """Ask the policies in turn; the first with an answer has it."""
    if wrong := accept.problem(view.spec, view.observed.refusal):
        return failed(INVALID_SPEC, wrong), _stop(view)
    if view.own_job is not None and (end := finished(view.own_job, view.attempts_of(view.own_job))):
        return end, ()
    if stopped := stop.stopped(view):
        return stopped, _stop(view)
    clock = deadlines.Clock(view.accounts.started, view.accounts.ran, view.accounts.active_seconds, view.nodes)
    if late := deadlines.exceeded(view.policy, clock, now):
        return late, _stop(view)
    if view.spec.get("suspend", False):
        return active(SUSPENDED, "Suspended by spec.suspend; set it to false to go on."), _stop(view)
    if view.job is None:
        return _start(view, policy)
    last = next((attempt for attempt in view.attempts_of(view.job) if "endTime" in attempt), None)
    if kept := injected.kept(view.first_pods, last, now):
        return kept, _stop(view)
    if view.nodes > 1 and last is not None and view.accounts.failures > view.policy.get("maxRetries", 0):
        return exhausted(last, view.accounts.failures), _stop(view)
    standing = _standing(view, view.job, last, now)
    times_to_look = (standing.again, deadlines.next_one(view.policy, clock), injected.due(view.first_pods))
    looks = [time for time in times_to_look if time is not None]
    return replace(standing, again=min(looks, default=None)), _together(view)


def _together(view: View) -> tuple[Action, ...]:
    """Return what brings pods that train together back to one start, where some of them have ended."""
    if view.nodes == 1:
        return ()
    if gang.cannot_go_on(view.pods) and "endTime" in view.attempts[0]:
        return _stop(view)
    left = gang.left_over(view.attempts, view.pods)
    return tuple(EvictPod(pod["metadata"]["name"], pod["metadata"]["uid"]) for pod in left)


def _stop(view: View) -> tuple[Action, ...]:
    return () if view.job is None or job_end(view.job) else (DeleteJob(view.job["metadata"]["uid"]),)


def _start(view: View, policy: Policy) -> tuple[Outcome, tuple[Action, ...]]:
    if view.own_job is not None:
        return active(PENDING, "The previous Job is being deleted; a new one follows it."), ()
    if view.other_job is not None:
        return active(PENDING, pending.name_taken(view.other_job)), ()
    backend, refusal = view.spec["backend"], view.observed.refusal
    image = view.spec.get("image") or policy.images.get(backend)
    if image is None:
        return active(PENDING, f"The operator has no image for {backend}: set spec.image, or give it one."), ()
    body = build_job(
        view.pipeline,
        image=image,
        security=policy.security,
        retries=max(view.policy.get("maxRetries", 0) - view.accounts.failures, 0),
        active_deadline_seconds=deadlines.remaining_seconds(view.policy, view.accounts.active_seconds),
    )
    told = active(PENDING, "The Job is being created." if refusal is None else refusal.message)
    first = (CreateService(build_service(view.pipeline)),) if view.nodes > 1 else ()
    return told, (*first, CreateJob(body))


def _standing(view: View, job: Object, last: Object | None, now: datetime) -> Outcome:
    if job["spec"].get("suspend", False):
        return active(QUEUED, "The Job is held back by its queue; `feedline why` asks the queue for the reason.")
    warnings, previous = view.observed.warnings or (), condition(view.pipeline, SUCCEEDED)
    if view.nodes > 1:
        return pending.waiting_together(view, warnings, previous, now)
    return pending.waiting(view.pods, last, warnings, previous, now)


def _nothing_to_tell_yet(view: View, outcome: Outcome, actions: tuple[Action, ...], now: datetime) -> bool:
    """Whether the next moment will say more, and nothing is lost if the operator ends before it."""
    if view.own_job is not None and (end := job_end(view.own_job)):
        # Jobs and pods come by two watches, and only the pod knows why the Job ended.
        is_known = _pods_are_known(view.pods, view.own_job) if view.nodes == 1 else _is_end_known(view)
        return not is_known and _just(end["lastTransitionTime"], now, _POD_SECONDS)
    if outcome.status != "Unknown":
        return False
    if any(isinstance(action, CreateJob) for action in actions):
        # The first status is that of the created Job. What an earlier Job has used up is written first, though.
        return view.observed.refusal is None and "job" not in view.status
    if view.job is not None and view.accounts.started is None and outcome.reason == STARTING:
        # The Job controller is about to start it, and a start is worth a write of its own only if it takes long.
        return _just(view.job["metadata"]["creationTimestamp"], now, _JOB_SECONDS)
    if view.nodes > 1 and not actions and outcome.reason != RUNNING and _just_started(view, now):
        return True
    is_plain = any(isinstance(action, EvictPod) for action in actions) and gang.is_plain(view.attempts[0])
    return not is_plain and _has_just_ended(view, now)


def _has_just_ended(view: View, now: datetime) -> bool:
    ends = [container_state(pod).get("terminated", {}) for pod in view.pods if view.nodes > 1 or pod is view.pods[-1]]
    newest: Object = max(ends, key=lambda end: end.get("finishedAt") or "", default={})
    ended_well = newest.get("exitCode") == ExitCode.OK
    return _just(newest.get("finishedAt"), now, _JOB_SECONDS if ended_well else _SETTLE_SECONDS)


def _just_started(view: View, now: datetime) -> bool:
    """Whether a pod of several has started a moment ago: the next follow it, and each would take a write."""
    began = [container_state(pod).get("running", {}).get("startedAt") for pod in view.pods]
    return any(_just(moment, now, _SETTLE_SECONDS) for moment in began)


def _pods_are_known(pods: Sequence[Object], job: Object) -> bool:
    """Whether all pods that a finished Job has counted are seen to have ended."""
    status = job.get("status", {})
    counted = [pod for pod in pods if disruption(pod) is None or pod["status"].get("phase") == "Succeeded"]
    return all(ended(pod) for pod in pods) and len(counted) >= status.get("failed", 0) + status.get("succeeded", 0)


def _is_end_known(view: View) -> bool:
    """Whether all pods of several are seen to have ended; those that were taken away are gone, and counted."""
    return all(ended(pod) for pod in view.pods) and bool(view.attempts) and "endTime" in view.attempts[0]


def _just(moment: str | None, now: datetime, seconds: float) -> bool:
    time = times.parse(moment)
    # Whoever wrote the time may have a clock that is ahead of this one.
    return time is not None and abs((now - time).total_seconds()) < seconds


def _after_the_end(view: View, now: datetime) -> Plan:
    """Add what the pods still say, stop a Job that still runs, and let the pipeline go when its time is up."""
    new = status.complete(view)
    end = ttl.end(view.pipeline, now)
    return Plan(status=None if new == view.status else new, actions=(*_stop(view), *end.actions), again=end.again)


def _ask_for_more(plan: Plan, view: View, outcome: Outcome, now: datetime) -> Plan:
    """Add whom to ask: the running trainer, or the Events of what does not start."""
    pod, started = view.running_pod, view.accounts.started
    if outcome.reason == RUNNING and pod is not None and (address := pod.get("status", {}).get("podIP")):
        return replace(plan, ask=(pod["metadata"]["uid"], address))
    if view.job is None or started is None or not outcome.unexplained or view.accounts.ran:
        return plan
    due = times.after(started, pending.EVENTS_AFTER_SECONDS)
    if now < due:
        return replace(plan, again=min(due, plan.again or due))
    return replace(plan, look_at=(view.job["metadata"]["uid"], *(pod["metadata"]["uid"] for pod in view.pods)))
