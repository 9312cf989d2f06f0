"""Decides how the rows of an array come into memory: `choose`, a pure function of what was seen.

Nothing here reads a row, or looks at a file.
"""

import math
import mmap
from dataclasses import dataclass
from typing import Literal, NamedTuple

from feedline.files import Arrays

Strategy = Literal["resident", "fill", "direct", "advise", "read"]
_PAGE = mmap.PAGESIZE
_RESIDENT = 0.998
"""All of a sample of 64: one row in a hundred that waits for the disk would take as long as the rest."""
_FITS = 1 / 2
_SMALL_ROW_BYTES = 512
_SMALL_BYTES = 64 << 20
_SMALL_SHARE = 1 / 16
_AHEAD_SHARE = 1 / 8
_MOST_SLOTS_AHEAD = 2
"""By the time two slots are gathered, a disk has read some thousand rows."""
_RUN_BYTES = 64 << 10
"""Less at a time is read faster many at once, through the page cache."""
_LONGEST_ROW_BYTES = 8 << 20
_ON_NETWORK = ("fuse", "nfs", "cifs", "smb", "ceph", "lustre", "gpfs", "9p", "virtiofs", "beegfs", "wekafs", "afs")
WORDS = {
    "resident": "Taken as it lies in memory",
    "fill": "Read in order, and what is due ahead of it",
    "direct": "Read past the page cache ahead of need",
    "advise": "Read ahead of need",
    "read": "Read when it is due, many rows at a time",
}


class Choice(NamedTuple):
    """How the rows of an array come into memory, and why, for people."""

    strategy: Strategy
    reason: str

    def in_words(self) -> str:
        """Return the choice as a sentence."""
        return f"{WORDS[self.strategy]}: {self.reason}."


@dataclass(frozen=True)
class Evidence:
    """What is known about the rows of an array.

    Attributes
    ----------
    array_bytes, row_bytes
        Of all rows in use, and of one.
    data_bytes
        Of all arrays that are fed together.
    memory_bytes
        What this process may use.
    file_system
        Name of the type of file system, such as ext4.
    resident
        Share of the coming rows that is in memory.
    run_bytes
        Of rows that lie together and come once; 0 where they come one by one, or again while they may still be there.
    """

    array_bytes: int
    row_bytes: int
    data_bytes: int
    memory_bytes: int
    file_system: str
    resident: float = 0.0
    run_bytes: int = 0


def choose(evidence: Evidence) -> Choice:
    """Return how to bring in the rows of an array."""
    if is_small(evidence):
        return Choice("resident", "it is small, and is read once, in order")
    if is_on_network(evidence):
        return Choice("read", f"{evidence.file_system} answers many at once")
    share = f"{math.floor(100 * evidence.resident)}% of the coming rows are in memory"
    if evidence.resident >= _RESIDENT:
        return Choice("resident", share)
    if fits(evidence.data_bytes, evidence.memory_bytes):
        return Choice("fill", f"{share}, and all of them fit")
    if evidence.run_bytes >= _RUN_BYTES and evidence.row_bytes <= _LONGEST_ROW_BYTES:
        return Choice("direct", f"{share}, and rows that lie together come once")
    return Choice("advise", share)


def fits(data_bytes: int, memory_bytes: int) -> bool:
    """Return whether data stay in memory once they are there: half of it is left to everything else."""
    return data_bytes <= _FITS * memory_bytes


def is_small(evidence: Evidence) -> bool:
    """Return whether an array is worth keeping whole: many rows share a page, and it takes little of the memory."""
    largest = min(_SMALL_BYTES, _SMALL_SHARE * evidence.memory_bytes)
    return evidence.row_bytes <= _SMALL_ROW_BYTES and evidence.array_bytes <= largest


def is_on_network(evidence: Evidence) -> bool:
    """Return whether files are far away: each read takes long, and many take no longer than one."""
    return evidence.file_system.startswith(_ON_NETWORK)


def slots_ahead(rows: int, arrays: Arrays, memory_bytes: int) -> int:
    """Return how many slots of so many rows to look ahead: 2 at most, 0 where one takes more than an eighth of memory.

    A row that lies anywhere takes the pages that it touches, 1 + (row_bytes - 1) / 4096 of them on average.
    """
    slot_bytes = sum(min(rows * (array.row_bytes + _PAGE - 1), array.bytes) for array in arrays.values())
    return min(_MOST_SLOTS_AHEAD, int(_AHEAD_SHARE * memory_bytes / slot_bytes))
