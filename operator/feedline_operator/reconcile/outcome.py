"""How a pipeline stands, in the one word of the STATE column and a message: what every policy returns.

The words are a closed set; they are in the description of the CRD's conditions.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

PENDING: Final = "Pending"
QUEUED: Final = "Queued"
STARTING: Final = "Starting"
RUNNING: Final = "Running"
SUSPENDED: Final = "Suspended"
RETRYING: Final = "Retrying"
IMAGE_PULL_FAILED: Final = "ImagePullFailed"
COMPLETED: Final = "Completed"
STOPPED: Final = "Stopped"
INVALID_SPEC: Final = "InvalidSpec"
RETRIES_EXHAUSTED: Final = "RetriesExhausted"
START_DEADLINE_EXCEEDED: Final = "StartDeadlineExceeded"
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
INTERNAL_ERROR: Final = "InternalError"


@dataclass(frozen=True)
class Outcome:
    """What the condition Succeeded says.

    `status` is Unknown while the pipeline is active. `again` is when this may change without any event. `unexplained`
    says that Events, if anything, tell why it goes no further.
    """

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    again: datetime | None = None
    unexplained: bool = False


def active(reason: str, message: str, again: datetime | None = None, *, unexplained: bool = False) -> Outcome:
    """Return an outcome that is not the last."""
    return Outcome("Unknown", reason, message, again, unexplained)


def failed(reason: str, message: str) -> Outcome:
    """Return a failure for good."""
    return Outcome("False", reason, message)
