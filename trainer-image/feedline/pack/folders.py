"""What lies in a folder of class folders, in sorted order, and how files are told about in a sentence.

Names that begin with a dot are hidden, and as if they were not there. Links to folders are followed where they stand
for a class, and not below, so that no walk goes in a circle. This module opens no file.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from feedline.errors import DataError, UsageError, printable
from feedline.pack.source import missing

_PARTS: Final = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev"})
"""Names that folders of parts of a data set have."""
_NAMED: Final = 3
"""Names in a sentence about many files."""


class Kind(Enum):
    """What an entry of a folder is; the value is said behind its name where it is left out."""

    FILE = ""
    FOLDER = "/"
    LINK = " (a link to a folder)"
    SPECIAL = " (no regular file)"


@dataclass
class Tally:
    """Counts files in constant memory: how many, and the first names in sorted order."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count a file."""
        self.count += 1
        self.names = sorted([*self.names, name])[:_NAMED]

    def merge(self, other: "Tally") -> None:
        """Count what another counted."""
        self.count += other.count
        self.names = sorted(self.names + other.names)[:_NAMED]

    def __str__(self) -> str:
        more = self.count - len(self.names)
        return ", ".join(self.names) + (f" and {more:,} more" if more else "")


def shown(path: str | Path) -> str:
    """Return a path as one line, with what is not UTF-8 or not printable escaped."""
    return printable(os.fsencode(path).decode("utf-8", "backslashreplace"))


def class_folders(source: Path) -> list[str]:
    """Return the names of a folder's class folders, sorted.

    Raises
    ------
    DataError
        There are none.
    UsageError
        All are called like the parts of a data set.
    InputMissingError
        The folder may not be read.
    """
    names = [entry.name for entry, kind in _entries(source) if kind in {Kind.FOLDER, Kind.LINK}]
    if not names:
        raise DataError(
            f"{shown(source)} has no folders in it: put the images into one folder a class, such as cat/ and dog/"
        )
    if all(name.lower() in _PARTS for name in names):
        raise _of_parts(source, names)
    return names


def beside(source: Path) -> Iterator[tuple[Path, Kind]]:
    """Yield what lies beside a folder's class folders, sorted, as `walk` does."""
    return ((Path(entry.path), kind) for entry, kind in _entries(source) if kind in {Kind.FILE, Kind.SPECIAL})


def walk(folder: Path) -> Iterator[tuple[Path, Kind]]:
    """Yield all but the folders among what lies in a folder and in those below it, sorted by path.

    Raises
    ------
    InputMissingError
        A folder may not be read, or a link leads nowhere.
    """
    listings = [_entries(folder)]
    while listings:
        entry, kind = next(listings[-1], (None, Kind.FILE))
        if entry is None:
            listings.pop()
        elif kind is Kind.FOLDER:
            listings.append(_entries(Path(entry.path)))
        else:
            yield Path(entry.path), kind


def _entries(folder: Path) -> Iterator[tuple[os.DirEntry[str], Kind]]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise missing(folder, error) from error
    for entry in sorted(visible, key=lambda entry: entry.name):
        try:
            kind = _kind(entry)
        except OSError as error:
            raise missing(Path(entry.path), error) from error
        yield entry, kind


def _kind(entry: os.DirEntry[str]) -> Kind:
    # The listing says what an entry is, and only where a link leads needs a look at the disk.
    if entry.is_file(follow_symlinks=False):
        return Kind.FILE
    if entry.is_dir(follow_symlinks=False):
        return Kind.FOLDER
    mode = entry.stat().st_mode
    if stat.S_ISREG(mode):
        return Kind.FILE
    return Kind.LINK if stat.S_ISDIR(mode) else Kind.SPECIAL


def _of_parts(source: Path, names: list[str]) -> UsageError:
    root = shown(source)
    first = next((name for name in names if name.lower().startswith("train")), names[0])
    if len(names) == 1:
        return UsageError(
            f"{root} holds {first}, which looks like a part of a data set and not like a class: "
            f"pack it by itself (feedline pack {root}/{first} ...)"
        )
    return UsageError(
        f"{root} holds {', '.join(names[:-1])} and {names[-1]}, which look like parts of a data set and not like "
        f"classes: pack each by itself (feedline pack {root}/{first} ...), with --classes for the second"
    )
