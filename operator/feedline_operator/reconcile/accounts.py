"""What earlier Jobs of a pipeline have used up of its time and its retries.

Job and accounts are written to the status together, as one fact: these totals include this Job since that time. So a
crash between a write and the next one neither forgets a Job nor counts it twice.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feedline_operator.reconcile import times
from feedline_operator.reconcile.observed import Object, condition


@dataclass(frozen=True)
class Accounts:
    """Totals of a pipeline.

    Attributes
    ----------
    active_seconds
        Time of all runs before the current one. A run lasts from a start of a Job to its end or suspension.
    failures_before
        Failures of the Jobs before the current one.
    job
        What status says about the current Job: uid, startTime, firstRunTime, failures. None without a Job.
    """

    active_seconds: int
    failures_before: int
    job: dict[str, Any] | None

    @property
    def failures(self) -> int:
        """Failures of all Jobs, the current one included."""
        return self.failures_before + int((self.job or {}).get("failures", 0))

    @property
    def started(self) -> datetime | None:
        """When the current run began, None while there is none."""
        return times.parse((self.job or {}).get("startTime"))

    @property
    def ran(self) -> bool:
        """Whether a container of the current run was ever seen running."""
        return "firstRunTime" in (self.job or {})


def settle(
    status: Object, job: Object | None, running_since: str | None, now: datetime, failures: int | None = None
) -> Accounts:
    """Return the accounts with what is seen now.

    Parameters
    ----------
    status
        The pipeline's status as it was written last.
    job
        The current Job, None if there is none or if it is on its way out.
    running_since
        Since when the container of the Job's newest pod runs or ran, None if it did not.
    failures
        How many failures there are that the status does not have yet; None where the Job counts them.
    """
    known = status.get("job")
    active_seconds = status.get("activeSeconds", 0)
    before = status.get("failures", 0) - (known or {}).get("failures", 0)
    seen = None if job is None else _seen(job, known, running_since, failures)
    if known is not None and (seen is None or seen["uid"] != known["uid"]):
        before += known.get("failures", 0)
    if known is not None and (seen is None or not _same_run(seen, known)):
        active_seconds += _seconds_of(known, job, now)
    return Accounts(active_seconds, before, seen)


def _seen(job: Object, known: Object | None, running_since: str | None, more: int | None) -> dict[str, Any]:
    status, uid = job.get("status", {}), job["metadata"]["uid"]
    before = known.get("failures", 0) if known is not None and known["uid"] == uid else 0
    # The Job's own count falls when a replaced pod is removed by hand.
    failures = max(status.get("failed", 0), before) if more is None else before + more
    seen = {"uid": uid, "startTime": status.get("startTime"), "failures": failures}
    if known is not None and _same_run(seen, known):
        seen["firstRunTime"] = known.get("firstRunTime", running_since)
    else:
        seen["firstRunTime"] = running_since
    return {field: value for field, value in seen.items() if value is not None}


def _same_run(seen: Object, known: Object) -> bool:
    return bool(seen["uid"] == known["uid"] and seen.get("startTime") == known.get("startTime"))


def _seconds_of(known: Object, job: Object | None, now: datetime) -> int:
    start = times.parse(known.get("startTime"))
    # A queue manager that suspends a Job clears its startTime; the condition says when.
    suspended = None if job is None else condition(job, "Suspended")
    end = times.parse(suspended["lastTransitionTime"]) if suspended is not None else None
    if start is None:
        return 0
    return max(int(((end if end is not None and end >= start else now) - start).total_seconds()), 0)
