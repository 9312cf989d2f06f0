"""What an array of a batch is, whatever its values."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ArraySpec:
    """One array of a batch.

    Attributes
    ----------
    dtype
        Of one element.
    row_shape
        Of one row; a batch is ``[rows, *row_shape]``.
    """

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * prod(self.row_shape)

    def __str__(self) -> str:
        """Return it as errors name it."""
        return f"{self.dtype.name}, rows of shape {list(self.row_shape)}"
