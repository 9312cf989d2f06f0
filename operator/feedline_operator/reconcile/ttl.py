"""Cleaning up: a finished pipeline goes some time after its end, if it says so, and takes its Job with it.

The Job never goes first: without it the pipeline's logs would be gone while the pipeline still shows them as there.
"""

from datetime import datetime

from feedline_operator.reconcile import times
from feedline_operator.reconcile.observed import Object
from feedline_operator.reconcile.plan import DeletePipeline, Plan


def due(spec: Object, status: Object) -> datetime | None:
    """Return when a finished pipeline is to go, None if it may stay."""
    seconds = spec.get("policy", {}).get("ttlSecondsAfterFinished")
    completed = times.parse(status.get("completionTime"))
    return None if seconds is None or completed is None else times.after(completed, seconds)


def end(pipeline: Object, now: datetime) -> Plan:
    """Return the deletion of a finished pipeline, or when to come back for it."""
    time = due(pipeline["spec"], pipeline.get("status", {}))
    if time is None or now < time:
        return Plan(again=time)
    metadata = pipeline["metadata"]
    return Plan(actions=(DeletePipeline(metadata["uid"], metadata["resourceVersion"]),))
