"""Cleaning up: a finished pipeline goes some time after its end, if it says so, and takes its Job with it.

The Job never goes first: without it the pipeline's logs would be gone while the pipeline still shows them as there.
"""

from datetime import datetime

from feedline_operator.reconcile import times
from feedline_operator.reconcile.observed import Object
from feedline_operator.reconcile.plan import DeletePipeline, Plan


def end(pipeline: Object, now: datetime) -> Plan:
    """Return the deletion of a finished pipeline, or when to come back for it."""
    seconds = pipeline["spec"].get("policy", {}).get("ttlSecondsAfterFinished")
    completed = times.parse(pipeline.get("status", {}).get("completionTime"))
    if seconds is None or completed is None:
        return Plan()
    due = times.after(completed, seconds)
    if now < due:
        return Plan(again=due)
    metadata = pipeline["metadata"]
    return Plan(actions=(DeletePipeline(metadata["uid"], metadata["resourceVersion"]),))
