"""How the steps of a run are cut into claims: consecutive batches that one thread gathers into one slot. Pure."""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from feedline.order import Plan
from feedline.transforms import Spent

_GROWTH = 4
_GROWING = 16
"""Claims until any slot is full."""


class Position(NamedTuple):
    """A place in the run: the next step of an epoch."""

    epoch: int
    step: int


class Work(NamedTuple):
    """What filling one slot took, or all so far."""

    busy_seconds: float = 0.0
    rows: int = 0
    minor_faults: int = 0
    major_faults: int = 0
    transform_seconds: float = 0.0
    functions: Spent = Spent()

    def plus(self, other: "Work") -> "Work":
        """Return both together."""
        return Work(
            self.busy_seconds + other.busy_seconds,
            self.rows + other.rows,
            self.minor_faults + other.minor_faults,
            self.major_faults + other.major_faults,
            self.transform_seconds + other.transform_seconds,
            self.functions.plus(other.functions),
        )


class Claim(NamedTuple):
    """Consecutive batches of one epoch that one thread gathers, the `number`-th since `generation` began."""

    generation: int
    number: int
    position: Position
    batches: int


class Slot(NamedTuple):
    """The gathered batches of a claim: for each array ``[batches, batch_size, *row_shape]``."""

    claim: Claim
    views: tuple[NDArray[Any], ...]
    work: Work


class Failed(NamedTuple):
    """What came in place of the batches of a claim."""

    claim: Claim
    error: BaseException


class Claims:
    """The claims of a run, one after the other.

    Parameters
    ----------
    plan
        The shape of an epoch.
    batches_per_slot
        Batches of a claim, at most.
    epochs
        How many there are; None goes on for ever.
    """

    def __init__(self, plan: Plan, batches_per_slot: int, epochs: int | None) -> None:
        self._plan, self._epochs = plan, epochs
        self.batches_per_slot = batches_per_slot

    def is_due(self, epoch: int) -> bool:
        """Return whether an epoch is one of the run."""
        return self._epochs is None or epoch < self._epochs

    def sized(self, claim: Claim) -> Claim:
        """Return a claim with its number of batches; a smaller last batch has a slot of its own.

        The first claim is one batch, and each that follows some times as many, up to a whole slot: nobody waits for a
        thousand small batches before the first one, which may come from a disk.
        """
        step, full = claim.position.step, self._plan.rows // self._plan.batch_size
        most = self.batches_per_slot
        if claim.number < _GROWING:
            most = min(most, _GROWTH**claim.number)
        return claim._replace(batches=min(most, full - step) if step < full else 1)

    def is_growing(self, claim: Claim) -> bool:
        """Return whether a claim is smaller than those that follow."""
        return claim.number < _GROWING and claim.batches < self.batches_per_slot

    def batches_in(self, claim: Claim, claims: int) -> int:
        """Return the batches of so many claims, from one on."""
        total = 0
        for _ in range(claims):
            claim = self.sized(claim)
            total += claim.batches
            claim = self.after(claim)
        return total

    def after(self, claim: Claim) -> Claim:
        """Return the claim that follows, its batches not yet decided."""
        epoch, step = claim.position.epoch, claim.position.step + claim.batches
        position = Position(epoch, step) if step < self._plan.steps else Position(epoch + 1, 0)
        return Claim(claim.generation, claim.number + 1, position, 0)
