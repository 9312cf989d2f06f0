"""Numbers made wider where they are to be. `convert.c` says how."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.native.library import library, wrong

_FLOATS: Final = ("uint8", "int8", "uint16", "int16", "float16", "float32")
_INT32: Final = ("uint8", "int8", "uint16", "int16")
_KNOWN: Final = {
    **dict.fromkeys((source, "float32") for source in _FLOATS),
    **dict.fromkeys((source, "int32") for source in _INT32),
    **dict.fromkeys((source, "int64") for source in (*_INT32, "uint32", "int32")),
}


@dataclass(frozen=True)
class Conversion:
    """Numbers of one dtype as those of another that is as wide or wider; floats times `by`, plus `offset`."""

    source: np.dtype[Any]
    target: np.dtype[Any]
    by: float = 1.0
    offset: float = -0.0  # which changes no number, as 0.0 would -0.0

    def apply(self, memory: NDArray[np.uint8]) -> None:
        """Fill `memory`, contiguous bytes, with results; what is stored lies at its end. The interpreter is free."""
        if memory.ndim != 1 or not memory.flags.c_contiguous or memory.size % self.target.itemsize:
            raise ValueError(f"memory must be bytes in one piece, of whole {self.target.name}")
        _function()(
            _code(self.source),
            _code(self.target),
            memory.size // self.target.itemsize,
            self.by,
            self.offset,
            memory.__array_interface__["data"][0],
        )


def conversion(source: np.dtype[Any], target: np.dtype[Any]) -> Conversion | None:
    """Return what makes `target` of numbers of `source`; None where NumPy has to.

    Raises
    ------
    EnvironmentInvalidError
        As `library` does, or the library converts wrongly.
    """
    is_known = (source.name, target.name) in _KNOWN and source.isnative and target.isnative
    return Conversion(source, target) if is_known and _tried() else None


def _code(dtype: np.dtype[Any]) -> int:
    return ord(dtype.kind) * 16 + dtype.itemsize


def _function() -> Any:
    return library().feedline_convert


@cache
def _tried() -> bool:
    """Return whether there is a library, once it gave what NumPy gives."""
    if library() is None:
        return False
    stored = np.arange(-700, 700, dtype=np.int16)
    made = np.zeros(len(stored) * 4, np.uint8)
    made[len(stored) * 2 :] = stored.view(np.uint8)
    Conversion(stored.dtype, np.dtype(np.float32), 0.3, -0.7).apply(made)
    if not np.array_equal(made.view(np.float32), stored * np.float32(0.3) + np.float32(-0.7)):
        raise wrong("converts numbers wrongly")
    return True
