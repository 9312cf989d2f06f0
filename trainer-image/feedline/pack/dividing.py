"""Divides rows into parts or folds, and writes which are in each, as an index that a split of a pipeline reads."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy import typing as npt

from feedline.errors import DataError, UsageError, edge
from feedline.files import Array, open_arrays
from feedline.pack import placement
from feedline.pack.npy import Staging
from feedline.pack.packing import Packed, PackedFile

_REST = placement.REST
_HELD_OUT = "validation"
_FEWEST, _MOST = 2, 100


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
    owned = [name + suffix for name in names for suffix in suffixes]
    if path.resolve() in {(out / name).resolve() for name in owned}:
        raise UsageError(f"{path} would be replaced by an index of its rows: choose another folder")
    staging = Staging(out, owned, overwrite=overwrite)
    array = open_arrays({"rows": path})["rows"]
    labels = _classes(path, array) if by_labels else None
    divided = (
        _of_folds(array.rows, folds, labels, seed, gap) if folds else _parts(array.rows, fractions, labels, seed, gap)
    )
    files = []
    with staging:
        for name, rows in divided:
            if not len(rows):
                fewer = "take fewer parts, or a smaller gap"
                raise UsageError(f"{out / name} would have no row, there are only {array.rows}: {fewer}")
            staging.array(name, rows.dtype, rows.shape).write(rows, np.arange(len(rows)))
            files.append(PackedFile(out / name, rows.shape, rows.dtype))
        staging.commit()
    return Packed(tuple(files))


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


def _classes(path: Path, array: Array) -> npt.NDArray[np.intp]:
    """Return the number of each row's class."""
    if array.row_shape or array.dtype.kind not in "biuSU":
        raise DataError(
            f"{path}: --by-labels takes one whole number or text a row (it has dtype {array.dtype.str}, rows of shape "
            f"{list(array.row_shape)}): name the file of the labels"
        )
    return np.unique(array.read(0, array.rows), return_inverse=True)[1].astype(np.intp)


def _dealt(rows: int, labels: npt.NDArray[np.intp] | None, seed: int | None) -> npt.NDArray[np.intp]:
    """Return the rows in the order in which they are dealt: by chance, class by class."""
    if seed is None:
        return np.arange(rows)
    places = placement.shuffled(rows, seed)
    return np.lexsort((places,) if labels is None else (places, labels)).astype(np.intp)


def _of_folds(
    rows: int, folds: int, labels: npt.NDArray[np.intp] | None, seed: int | None, gap: int
) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    """Yield the files of each fold, which holds out as many rows as any other, of every class, but for one."""
    dealt = _dealt(rows, labels, seed)
    for fold in range(folds):
        held_out = np.array_split(dealt, folds)[fold] if seed is None else np.sort(dealt[fold::folds])
        yield f"{_REST}-{fold}.npy", _without(rows, held_out, min(gap, rows))
        yield f"{_HELD_OUT}-{fold}.npy", held_out


def _without(rows: int, held_out: npt.NDArray[np.intp], gap: int) -> npt.NDArray[np.intp]:
    """Return all other rows, but for those next to them."""
    kept = np.ones(rows, np.bool_)
    kept[held_out] = False
    if gap and len(held_out):
        kept[max(0, int(held_out[0]) - gap) : int(held_out[-1]) + gap + 1] = False
    return np.flatnonzero(kept)


def _parts(
    rows: int, fractions: Mapping[str, float], labels: npt.NDArray[np.intp] | None, seed: int | None, gap: int
) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    """Yield the file of each part, that of what they leave first."""
    if seed is None:
        for part in placement.parts(rows, fractions, "--part"):
            yield f"{part.name}.npy", np.arange(part.start + (min(gap, rows) if part.start else 0), part.stop)
        return
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
    for name, pieces in found.items():
        yield f"{name}.npy", np.sort(np.concatenate(pieces))
