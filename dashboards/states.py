"""The states of a pipeline, as the dashboards group and color them."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Group:
    """States that mean the same to who looks: the number that stands for them, name and color."""

    code: int
    name: str
    color: str
    reasons: tuple[str, ...]


WAITING: Final = Group(1, "Waiting", "yellow", ("Pending", "Queued", "Starting"))
SUSPENDED: Final = Group(2, "Suspended", "text", ("Suspended",))
IN_TROUBLE: Final = Group(3, "In trouble", "orange", ("Retrying", "ImagePullFailed"))
RUNNING: Final = Group(4, "Running", "blue", ("Running",))
COMPLETED: Final = Group(5, "Completed", "green", ("Completed", "Stopped"))
FAILED: Final = Group(
    6,
    "Failed",
    "red",
    (
        "InvalidSpec",
        "DataInvalid",
        "UserError",
        "EnvironmentInvalid",
        "OutOfMemory",
        "RetriesExhausted",
        "StartDeadlineExceeded",
        "DeadlineExceeded",
        "InternalError",
    ),
)
GROUPS: Final = (WAITING, SUSPENDED, IN_TROUBLE, RUNNING, COMPLETED, FAILED)


def alternatives(*groups: Group) -> str:
    """Return the states of groups as a regular expression."""
    return "|".join(reason for group in groups for reason in group.reasons)
