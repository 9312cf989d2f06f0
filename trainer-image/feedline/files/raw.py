"""Files of numbers without a header: where their rows lie is said by who knows it."""

import os

import numpy as np

from feedline.errors import DataError
from feedline.files.header import Header, checked
from feedline.files.npy import MAGIC
from feedline.files.stored import Opened, Stored, dtype_of


def read(opened: Opened, stored: Stored) -> Header:
    """Return where the rows lie, as it was said.

    Raises
    ------
    DataError
        The file's size is no multiple of a row, there is none, or it is a `.npy` file.
    """
    dtype, shape = dtype_of(stored), tuple(stored.shape)
    if not stored.offset and os.pread(opened.descriptor, len(MAGIC), 0) == MAGIC:
        raise DataError(f"{opened.path}: is a .npy file, whose header would become rows: leave format and dtype out")
    rest, row_bytes = opened.size - stored.offset, dtype.itemsize * int(np.prod(shape, dtype=object))
    of = f"{list(shape)} of {dtype.name}" if shape else dtype.name
    told = f"{row_bytes} bytes ({of})"
    if rest < row_bytes:
        raise DataError(
            f"{opened.path}: has {opened.size} bytes, which is no row of {told} from byte {stored.offset} on"
        )
    if rest % row_bytes:
        raise DataError(
            f"{opened.path}: its {rest} bytes from byte {stored.offset} on are no multiple of a row of {told}: "
            f"{rest % row_bytes} are left over; correct dtype, shape or offset"
        )
    remedy = "make it anew in this machine's byte order"
    return checked(str(opened.path), dtype, (rest // row_bytes, *shape), stored.offset, opened.size, remedy)
