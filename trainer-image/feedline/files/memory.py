"""Where rows lie that are read into memory."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Memory(Protocol):
    """Gives room to the rows of arrays."""

    def room(self, name: str, size: int) -> tuple[NDArray[np.uint8], bool]:
        """Return room for the bytes of an array, ``[size]``, and whether they are there already."""

    def filled(self) -> None:
        """Note that all rows are there."""


class Private:
    """The memory of this process."""

    def room(self, name: str, size: int) -> tuple[NDArray[np.uint8], bool]:
        """Return empty room."""
        del name
        return np.empty(size, np.uint8), False

    def filled(self) -> None:
        """Do nothing: nobody else looks."""
