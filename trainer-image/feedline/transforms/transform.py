"""What all transforms that a manifest can name have in common: they say what comes out before anything goes in."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.errors import UsageError
from feedline.native import Conversion
from feedline.transforms.spec import ArraySpec

Batch = dict[str, NDArray[Any]]


class Transform(ABC):
    """A function of each row by itself, of known dtypes and shapes."""

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The arrays that it takes, which are no more what they were."""

    @property
    @abstractmethod
    def writes(self) -> str:
        """The array that it makes."""

    @abstractmethod
    def outputs(self, specs: Mapping[str, ArraySpec]) -> dict[str, ArraySpec]:
        """Return what a batch is after it.

        Raises
        ------
        UsageError
            It takes no such batch.
        """

    @abstractmethod
    def apply(self, batch: Batch, out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write what it makes of a batch to `out`; `rows` are the numbers of its rows, for errors."""

    @abstractmethod
    def told(self) -> dict[str, Any]:
        """Return what it does, as JSON: two that say the same do the same."""

    def conversion(self, spec: ArraySpec) -> Conversion | None:  # noqa: ARG002 - most have none
        """Return what compiled code does of it to an array, the only one that it concerns; None where it cannot."""
        return None


@dataclass(frozen=True)
class OfOne(Transform):
    """A transform of one array.

    Parameters
    ----------
    array
        Its name, before and after.
    """

    array: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The array."""
        return (self.array,)

    @property
    def writes(self) -> str:
        """The array."""
        return self.array

    def outputs(self, specs: Mapping[str, ArraySpec]) -> dict[str, ArraySpec]:
        """Return what a batch is after it."""
        return {**specs, self.array: self.output(known(specs, self.array, self))}

    def apply(self, batch: Batch, out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write what it makes of a batch to `out`."""
        self.write(batch[self.array], out, rows)

    @abstractmethod
    def output(self, spec: ArraySpec) -> ArraySpec:
        """Return what its array is after it."""

    @abstractmethod
    def write(self, values: NDArray[Any], out: NDArray[Any], rows: NDArray[np.intp]) -> None:
        """Write what it makes of an array's values to `out`."""

    def refuse(self, why: str) -> UsageError:
        """Return the error that says why it does not take its array."""
        return UsageError(f"{word(self)} of {self.array}: {why}")


def word(transform: Transform) -> str:
    """Return the name by which a manifest knows a transform."""
    name = type(transform).__name__
    return name[0].lower() + name[1:]


def known(specs: Mapping[str, ArraySpec], name: str, by: Transform) -> ArraySpec:
    """Return what an array is.

    Raises
    ------
    UsageError
        There is none of that name.
    """
    if name not in specs:
        raise UsageError(f"{word(by)} of {name}: there is no such array here, only {', '.join(sorted(specs))}")
    return specs[name]
