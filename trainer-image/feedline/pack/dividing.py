"""Divides rows into parts or folds, and writes which are in each, as an index that a split of a pipeline reads."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy import typing as npt

from feedline.errors import DataError, UsageError, edge
from feedline.files import open_arrays
from feedline.pack import placement
from feedline.pack.npy import Staging
from feedline.pack.packing import Packed, PackedFile

_REST = placement.REST
_HELD_OUT = "validation"
_FEWEST, _MOST = 2, 1000


@edge()
def divide(
    path: Path,
    out: Path,
    *,
    fractions: Mapping[str, float],
    folds: int = 0,
    by_labels: bool = False,
    seed: int | None = 0,
    gap: int = 0,
    overwrite: bool = False,
) -> Packed:
    """Write index files, ``[n]`` int64 in ascending order, of parts or of folds; the same for the same arguments.

    Parameters
    ----------
    path
        A file with as many rows as there are to divide.
    out
        Folder for ``train.npy`` and ``NAME.npy`` of each part, or ``train-K.npy`` and ``validation-K.npy`` of fold K.
    fractions
        Of the rows, by the name of a part; what they leave is ``train``.
    folds
        How many; 0: parts.
    by_labels
        Whether the rows are labels, of which every part and fold has its share.
    seed
        Of the chance by which rows are dealt; None: they stay in order.
    gap
        Rows that are left out between those in order.
    overwrite
        Whether files there may be replaced.

    Raises
    ------
    UsageError
        What is asked for does not go together, or leaves a part without a row.
    DataError
        The labels are no classes.
    """
    _check(fractions, folds, by_labels=by_labels, seed=seed, gap=gap)
    names = [_REST, _HELD_OUT] if folds else [_REST, *fractions]
    suffixes = [f"-{fold}.npy" for fold in range(folds)] or [".npy"]
    staging = Staging(out, [name + suffix for name in names for suffix in suffixes], overwrite=overwrite)
    array = open_arrays({"rows": path})["rows"]
    labels = _classes(path, array.read(0, array.rows)) if by_labels else None
    found = {}
    if folds:
        for fold, held_out in enumerate(_folds(array.rows, folds, labels, seed)):
            found[f"{_REST}-{fold}.npy"] = _without(array.rows, held_out, gap)
            found[f"{_HELD_OUT}-{fold}.npy"] = held_out
    else:
        for name, rows in _parts(array.rows, fractions, labels, seed, gap).items():
            found[f"{name}.npy"] = rows
    for name, rows in found.items():
        if not len(rows):
            raise UsageError(
                f"{out / name} would have no row, there are only {array.rows}: take fewer parts, or a smaller gap"
            )
    with staging:
        for name, rows in found.items():
            staging.array(name, np.dtype(np.int64), rows.shape).write(rows, np.arange(len(rows)))
        staging.commit()
    return Packed(tuple(PackedFile(out / name, rows.shape, rows.dtype) for name, rows in found.items()))


def _check(fractions: Mapping[str, float], folds: int, *, by_labels: bool, seed: int | None, gap: int) -> None:
    if bool(folds) == bool(fractions):
        raise UsageError("give --folds N, or --part NAME=FRACTION once or several times")
    if folds and not _FEWEST <= folds <= _MOST:
        raise UsageError(f"--folds {folds} is out of range: give a number from {_FEWEST} to {_MOST}")
    if seed is None and by_labels:
        raise UsageError("--in-order and --by-labels exclude each other: rows in order have the labels that they have")
    if gap < 0 or (gap and seed is not None):
        raise UsageError(f"--gap {gap} is left out between rows in order: give --in-order, and at least 0")
    placement.check(seed, fractions, "--part", "--seed")


def _classes(path: Path, labels: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return the number of each row's class."""
    if labels.ndim != 1 or labels.dtype.kind not in "biuSU":
        raise DataError(
            f"{path}: --by-labels takes one whole number or text a row (it has dtype {labels.dtype.str}, rows of shape "
            f"{list(labels.shape[1:])}): name the file of the labels"
        )
    return np.unique(labels, return_inverse=True)[1].astype(np.intp)


def _dealt(rows: int, labels: npt.NDArray[np.intp] | None, seed: int | None) -> npt.NDArray[np.intp]:
    """Return the rows in the order in which they are dealt: by chance, class by class."""
    if seed is None:
        return np.arange(rows)
    places = placement.shuffled(rows, seed)
    return np.lexsort((places,) if labels is None else (places, labels)).astype(np.intp)


def _folds(
    rows: int, folds: int, labels: npt.NDArray[np.intp] | None, seed: int | None
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield the rows that each fold holds out: as many in each, of every class, but for one."""
    dealt = _dealt(rows, labels, seed)
    if seed is None:
        yield from np.array_split(dealt, folds)
        return
    for fold in range(folds):
        yield np.sort(dealt[fold::folds])


def _without(rows: int, held_out: npt.NDArray[np.intp], gap: int) -> npt.NDArray[np.intp]:
    """Return all other rows, but for those next to them."""
    kept = np.ones(rows, np.bool_)
    kept[held_out] = False
    if gap and len(held_out):
        kept[max(0, int(held_out[0]) - gap) : int(held_out[-1]) + gap + 1] = False
    return np.flatnonzero(kept)


def _parts(
    rows: int, fractions: Mapping[str, float], labels: npt.NDArray[np.intp] | None, seed: int | None, gap: int
) -> dict[str, npt.NDArray[np.intp]]:
    if seed is None:
        shared = placement.parts(rows, fractions, "--part")
        return {part.name: np.arange(part.start + (gap if part.start else 0), part.stop) for part in shared}
    dealt = _dealt(rows, labels, seed)
    sizes = [rows] if labels is None else np.bincount(labels).tolist()
    found: dict[str, list[npt.NDArray[np.intp]]] = {name: [] for name in (_REST, *fractions)}
    given, seen, begin = dict.fromkeys(fractions, 0), 0, 0
    for size in sizes:
        seen += size
        at = begin
        for name, fraction in fractions.items():
            # What rounding left to the classes before is made up for, so that all together have the fraction.
            count = max(0, min(round(fraction * seen) - given[name], begin + size - at))
            found[name].append(dealt[at : at + count])
            given[name] += count
            at += count
        found[_REST].append(dealt[at : begin + size])
        begin += size
    return {name: np.sort(np.concatenate(pieces)) for name, pieces in found.items()}
