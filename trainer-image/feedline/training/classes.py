"""What the classes of a run are: how many a model needs, and whether both splits number them alike.

It is asked before anything is allocated, and by `feedline check` too. Nothing here knows a framework.
"""

from pathlib import Path
from typing import Final

from feedline.errors import DataError, UsageError
from feedline.files import Array, Arrays
from feedline.limits import memory_bytes
from feedline.manifest import Manifest, Split
from feedline.training.sources import Volumes, stored
from feedline.units import size

_SCANNED_ROWS: Final = 1 << 16
_MOST_CLASSES: Final = 100_000
"""More are classes only if there are rows for them; it is what `feedline pack` takes."""
_PER_WEIGHT: Final = 16
"""Bytes: a float32, its gradient, and two moments of Adam."""
_MAX_FILE: Final = 1 << 28


def classes_in(targets: list[Array], inputs: int) -> int:
    """Return one more than the largest class of all splits, read in sequence.

    Parameters
    ----------
    targets
        The classes of each split, one integer a row.
    inputs
        What goes into the model's last layer, as many weights as which each class needs.

    Raises
    ------
    UsageError
        A class is negative.
    DataError
        A class is so large that a model with as many outputs is none that can be trained.
    """
    largest = 0
    for target in targets:
        for start in range(0, target.rows, _SCANNED_ROWS):
            part = target.read(start, min(start + _SCANNED_ROWS, target.rows))
            if part.dtype.kind == "i" and part.min() < 0:
                raise UsageError(f"array {target.name}: classes must not be negative, there is a {part.min()}")
            largest = max(largest, int(part.max()))
    needed, rows, memory = (largest + 1) * inputs * _PER_WEIGHT, sum(target.rows for target in targets), memory_bytes()
    if needed > memory or (largest >= _MOST_CLASSES and largest >= rows):
        raise DataError(
            f"array {targets[0].name}: a class is numbered {largest}, and a model with as many outputs takes "
            f"{size(needed)} of {size(memory)}: number the classes from 0 on, or save what is no class as floats"
        )
    return largest + 1


def is_classes(target: Array) -> bool:
    """Tell whether a target holds classes: one integer a row."""
    return target.dtype.kind in "biu" and target.row_shape in ((), (1,))


def require_same_classes(manifest: Manifest, volumes: Volumes) -> None:
    """Refuse splits whose classes are numbered otherwise, by the `classes.txt` that lies with the labels of each.

    Raises
    ------
    DataError
        The names differ.
    """
    if manifest.validation_data is None:
        return
    named = _classes_files(manifest.train_data, volumes), _classes_files(manifest.validation_data, volumes)
    for name in named[0].keys() & named[1].keys():
        train, validation = named[0][name], named[1][name]
        if train == validation:
            continue
        ours, theirs = _lines(train), _lines(validation)
        if ours != theirs and ours is not None and theirs is not None:
            number = next(
                (place for place, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
                min(len(ours), len(theirs)),
            )
            one, other = (lines[number] if number < len(lines) else "none" for lines in (ours, theirs))
            raise DataError(
                f"array {name}: class {number} is {one} by {train} and {other} by {validation}: "
                f"pack the second set again with --classes {train}"
            )


def largest_class(manifest: Manifest, train: Arrays, validation: Arrays | None) -> None:
    """Refuse classes that the built-in model could not take, as a run would.

    Raises
    ------
    DataError, UsageError
        As `classes_in` does.
    """
    if manifest.train.entrypoint != "feedline.models:train":
        return
    by_role = {array.role: array.name for array in manifest.train_data.arrays}
    name, hidden = by_role.get("Target"), manifest.train.parameters.get("hiddenUnits", 256)
    becomes_another = any(
        each.kind != "cast" and (name == each.arguments.get("array") or name in each.arguments.get("arrays", ()))
        for each in manifest.transforms
    )
    if name is not None and is_classes(train[name]) and not becomes_another:
        splits = [train[name], *([validation[name]] if validation is not None and name in validation else [])]
        classes_in(splits, int(hidden) if isinstance(hidden, int | float) else 1)


def _classes_files(split: Split, volumes: Volumes) -> dict[str, Path]:
    """Return the `classes.txt` of each target: beside it, or, where it is a part, beside its folder."""
    found = {}
    for array, each in zip(split.arrays, stored(split, volumes).values(), strict=True):
        if array.role == "Target":
            path = Path(each.path)
            for folder in (path.parent, path.parent.parent):
                if (folder / "classes.txt").is_file():
                    found[array.name] = (folder / "classes.txt").resolve()
                    break
    return found


def _lines(path: Path) -> list[str] | None:
    """Return the classes in a file; None where it is none of ours."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeError):
        return None
