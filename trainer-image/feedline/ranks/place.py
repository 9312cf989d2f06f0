"""Which of the processes of a training this one is, by the variables that torchrun gives to each. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Place:
    """One process among those that train together.

    Attributes
    ----------
    rank, world
        Its number, from 0, and how many there are.
    local_rank, local_world
        The same among those of its machine, or pod.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether it is the one that writes what all of them have in common."""
        return self.rank == 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Place":
        """Return the place that torchrun's variables tell; alone where there are none."""
        if "TORCHELASTIC_RUN_ID" not in environment:
            return ALONE
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(environment[name]) for name in names))


ALONE: Final = Place()
