"""What archives and HDF5 files have in common: arrays by name, each of which becomes a `.npy` file of its own.

Several files are one: an array of the next one continues that of the one before. How the bytes of an array are read is
not known here.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from feedline.errors import DataError
from feedline.pack.npy import NpyWriter, Staging
from feedline.pack.source import Progress


@dataclass(frozen=True)
class Member(ABC):
    """An array in a file: what the file calls it, and its layout."""

    path: Path
    entry: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def blocks(self, staging: Staging) -> Iterator[bytes]:
        """Yield the bytes in C order and this machine's byte order."""

    @property
    def bytes(self) -> int:
        """Bytes of all elements."""
        return self.dtype.itemsize * math.prod(self.shape)


Found = TypeVar("Found", bound=Member)


def is_file_name(name: str) -> bool:
    """Return whether a name may become a file's: nothing in it may lead out of the output folder."""
    return bool(name) and not name.startswith(".") and name.isprintable() and not set(name) & set("/\\:")


def join(found: dict[str, list[Found]], here: Mapping[str, Found], path: Path, what: str) -> None:
    """Add the arrays of one more file to those of the files before it.

    Raises
    ------
    DataError
        They are others, or do not continue these; `what` they are called says so.
    """
    if found and here.keys() != found.keys():
        first = next(iter(found.values()))[0].path
        raise DataError(f"{path}: its {what} have other names than those of {first}: pack them apart")
    for name, member in here.items():
        parts = found.setdefault(name, [])
        if parts:
            _check_continues(parts[0], member)
        parts.append(member)


def _check_continues(first: Member, member: Member) -> None:
    same = first.shape[1:] == member.shape[1:] and first.dtype.newbyteorder("=") == member.dtype.newbyteorder("=")
    if not first.shape or not member.shape or not same:
        raise DataError(
            f"{member.path}: {member.entry} does not continue that of {first.path}, "
            f"{list(member.shape)} {member.dtype} after {list(first.shape)} {first.dtype}: pack them apart"
        )


def joined(parts: Sequence[Member]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of an array of some parts, one after the other."""
    first = parts[0]
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:]) if first.shape else ()
    return shape, first.dtype.newbyteorder("=")


def unpack(found: Mapping[str, Sequence[Member]], staging: Staging, progress: Progress) -> dict[str, NpyWriter]:
    """Write each array as ``NAME.npy``, and return the writers by file name.

    Raises
    ------
    DataError
        A file is damaged.
    StorageError
        The disk is full, or failed.
    """
    total = sum(part.bytes for parts in found.values() for part in parts)
    done = 0
    writers = {}
    for name, parts in found.items():
        shape, dtype = joined(parts)
        writer = staging.array(f"{name}.npy", dtype, shape)
        offset = 0
        for part in parts:
            for block in part.blocks(staging):
                writer.write_bytes(block, offset)
                offset += len(block)
                progress("Writing", done + offset, total)
        done += offset
        writers[f"{name}.npy"] = writer
    return writers
