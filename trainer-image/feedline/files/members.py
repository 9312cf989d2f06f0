"""Which array is meant in a file that holds several, and what is said to people of names that a file has."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from feedline.errors import InputMissingError, printable

_SHOWN = 8
_LONGEST = 80


def chosen(path: Path, there: Iterable[str], wanted: str | None) -> str:
    """Return the name of the member that was asked for, or of the only one.

    Raises
    ------
    InputMissingError
        There is none, or it is not said which.
    """
    names = sorted(there)
    if wanted is None:
        if len(names) == 1:
            return names[0]
        raise InputMissingError(f"{path}: holds {listed(names)}: say which by member")
    if wanted not in names:
        raise InputMissingError(f"{path}: has no {shown(wanted)}, but {listed(names)}")
    return wanted


def listed(names: list[str]) -> str:
    """Return some names for people."""
    told = ", ".join(shown(name) for name in names[:_SHOWN])
    return f"{told} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else told or "nothing"


def shown(name: str) -> str:
    """Return a name that a file has for people: on one line, and not too long."""
    told = printable(name)
    return told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…"


def packing(path: Path) -> str:
    """Return what makes `.npy` files of a file that cannot be mapped."""
    return f"`feedline pack {shlex.quote(str(path))} FOLDER` makes .npy files of it"
