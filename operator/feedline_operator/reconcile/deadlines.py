"""The two deadlines, both counted from the Job's start, so that time in a queue is free.

The operator enforces them, since only it knows the time of earlier Jobs; the Job's own deadline is a backstop.
"""

from dataclasses import dataclass
from datetime import datetime

from feedline_operator.reconcile import times
from feedline_operator.reconcile.observed import Object
from feedline_operator.reconcile.outcome import DEADLINE_EXCEEDED, START_DEADLINE_EXCEEDED, Outcome, failed


@dataclass(frozen=True)
class Clock:
    """What the deadlines are counted from.

    `started` is when the current Job was started, None while it waits in a queue or does not exist; `ran` whether a
    container of it ever ran, of each pod where there are several; `active_seconds` the time of earlier Jobs.
    """

    started: datetime | None
    ran: bool
    active_seconds: int
    nodes: int = 1


def remaining_seconds(policy: Object, active_seconds: int) -> int | None:
    """Return what earlier Jobs have left of the active deadline, None without one."""
    limit = policy.get("activeDeadlineSeconds")
    return None if limit is None else max(limit - active_seconds, 0)


def exceeded(policy: Object, clock: Clock, now: datetime) -> Outcome | None:
    """Return the failure if a deadline of `spec.policy` has passed."""
    running_for = 0.0 if clock.started is None else (now - clock.started).total_seconds()
    left = remaining_seconds(policy, clock.active_seconds)
    if left is not None and running_for >= left:
        limit = policy["activeDeadlineSeconds"]
        return failed(DEADLINE_EXCEEDED, f"Active longer than spec.policy.activeDeadlineSeconds ({limit} s).")
    limit = policy.get("startDeadlineSeconds")
    if limit is not None and clock.started is not None and not clock.ran and running_for >= limit:
        who = "No container" if clock.nodes == 1 else f"Not all {clock.nodes} pods"
        return failed(START_DEADLINE_EXCEEDED, f"{who} ran within spec.policy.startDeadlineSeconds ({limit} s).")
    return None


def next_one(policy: Object, clock: Clock) -> datetime | None:
    """Return when the next deadline passes."""
    if clock.started is None:
        return None
    left = [remaining_seconds(policy, clock.active_seconds), None if clock.ran else policy.get("startDeadlineSeconds")]
    return min((times.after(clock.started, seconds) for seconds in left if seconds is not None), default=None)
