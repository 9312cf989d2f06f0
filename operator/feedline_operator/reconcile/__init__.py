"""What to do about a pipeline: a pure function of what was seen, the time and the settings.

Everything that feedline decides about a cluster is decided here, one policy a file. Nothing in here knows a client, a
clock or a task; time comes in, a plan goes out, and whoever carries it out comes back with what happened.
"""

from feedline_operator.reconcile.attempts import uids
from feedline_operator.reconcile.engine import reconcile
from feedline_operator.reconcile.observed import Observed, Refusal, Sample, Warned, owned_by
from feedline_operator.reconcile.pending import name_taken, service_taken
from feedline_operator.reconcile.plan import (
    CreateJob,
    CreateService,
    DeleteJob,
    DeletePipeline,
    EvictPod,
    Plan,
    Policy,
    Transition,
)

__all__ = [
    "CreateJob",
    "CreateService",
    "DeleteJob",
    "DeletePipeline",
    "EvictPod",
    "Observed",
    "Plan",
    "Policy",
    "Refusal",
    "Sample",
    "Transition",
    "Warned",
    "name_taken",
    "owned_by",
    "reconcile",
    "service_taken",
    "uids",
]
