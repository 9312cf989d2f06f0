"""`.npy` files, and what else holds one of them: the format is numpy's own, 1.0 to 3.0.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import os
import re
import struct
from typing import Any

import numpy as np

from feedline.errors import DataError
from feedline.files.header import Header, checked
from feedline.files.stored import Opened, Stored

MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 64 * 1024
_DATE_WITH_DIVISOR = re.compile(r"(8|64)\[[^\]'\"]*/")
"""A date unit such as ``7D/2``: numpy.save never writes one, and numpy ends the process on a divisor of 0."""
_NUMPY_INTEGER = re.compile(r"\b(?:np|numpy)\.u?int(?:8|16|32|64|p|c)?\((\d+)\)")
_KINDS = {
    b"PK": "a zip archive or .npz: name it so, or say so by format Npz and its member",
    b"\x89HDF": "HDF5: name it .h5, or say so by format Hdf5 and its member",
    b"PAR1": "Parquet: name it .parquet, and `feedline pack` it",
    b"ARROW1": "Arrow: save it as .npy or Parquet",
    b"\x1f\x8b": "compressed by gzip: decompress it",
    b"\x28\xb5\x2f\xfd": "compressed by Zstandard: decompress it",
}


def read(opened: Opened, _: Stored) -> Header:
    """Read and check the header of a `.npy` file.

    Raises
    ------
    DataError
        The file is empty, no `.npy`, cut short, in Fortran or foreign byte order, holds objects or no rows.
    """
    start = os.pread(opened.descriptor, len(MAGIC), 0)
    if start != MAGIC:
        kind = next((told for magic, told in _KINDS.items() if start.startswith(magic)), None)
        probably = f"; it is probably {kind}" if kind else "; numbers without a header are format Raw, with their dtype"
        raise DataError(f"{opened.path}: this is no .npy file (it does not begin with \\x93NUMPY){probably}")
    return read_at(opened, str(opened.path), 0, opened.size)


def read_at(opened: Opened, what: str, begin: int, end: int, remedy: str = "") -> Header:
    """Read and check the header of what is a `.npy` file from byte `begin` of a file to byte `end`.

    Where its layout cannot be mapped, the remedy is to save it again, or as it is said.
    """
    start = os.pread(opened.descriptor, max(0, min(12, end - begin)), begin)
    if start[:6] != MAGIC:
        raise DataError(f"{what}: this is no .npy (it does not begin with \\x93NUMPY)")
    if len(start) < 12 or start[6] not in (1, 2, 3):
        raise DataError(f"{what}: this .npy format is not 1.0, 2.0 or 3.0: save the array again with numpy.save")
    prefix, length_format = (10, "<H") if start[6] == 1 else (12, "<I")
    (length,) = struct.unpack_from(length_format, start, 8)
    if length > _MAX_HEADER_BYTES or begin + prefix + length > end:
        raise DataError(f"{what}: the header claims {length} bytes, which the file does not hold or no array needs")
    text = os.pread(opened.descriptor, length, begin + prefix)
    parsed = parsed_header(text, "utf-8" if start[6] == 3 else "latin-1")
    if parsed is None:
        raise DataError(
            f"{what}: the .npy header cannot be read, and numpy.load would refuse it too: make the file anew "
            "from what it was made of, with numpy.save"
        )
    dtype, fortran, shape = parsed
    if fortran and len(shape) > 1 and dtype.isnative and not dtype.hasobject:
        again = remedy or "save numpy.ascontiguousarray(a)"
        raise DataError(f"{what}: is in Fortran order, so rows do not lie together: {again}")
    native = remedy or "save it again as a.astype(a.dtype.newbyteorder('='))"
    return checked(what, dtype, shape, begin + prefix + length, end, native)


def parsed_header(text: bytes, encoding: str) -> tuple[np.dtype[Any], bool, tuple[int, ...]] | None:
    """Return dtype, Fortran order and shape, of the right types but else unchecked; None where they are not there."""
    try:
        # Some write the repr of numpy's own integers there, which numpy.load refuses; what they mean is clear.
        fields = ast.literal_eval(_NUMPY_INTEGER.sub(r"\1", text.decode(encoding).strip()))
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
        if _DATE_WITH_DIVISOR.search(repr(descr)):
            return None
        dtype = np.lib.format.descr_to_dtype(descr)
    except (ValueError, TypeError, LookupError, SyntaxError, MemoryError, RecursionError):
        return None
    plain = isinstance(fortran, bool) and isinstance(shape, tuple) and all(type(length) is int for length in shape)
    return (dtype, fortran, shape) if plain and dtype.subdtype is None else None
