"""The ways that are compared, and what each has shown."""

import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """One way to feed one backend."""

    backend: str
    engine: str
    residency: str

    @property
    def overrides(self) -> list[str]:
        """The changes to the manifest that make this cell."""
        return [
            f"spec.backend={self.backend}",
            f"spec.loader.engine={self.engine}",
            f"spec.loader.residency={self.residency}",
        ]

    def __str__(self) -> str:
        return f"{self.backend} {self.engine} {self.residency}"


@dataclass
class Result:
    """What a cell has shown.

    Attributes
    ----------
    rows_hash
        Sum of the hashes of its rows; equal for cells that deliver the same rows.
    rates
        Rows per second of each round, without the first step.
    wait_permille
        Of each round; empty where the time cannot be seen.
    values
        What the whole training run reported last, such as ``val_accuracy``.
    """

    rows_hash: str = ""
    rates: list[int] = field(default_factory=list)
    wait_permille: list[int] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    @property
    def median_rate(self) -> float:
        """Median of the rounds, rows per second."""
        return statistics.median(self.rates)
