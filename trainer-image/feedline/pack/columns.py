"""Which column of a table is what: the target, the names, those left out, and the features, which are the rest.

Pure: it sees column names only, and no file.
"""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from feedline.errors import UsageError, printable

TARGET_NAMES: Final = ("label", "labels", "target", "class", "y")
"""Column names that say by themselves that they are the target."""
_SHOWN = 12


@dataclass(frozen=True)
class Columns:
    """What the user says about a table's columns, each by its name or its number, counted from 1.

    Attributes
    ----------
    target
        The labels' column. None: the one called label, labels, target, class or y, else the last one.
    labelled
        False if there are no labels.
    names
        The column that names the rows. None: rows are named by where they come from.
    drop
        Columns to leave out.
    header
        Whether a text file's first row holds column names. None: seen from the first two rows.
    """

    target: str | None = None
    labelled: bool = True
    names: str | None = None
    drop: tuple[str, ...] = ()
    header: bool | None = None


@dataclass(frozen=True)
class Selection:
    """Column indices, from 0: the target, the names, the features; and how the target was found, in words."""

    target: int | None
    names: int | None
    features: tuple[int, ...]
    found: str


def select(wish: Columns, columns: Sequence[str], index: Collection[int] = ()) -> Selection:
    """Settle what each column is.

    Parameters
    ----------
    wish
        What the user says.
    columns
        The columns' names, ``""`` for those of a table without names.
    index
        Those that only number the rows, as pandas writes them: left out unless they are named by `wish`.

    Raises
    ------
    UsageError
        A column is not there, is wanted twice, or none is left for the features.
    """
    if wish.target is not None and not wish.labelled:
        raise UsageError("--target and --no-target exclude each other: leave one out")
    dropped = {_find(text, columns, "--drop") for text in wish.drop}
    names = None if wish.names is None else _find(wish.names, columns, "--names")
    numbering = set(index)
    rest = [
        index for index in range(len(columns)) if index not in dropped and index != names and index not in numbering
    ]
    if wish.target is not None:
        target, found = _find(wish.target, columns, "--target"), "--target"
    elif wish.labelled and rest:
        target, found = _default_target(columns, rest)
    else:
        target, found = None, ""
    taken = [index for index in (target, names) if index is not None]
    if len(set(taken)) < len(taken) or dropped.intersection(taken):
        raise UsageError("a column is named twice: --target, --names and --drop must name different ones")
    features = tuple(index for index in rest if index != target)
    if not features:
        raise UsageError(
            f"no column is left for the features: of {len(columns)}, "
            f"{len(taken)} hold labels or names and {len(dropped)} are dropped"
        )
    where = "" if target is None else f"{shown(target, columns)} ({found})"
    return Selection(target, names, features, where)


def shown(index: int, columns: Sequence[str]) -> str:
    """Say which column it is, as a person counts: ``column 3 (width)``."""
    return f"column {index + 1} ({printable(columns[index])})" if columns[index] else f"column {index + 1}"


def _default_target(columns: Sequence[str], rest: Sequence[int]) -> tuple[int, str]:
    telling = [index for index in rest if columns[index].lower() in TARGET_NAMES]
    if len(telling) > 1:
        both = " and ".join(shown(index, columns) for index in telling)
        raise UsageError(f"{both} look like labels by their names: say which by --target")
    if telling:
        return telling[0], "by its name"
    return rest[-1], "the last one"


def _find(text: str, columns: Sequence[str], option: str) -> int:
    if columns.count(text) == 1:
        return columns.index(text)
    if columns.count(text) > 1:
        raise UsageError(f"{option} {text}: {columns.count(text)} columns have this name, give its number instead")
    if text.isdecimal() and 1 <= int(text) <= len(columns):
        return int(text) - 1
    raise UsageError(f"{option} {text}: there is no such column{_instead(text, columns)}")


def _instead(text: str, columns: Sequence[str]) -> str:
    if not any(columns):
        return f", the columns have no names: give a number from 1 to {len(columns)}"
    close = difflib.get_close_matches(text, columns, 1)
    if close:
        return f", did you mean {close[0]}?"
    more = ", …" if len(columns) > _SHOWN else ""
    return f": choose one of {', '.join(columns[:_SHOWN])}{more}"
