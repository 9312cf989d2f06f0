"""The shape of an epoch: how many steps it has, and which places of its order each step takes on each rank. Pure."""

from dataclasses import dataclass
from typing import Literal

LastBatch = Literal["drop", "keep"]


@dataclass(frozen=True)
class Plan:
    """The shape of an epoch: how many steps it has and which slice of its order each step takes.

    Parameters
    ----------
    rows
        Rows of the data set, at least 1.
    batch_size
        Rows of a batch over all ranks.
    last_batch
        ``"drop"`` omits the ``rows % batch_size`` last rows of the order, ``"keep"`` makes a smaller batch of them.
    rank, world
        This process takes the `rank`-th of `world` contiguous equal parts of every batch.
    """

    rows: int
    batch_size: int
    last_batch: LastBatch = "drop"
    rank: int = 0
    world: int = 1

    @property
    def local_batch_size(self) -> int:
        """Rows of a full batch on this rank."""
        return self.batch_size // self.world

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        full, rest = divmod(self.rows, self.batch_size)
        return full + (1 if rest and self.last_batch == "keep" else 0)

    def span(self, step: int) -> tuple[int, int]:
        """Start and stop of the rows of `step` in the epoch's order, on this rank."""
        start = step * self.batch_size + self.rank * self.local_batch_size
        return start, min(start + self.local_batch_size, self.rows)
