"""Where a row goes: its place after shuffling, and the part that has that place after splitting.

Pure, and the same for the same number of rows, seed and split, whatever the NumPy release. Four bytes a row are held
for a shuffle, eight beyond 2³² rows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy import typing as npt

from feedline.errors import UsageError

REST: Final = "train"
"""The part that holds the rows that no fraction takes."""
_PART = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_SEEDS = 1 << 32


@dataclass(frozen=True)
class Part:
    """One output folder's share: its name (``""`` for the output folder itself), and the places it holds."""

    name: str
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.stop - self.start


def check(
    seed: int | None, fractions: Mapping[str, float], option: str = "--split", seeded: str = "--shuffle-seed"
) -> None:
    """Refuse a seed or a split that cannot be, before any data is read; both bear the names of their options.

    Raises
    ------
    UsageError
        The seed is out of range, or the split names no part, one twice, or fractions that leave nothing.
    """
    if seed is not None and not 0 <= seed < _SEEDS:
        raise UsageError(f"{seeded} {seed} is out of range: give a number from 0 to {_SEEDS - 1}")
    for name, fraction in fractions.items():
        if not _PART.fullmatch(name) or name == REST:
            raise UsageError(
                f"{option} {name}: a part is a folder of small letters, digits and hyphens, "
                f"and {REST} is what the others leave: choose another name, such as validation=0.2"
            )
        if not 0 < fraction < 1:
            raise UsageError(f"{option} {name}={fraction:g}: give a fraction between 0 and 1, such as 0.2")
    if sum(fractions.values()) >= 1:
        raise UsageError(f"{option} takes {sum(fractions.values()):g} of the rows: leave some for {REST}")


def parts(rows: int, fractions: Mapping[str, float], option: str = "--split") -> tuple[Part, ...]:
    """Share out the places: the rest first, then each fraction in the order given.

    Raises
    ------
    UsageError
        There are too few rows for every part to get one.
    """
    if not fractions:
        return (Part("", 0, rows),)
    counts = {name: round(rows * fraction) for name, fraction in fractions.items()}
    counts = {REST: rows - sum(counts.values()), **counts}
    shared = []
    start = 0
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{option} leaves no row for {name}, there are only {rows}: choose other fractions")
        shared.append(Part(name, start, start + count))
        start += count
    return tuple(shared)


def shuffled(rows: int, seed: int) -> npt.NDArray[np.integer[Any]]:
    """Return the place of each row: a permutation of ``0 … rows - 1``, uint32 or, beyond 2³² rows, int64."""
    kind: np.dtype[np.integer[Any]] = np.dtype(np.uint32 if rows <= _SEEDS else np.int64)
    places = np.arange(rows, dtype=kind)
    # RandomState, because its streams are frozen for good (NEP 19); those of Generator may change with a release.
    np.random.RandomState(seed).shuffle(places)
    return places
