"""What was seen of one sweep, and what is to be done about it, for whoever can do it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feedline_operator.reconcile import Refusal, Sample, Transition

Object = Mapping[str, Any]


@dataclass(frozen=True)
class ObservedSweep:
    """A sweep, the pipelines that call themselves its trials, with what each said last, and why none was taken.

    `unchanged` says why a trial could not be changed that was to be; "" where all were.
    """

    sweep: Object
    trials: tuple[tuple[Object, Sample | None], ...] = ()
    refusal: Refusal | None = None
    unchanged: str = ""


@dataclass(frozen=True)
class ChangeTrial:
    """PATCH this into the trial with this name, if it has this uid still."""

    name: str
    uid: str
    change: Object


@dataclass(frozen=True)
class SweepPlan:
    """The status is written first, then trials are changed, then the transitions told, then other trials begun.

    `lost` are trials to delete first, which begin again. `start` are numbers of trials to create, one after the other,
    each with what is suggested by then. `delete` says that the sweep's time is up.
    """

    status: Object | None = None
    changes: tuple[ChangeTrial, ...] = ()
    lost: tuple[Object, ...] = ()
    start: tuple[int, ...] = ()
    transitions: tuple[Transition, ...] = ()
    again: datetime | None = None
    delete: bool = False
