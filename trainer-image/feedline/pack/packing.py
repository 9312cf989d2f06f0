"""Tables, archives and folders of images become the `.npy` files that a feed maps.

Two passes over the sources, in constant memory: the first settles shapes, types and the number of rows, the second
writes each row to its place. The files get their names when all are whole, or never. No pickle is read or written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np

from feedline.errors import InputMissingError, UsageError
from feedline.pack import archive, images, parquet, placement, table
from feedline.pack.columns import Columns
from feedline.pack.npy import NpyWriter, Staging
from feedline.pack.source import FeatureFormat, Progress, Scan, Source, changed, missing

__all__ = ["Packed", "PackedFile", "pack"]

FEATURES: Final = "features.npy"
LABELS: Final = "labels.npy"
NAMES: Final = "names.npy"
CLASSES: Final = "classes.txt"


@dataclass(frozen=True)
class PackedFile:
    """A file that was written: its path, shape and element type."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote.

    Attributes
    ----------
    files
        The `.npy` files.
    target
        What the labels were taken from, in words; empty if there are none.
    classes
        The class names, whose index is the label; empty where labels are numbers.
    """

    files: tuple[PackedFile, ...]
    target: str = ""
    classes: tuple[str, ...] = ()


class _Kind(Enum):
    TEXT = "text tables"
    PARQUET = "Parquet files"
    ARCHIVE = ".npz archives"
    IMAGES = "folders of images"


def _silent(stage: str, done: int, total: int) -> None:
    """Report no progress."""


def pack(
    sources: Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    columns: Columns | None = None,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    scale: float | None = None,
    shuffle_seed: int | None = None,
    split: Mapping[str, float] | None = None,
    overwrite: bool = False,
    progress: Progress = _silent,
) -> Packed:
    """Write ``features.npy``, ``labels.npy``, ``names.npy`` and, where labels are classes, ``classes.txt``.

    Parameters
    ----------
    sources
        Files or folders of one kind, read as one: text tables (``.csv``, ``.tsv``, also ``.gz``), ``.parquet``,
        ``.npz`` (whose arrays keep their names), folders of images with one folder a class.
    out
        The output folder; made if need be.
    columns
        Which column of a table is what; by default the target is the one called so, else the last.
    shape
        The shape of a row, such as ``(8, 8)``. Images are brought to it: ``(height, width)`` grey,
        ``(height, width, 3)`` colour.
    dtype
        Of the features: float32 by default, uint8 for images that are not scaled.
    scale
        A factor for the features, such as ``1 / 255``.
    shuffle_seed
        Shuffles the rows, from 0 to 2³² - 1. The same seed over the same rows gives the same order.
    split
        Fraction of the rows by part, such as ``{"validation": 0.2}``: the last rows after shuffling. The parts, and
        ``train`` for the rest, become folders in `out`.
    overwrite
        Replace the files of an earlier pack.
    progress
        Called with what is being done, how much of it is done, and of how much.

    Returns
    -------
    Packed
        The files, and what the labels mean.

    Raises
    ------
    UsageError
        Arguments that contradict each other or the data; a file exists.
    DataError
        A source's content is wrong; the message names file, row and column.
    InputMissingError
        A source is missing or may not be read.
    StorageError
        The output cannot be written. Nothing is left of it then.
    EnvironmentInvalidError
        pyarrow or Pillow is needed and not installed.
    """
    paths = [Path(source) for source in sources]
    folder = Path(out)
    kind = _kind(paths)
    fractions = dict(split or {})
    placement.check(shuffle_seed, fractions)
    features = FeatureFormat(dtype, scale, shape)
    wish = columns or Columns()
    given = {
        "--shape": shape is not None,
        "--dtype": dtype is not None,
        "--scale": scale is not None,
        "--shuffle-seed": shuffle_seed is not None,
        "--split": bool(fractions),
    }
    if kind is _Kind.ARCHIVE:
        _refuse(kind, {**_column_options(wish), **given})
        return _pack_archives(paths, folder, overwrite=overwrite, progress=progress)
    if kind is _Kind.IMAGES:
        _refuse(kind, _column_options(wish))
        _check_folders(paths, folder, shuffle_seed, fractions)
    source = _source(kind, paths, wish, features)
    return _pack_rows(source, paths, folder, shuffle_seed, fractions, overwrite=overwrite, progress=progress)


def _pack_archives(paths: Sequence[Path], out: Path, *, overwrite: bool, progress: Progress) -> Packed:
    found = archive.members(paths)
    with Staging(out, [f"{name}.npy" for name in found], overwrite=overwrite) as staging:
        writers = archive.unpack(found, staging, progress)
        staging.commit()
    return Packed(_written(out, writers))


def _pack_rows(
    source: Source,
    paths: Sequence[Path],
    out: Path,
    seed: int | None,
    fractions: Mapping[str, float],
    *,
    overwrite: bool,
    progress: Progress,
) -> Packed:
    folders = [placement.REST, *fractions] if fractions else [""]
    owned = [_inside(name, file) for name in folders for file in (FEATURES, LABELS, NAMES)]
    staging = Staging(out, [*owned, CLASSES], overwrite=overwrite)
    scan = source.scan(progress)
    parts = placement.parts(scan.rows, fractions)
    places = None if seed is None else placement.shuffled(scan.rows, seed)
    with staging:
        writers = {part: _writers(staging, part, scan) for part in parts}
        done = 0
        for chunk in source.chunks(scan):
            stop = done + len(chunk.features)
            if stop > scan.rows:
                raise changed(paths[0])
            where = np.arange(done, stop) if places is None else places[done:stop].astype(np.int64)
            rows = {FEATURES: chunk.features, LABELS: chunk.labels, NAMES: chunk.names}
            for part, files in writers.items():
                here = (where >= part.start) & (where < part.stop)
                for file, writer in files.items():
                    values = rows[file]
                    if values is not None:
                        writer.write(values[here], where[here] - part.start)
            done = stop
            progress("Writing", done, scan.rows)
        if done != scan.rows:
            raise changed(paths[0])
        classes = scan.labels.classes if scan.labels else ()
        if classes:
            staging.text(CLASSES, classes)
        staging.commit()
    files = {_inside(part.name, file): writer for part, some in writers.items() for file, writer in some.items()}
    return Packed(_written(out, files), scan.target, classes)


def _writers(staging: Staging, part: placement.Part, scan: Scan) -> dict[str, NpyWriter]:
    kinds = {FEATURES: (scan.dtype, scan.row_shape), NAMES: (np.dtype(f"U{scan.name_width}"), ())}
    if scan.labels is not None:
        kinds[LABELS] = (scan.labels.dtype, ())
    return {
        file: staging.array(_inside(part.name, file), dtype, (part.rows, *shape))
        for file, (dtype, shape) in sorted(kinds.items())
    }


def _inside(part: str, file: str) -> str:
    return f"{part}/{file}" if part else file


def _written(out: Path, writers: Mapping[str, NpyWriter]) -> tuple[PackedFile, ...]:
    return tuple(PackedFile(out / name, writer.shape, writer.dtype) for name, writer in writers.items())


def _source(kind: _Kind, paths: Sequence[Path], wish: Columns, features: FeatureFormat) -> Source:
    if kind is _Kind.TEXT:
        return table.CsvSource(paths, wish, features)
    if kind is _Kind.PARQUET:
        return parquet.ParquetSource(paths, wish, features)
    return images.ImageSource(paths, features)


def _kind(paths: Sequence[Path]) -> _Kind:
    if not paths:
        raise UsageError("nothing to pack: name sources, then the output folder, as in feedline pack data.csv out/")
    kinds = {path: _kind_of(path) for path in paths}
    first = kinds[paths[0]]
    for path, kind in kinds.items():
        if kind is not first:
            raise UsageError(f"{path} is of another kind than {paths[0]}: pack {kind.value} and {first.value} apart")
    return first


def _kind_of(path: Path) -> _Kind:
    try:
        path.stat()
    except OSError as error:
        raise missing(path, error) from error
    if path.is_dir():
        return _Kind.IMAGES
    name = path.name.lower()
    suffixes = {_Kind.TEXT: table.SUFFIXES, _Kind.PARQUET: parquet.SUFFIXES, _Kind.ARCHIVE: archive.SUFFIXES}
    for kind, known in suffixes.items():
        if name.endswith(known):
            if not path.is_file():
                raise InputMissingError(f"{path} is no regular file, and sources are read twice: save it to a file")
            return kind
    every = ", ".join(suffix for known in suffixes.values() for suffix in known)
    raise UsageError(f"{path} is of no kind that can be packed: give {every}, or a folder of images by class")


def _column_options(wish: Columns) -> dict[str, bool]:
    return {
        "--target": wish.target is not None,
        "--no-target": not wish.labelled,
        "--names": wish.names is not None,
        "--drop": bool(wish.drop),
        "--header": wish.header is not None,
    }


def _refuse(kind: _Kind, options: Mapping[str, bool]) -> None:
    for option, given in options.items():
        if given:
            raise UsageError(f"{option} does not go with {kind.value}: leave it out")


def _check_folders(paths: Sequence[Path], out: Path, seed: int | None, fractions: Mapping[str, float]) -> None:
    if fractions and seed is None:
        raise UsageError("--split of images needs --shuffle-seed: they come class by class, the last would all go")
    for path in paths:
        if out.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{out} lies inside {path}, which is being packed: choose an output folder outside")
