"""`.npz` archives: a zip whose members are `.npy` files, each of which can be mapped if it is not compressed."""

import os
import struct
import zipfile

from feedline.errors import DataError
from feedline.files import npy
from feedline.files.header import Header
from feedline.files.members import chosen, packing, shown
from feedline.files.stored import Opened, Stored

_LOCAL_HEADER = 30
"""Bytes of a member's header in a zip, before its name (APPNOTE 4.3.7)."""


def read(opened: Opened, stored: Stored) -> Header:
    """Return where the rows of a member lie.

    Raises
    ------
    DataError
        The archive is damaged, or its member is compressed, or no array that can be mapped.
    InputMissingError
        There is no such member.
    """
    try:
        with zipfile.ZipFile(opened.same) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if not info.is_dir()}
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OverflowError) as error:
        raise DataError(f"{opened.path}: this is no .npz archive, or a damaged one ({error})") from None
    name = chosen(opened.path, members, None if stored.member is None else stored.member.removesuffix(".npy"))
    info, what = members[name], f"{opened.path}: {shown(name)}"
    if info.flag_bits & 1:
        raise DataError(f"{what}: is encrypted: save it again with numpy.savez")
    if info.compress_type != zipfile.ZIP_STORED:
        raise DataError(
            f"{what}: is compressed, so its rows lie nowhere: {packing(opened.path)}, or save it by numpy.savez"
        )
    damaged = f"{what}: the archive is damaged where it begins"
    if not 0 <= info.header_offset <= opened.size - _LOCAL_HEADER or info.file_size != info.compress_size:
        raise DataError(damaged)
    local = os.pread(opened.descriptor, _LOCAL_HEADER, info.header_offset)
    begin = info.header_offset + _LOCAL_HEADER + sum(struct.unpack_from("<HH", local, 26))
    if local[:4] != b"PK\x03\x04" or begin > opened.size:
        raise DataError(damaged)
    return npy.read_at(opened, what, begin, min(begin + info.file_size, opened.size), packing(opened.path))
