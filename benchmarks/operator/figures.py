"""A figure that must hold: what was wanted, what was measured, whether it is met, and what it consists of."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One row of the table. `detail` is what the figure was made from, for the JSON."""

    what: str
    wanted: str
    measured: str
    met: bool
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Return the verdict in a word."""
        return "met" if self.met else "NOT MET"


def table(headings: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---" for _ in headings], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
