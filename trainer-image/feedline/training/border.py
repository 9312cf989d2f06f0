"""Where a run stands when no step is under way, and what who saves it asks of the run. Nothing is saved here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Border:
    """Where a run stands when no step is under way.

    Attributes
    ----------
    step
        Steps trained.
    epochs
        Epochs that were trained to their end.
    is_clean
        Whether all that was done since the last step is done again by nobody who goes on from here: between two steps
        of an epoch, and between two epochs, but neither before the first step of one nor behind its last one.
    is_last
        Whether one step of the epoch is left.
    """

    step: int
    epochs: int
    is_clean: bool
    is_last: bool


class Saved(Protocol):
    """What the saver asks of the run."""

    def border(self) -> Border:
        """Return where the run stands."""

    def facts(self) -> dict[str, Any]:
        """Return what another run must have in common to go on from here."""

    def progress(self) -> dict[str, Any]:
        """Return the rest of what the run knows of itself, as JSON."""

    def go_on(self, progress: Mapping[str, Any]) -> None:
        """Go on from there."""

    def objective_now(self) -> str | None:
        """Return the newest value of the objective."""

    def best_step(self) -> int | None:
        """Return the step at which the objective was best."""

    def pause(self) -> None:
        """Note that what comes now is neither a step nor a wait for data."""
