"""What is told of a training among others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from feedline.manifest import Parameter


@dataclass(frozen=True)
class Entry:
    """One training.

    Attributes
    ----------
    name
        By which people know it.
    state
        Running, Complete, Pruned or Failed.
    parameters
        What it has in its own way.
    value
        The best value of the objective; None before the first.
    curve
        Rows trained on and the value then; a value may be no number.
    samples_per_second, wait_permille
        Rows trained on a second, and thousandths of the time spent waiting for data; None where it is not known.
    cause
        Why it waits, in a word; "" where it does not.
    message
        Why it failed or was ended early.
    is_repeated
        Whether it is another training once more, and was not chosen.
    """

    name: str
    state: str
    parameters: Mapping[str, Parameter]
    value: float | None = None
    curve: Sequence[tuple[int, float]] = ()
    samples_per_second: int | None = None
    wait_permille: int | None = None
    cause: str = ""
    message: str = ""
    is_repeated: bool = False


@dataclass(frozen=True)
class Overview:
    """Trainings that are compared, the best first.

    Attributes
    ----------
    title
        What they are.
    value
        The name of the objective; "" where there is none.
    is_maximized
        Whether more of it is better.
    logarithmic
        Names of the parameters of which a factor matters, and not a difference.
    """

    title: str
    value: str
    is_maximized: bool
    entries: Sequence[Entry]
    logarithmic: frozenset[str] = field(default_factory=frozenset)

    @property
    def parameters(self) -> list[str]:
        """The names of all parameters, in the order in which they come."""
        return list(dict.fromkeys(name for entry in self.entries for name in entry.parameters))

    @property
    def best(self) -> Entry | None:
        """The best training of those that came to their end and have a value."""
        first = next(iter(self.entries), None)
        return first if first is not None and first.state == "Complete" and first.value is not None else None

    @property
    def most_waiting(self) -> Entry | None:
        """The training that waits most for data, where one waits."""
        waiting = [entry for entry in self.entries if entry.wait_permille]
        return max(waiting, key=lambda entry: entry.wait_permille or 0, default=None)
