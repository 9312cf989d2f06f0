"""What belongs to the run, and of several ranks to each, and not to an object that was registered."""

from collections.abc import Mapping
from typing import Any, Final

from feedline.checkpoints import Randomness, packed, unpacked
from feedline.training.sums import Sums

_NAME: Final = "rank"


class Own:
    """Random generators and sums, as `checkpoints.State` has them.

    Parameters
    ----------
    sums
        The run's.
    rank
        Whose they are.

    Attributes
    ----------
    others
        What the other ranks add, by rank; the chief gathers it before it saves.
    """

    is_model = False

    def __init__(self, sums: Sums, rank: int = 0) -> None:
        self._sums, self._rank = sums, rank
        self._random: Any = None  # to be restored where the run goes on
        self.randomness = Randomness()
        self.others: dict[int, bytes] = {}

    def get(self) -> Any:
        """Return this rank's, and what was gathered of the others."""
        found: dict[str, Any] = {"random": self.randomness.get(), "sums": dict(self._sums)}
        if self.others:
            found["ranks"] = {str(rank): unpacked(content) for rank, content in self.others.items()}
        return found

    def share(self) -> bytes:
        """Return this rank's as bytes, for the chief."""
        return packed(_NAME, self)

    def put(self, state: Mapping[str, Any], world: int = 1) -> None:
        """Take over what was saved of this rank; where there were others, sums that none has go to the first."""
        ranks = state.get("ranks", {})
        if len(ranks) + 1 == world:
            mine = ranks[str(self._rank)] if self._rank else state
            self._random, sums = mine["random"], mine["sums"]
        else:
            self._random = None if self._rank else state["random"]
            sums = {} if self._rank else _total([state["sums"], *(each["sums"] for each in ranks.values())])
        self._sums.restore(sums)

    def restore_randomness(self) -> None:
        """Have what is drawn from here on be what was drawn from there on; once, where the run goes on."""
        if self._random is not None:
            self.randomness.put(self._random)
            self._random = None


def _total(sums: list[Mapping[str, Any]]) -> dict[str, Any]:
    total = Sums()
    for each in sums:
        total.add(**each)
    return dict(total)
