"""How far a feed is, as JSON, and whether such a state belongs to another one. Pure."""

from collections.abc import Mapping
from typing import Any

from feedline.errors import UsageError
from feedline.feed.claims import Position


def state_of(position: Position, fingerprint: Mapping[str, Any], modified_ns: int) -> dict[str, Any]:
    """Return the state of a feed that goes on at `position`."""
    return {
        "epoch": position.epoch,
        "step": position.step,
        "fingerprint": dict(fingerprint),
        "modified": modified_ns,
    }


def position_of(state: Mapping[str, Any], fingerprint: Mapping[str, Any], steps: int) -> tuple[Position, int]:
    """Return where a state goes on, and when the newest of its files had been modified, in nanoseconds.

    Parameters
    ----------
    state
        From `state_of`, by whatever way.
    fingerprint, steps
        Of the feed that is to go on there, and of its epochs.

    Raises
    ------
    UsageError
        It is no state, or belongs to other rows or another order; what differs is named.
    """
    try:
        epoch, step, theirs, modified = (state[key] for key in ("epoch", "step", "fingerprint", "modified"))
        # Without weights a feed says nothing of a draw, and without transforms nothing of these.
        names = dict.fromkeys((*fingerprint, "draw", "transforms"))
        differing = [name for name in names if theirs.get(name) != fingerprint.get(name)]
    except (KeyError, TypeError, AttributeError):
        raise UsageError("state: this is no state of a feed") from None
    if differing:
        told = ", ".join(f"{name} was {theirs.get(name)} and is {fingerprint.get(name)}" for name in differing)
        raise UsageError(f"state: belongs to another feed: {told}")
    if type(epoch) is not int or type(step) is not int or not 0 <= epoch < 2**64 or not 0 <= step < steps:
        raise UsageError(f"state: epoch {epoch} and step {step} are not in this feed")
    return Position(epoch, step), modified
