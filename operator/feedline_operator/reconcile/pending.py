"""Why nothing runs yet: in one message, from the pod's own status where that says it, else from Events."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from feedline.contract import FATAL_EXIT_CODES, ExitCode
from feedline_operator.reconcile import gang, times
from feedline_operator.reconcile.observed import (
    Object,
    Warned,
    condition,
    container_state,
    deleting,
    ended,
    index_of,
    is_of_pipeline,
)
from feedline_operator.reconcile.outcome import (
    IMAGE_PULL_FAILED,
    PENDING,
    RETRYING,
    RUNNING,
    STARTING,
    Outcome,
    active,
)
from feedline_operator.reconcile.view import View
from feedline_operator.untrusted import clean

EVENTS_AFTER_SECONDS: Final = 30
"""Events are asked for when no container runs this long after the Job's start; most pods run sooner."""
_UNREACHABLE_AFTER_SECONDS: Final = 30
"""The kubelet had the pod's grace period to confirm its end, and this."""
_IMAGE_REASONS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
# No attempt follows them, though a busy Job controller may take some seconds to say so.
_DECIDED: Final = frozenset({ExitCode.OK, *FATAL_EXIT_CODES})
_BENIGN: Final = frozenset({"ContainerCreating", "PodInitializing"})
# The same words from the Job's creation until the pod runs: a status is written when there is news, and this is none.
_ON_ITS_WAY: Final = active(STARTING, "The Job was created; its pod is on its way.", unexplained=True)


def name_taken(job: Object) -> str:
    """Return what keeps the pipeline waiting: a Job that has its name and is not its own."""
    name = job["metadata"]["name"]
    if is_of_pipeline(job):
        return f"The Job {name} of an earlier pipeline of this name is still being deleted."
    return f"A Job {name} is there already and is not feedline's: delete it, or name the pipeline otherwise."


def service_taken(service: Object) -> str:
    """Return what keeps the pipeline waiting: a Service that has the name of its own."""
    name = service["metadata"]["name"]
    if is_of_pipeline(service):
        return f"The Service {name} of an earlier pipeline of this name is still being deleted."
    return f"A Service {name} is there already and is not feedline's: delete it, or name the pipeline otherwise."


def waiting(
    pods: Sequence[Object], last: Object | None, warnings: Sequence[Warned], previous: Object | None, now: datetime
) -> Outcome:
    """Return how a Job stands that is neither finished nor suspended.

    Parameters
    ----------
    pods
        The Job's pods, newest last.
    last
        The newest attempt of the Job that has ended.
    warnings
        What Events say about the Job and its pods, causes first and the newest of them first.
    previous
        The condition Succeeded as it was written last.
    """
    live = [pod for pod in pods if not ended(pod)]
    if not live:
        if last is not None and last.get("exitCode") in _DECIDED:
            return active(RUNNING, f"Attempt {last['index']} has ended ({last['reason']}); its Job is about to say so.")
        if last is not None:
            return active(RETRYING, f"Attempt {last['index']} ended ({last['reason']}): {last.get('message', '')}")
        return _uncreated(warnings)
    pod = live[-1]
    if deleting(pod):
        return _leaving(pod, now)
    if "running" in container_state(pod):
        return active(RUNNING, f"Training on node {pod['spec'].get('nodeName', '')}.")
    return _not_running(pod, warnings, previous)


def waiting_together(view: View, warnings: Sequence[Warned], previous: Object | None, now: datetime) -> Outcome:
    """Return how a Job of several pods stands, as `waiting` does for one."""
    nodes, last = view.nodes, view.attempts[0] if view.attempts else None
    run = gang.running(view.attempts, view.pods)
    if len(run) == nodes:
        return active(RUNNING, f"Training on {nodes} nodes, with the first pod on node {_node(run[0])}.")
    if last is not None and "endTime" in last and last in view.attempts_of(view.job or {}):
        if last.get("exitCode") in _DECIDED:
            return active(RUNNING, f"Attempt {last['index']} has ended ({last['reason']}); its Job is about to say so.")
        said = f"Attempt {last['index']} ended ({last['reason']}): {last.get('message', '')}"
        held = [_leaving(pod, now) for pod in view.pods if not ended(pod) and deleting(pod)]
        if stuck := [each for each in held if each.again is None]:
            return stuck[0]
        again = min((each.again for each in held if each.again is not None), default=None)
        return active(RETRYING, f"{said}; all {nodes} pods start anew.", again)
    live = {index_of(pod): pod for pod in view.pods if not ended(pod)}
    waits = {index: _ones_wait(live.get(index), warnings, now) for index in range(nodes) if index not in run}
    index = min(waits, key=lambda each: (waits[each] == _ON_ITS_WAY, each))
    name = live[index]["metadata"]["name"] if index in live else f"pod {index}"
    why = waits[index]
    if previous is not None and why.reason == previous["reason"] == IMAGE_PULL_FAILED and name in previous["message"]:
        return active(IMAGE_PULL_FAILED, previous["message"])
    told = f"{len(run)} of {nodes} pods run; {name} waits: {why.message}"
    return replace(why, message=told)


def _node(pod: Object) -> str:
    return str(pod["spec"].get("nodeName", ""))


def _ones_wait(pod: Object | None, warnings: Sequence[Warned], now: datetime) -> Outcome:
    if pod is None:
        return _uncreated(warnings)
    return _leaving(pod, now) if deleting(pod) else _not_running(pod, warnings, None)


def _uncreated(warnings: Sequence[Warned]) -> Outcome:
    if created := [warned for warned in warnings if warned.reason == "FailedCreate"]:
        return active(PENDING, f"Kubernetes refuses to create the pod: {created[0].message}", unexplained=True)
    return _ON_ITS_WAY


def _leaving(pod: Object, now: datetime) -> Outcome:
    name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
    # The API server sets this time to the end of the grace period.
    confirmed_by = times.after(times.parse(pod["metadata"]["deletionTimestamp"]) or now, _UNREACHABLE_AFTER_SECONDS)
    if now < confirmed_by:
        return active(RETRYING, f"Pod {name} is being taken off node {node}; another one follows it.", confirmed_by)
    return active(
        RETRYING,
        f"Node {node} does not confirm that pod {name} has ended, and no second pod starts beside it; "
        f"bring the node back, or, if it is gone for good, run: kubectl delete node {node}",
    )


def _not_running(pod: Object, warnings: Sequence[Warned], previous: Object | None) -> Outcome:
    scheduled = condition(pod, "PodScheduled")
    if scheduled is not None and scheduled["status"] == "False":
        return active(PENDING, f"No node takes the pod: {clean(scheduled.get('message', scheduled.get('reason', '')))}")
    state = container_state(pod).get("waiting", {})
    reason = state.get("reason", "")
    if reason in _IMAGE_REASONS:
        # The kubelet's words alternate between the error and the back-off; the first ones stay.
        if previous is not None and previous["reason"] == IMAGE_PULL_FAILED:
            return active(IMAGE_PULL_FAILED, previous["message"])
        return active(IMAGE_PULL_FAILED, f"An image cannot be pulled: {clean(state.get('message') or reason)}")
    if reason and reason not in _BENIGN:
        return active(STARTING, f"The container cannot start: {reason}, {clean(state.get('message', ''))}")
    if warnings:
        return active(STARTING, f"The pod cannot start: {warnings[0].message}", unexplained=True)
    return _ON_ITS_WAY
