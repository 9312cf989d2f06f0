"""Where the rows of an array lie in a file: what every format's reader finds out, and what must hold of all of them.

Files are hostile: everything that one promises is checked before a byte of it is used, and nothing is ever unpickled.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError

_MAX_LENGTH = 2**48
MOST_AXES = 63  # numpy has 64, and a slot holds batches of batch_size rows: two axes for one


@dataclass(frozen=True)
class Header:
    """Where the rows of an array lie in a file, and of what they are.

    Attributes
    ----------
    dtype
        Of one element; fixed size, native byte order.
    rows
        Length of the first axis.
    row_shape
        The other axes; ``()`` where a row is one element.
    offset
        Byte of the file at which row 0 starts.
    stride
        Bytes from the start of a row to that of the next, where they are windows; 0: as many as a row has.
    """

    dtype: np.dtype[Any]
    rows: int
    row_shape: tuple[int, ...]
    offset: int
    stride: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * int(np.prod(self.row_shape, dtype=object))

    @property
    def step(self) -> int:
        """Bytes from the start of a row to that of the next."""
        return self.stride or self.row_bytes

    @property
    def is_dense(self) -> bool:
        """Whether each row begins where the one before it ends."""
        return self.step == self.row_bytes

    def rows_in(self, data: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
        """Return so many rows, ``[rows, row_bytes]``, in memory that begins with the first of them."""
        data = data[: self.bytes_of(rows)]
        if self.is_dense:
            return data.reshape(rows, self.row_bytes)
        strided = np.lib.stride_tricks.as_strided
        return strided(data, (rows, self.row_bytes), (self.step, 1), writeable=False)

    def bytes_of(self, rows: int) -> int:
        """Bytes from the start of the first of so many rows, at least one, to the end of the last."""
        return (rows - 1) * self.step + self.row_bytes


def checked(what: str, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, end: int, remedy: str) -> Header:
    """Return the header of an array in C order, all of which lies in a file from byte `offset` and before byte `end`.

    Parameters
    ----------
    what
        The file, and the array in it, for people.
    remedy
        What makes it one in this machine's byte order.

    Raises
    ------
    DataError
        It holds objects or no rows, is in foreign byte order, is impossible, or is cut short.
    """
    if dtype.hasobject:
        raise DataError(f"{what}: holds Python objects, which would need pickle: save numbers or fixed-width strings")
    if not dtype.isnative:
        raise DataError(f"{what}: is big-endian ({dtype.str}): {remedy}")
    if not shape:
        raise DataError(f"{what}: holds a single value, not rows: its first axis must be the rows")
    if not all(0 <= length <= _MAX_LENGTH for length in shape):
        raise DataError(f"{what}: the header claims the impossible shape {_short(shape)}")
    if len(shape) > MOST_AXES:
        raise DataError(f"{what}: has {len(shape)} axes, and at most {MOST_AXES} are possible: reshape its rows")
    if shape[0] == 0:
        raise DataError(f"{what}: holds no rows")
    header = Header(dtype, shape[0], shape[1:], offset)
    if header.row_bytes == 0:
        raise DataError(f"{what}: its rows hold no bytes (shape {_short(shape)}, dtype {dtype.str})")
    if offset + header.rows * header.row_bytes > end:
        whole = max(0, end - offset) // header.row_bytes
        raise DataError(
            f"{what}: is cut short: the header claims {header.rows} rows of {header.row_bytes} bytes, "
            f"the file ends in row {whole}"
        )
    return header


def _short(shape: tuple[int, ...]) -> str:
    """Return a shape for people, however forged."""
    # Python refuses to print integers of thousands of digits.
    lengths = ", ".join(str(length) if abs(length) < 10**20 else "..." for length in shape)
    return f"({lengths if len(lengths) <= 80 else lengths[:77] + '...'})"
