"""Tables, archives and folders of images become the `.npy` files that a feed maps.

Two passes over the sources, in constant memory: the first settles shapes, types and the number of rows, the second
writes each row to its place. The files get their names when all are whole, or never. No pickle is read or written.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy import typing as npt

from feedline.errors import UsageError, edge
from feedline.pack import archive, datasets, images, placement
from feedline.pack.columns import Columns
from feedline.pack.dialect import Dialect
from feedline.pack.kinds import Kind, sources_of
from feedline.pack.labels import read_classes
from feedline.pack.members import joined, unpack
from feedline.pack.npy import NpyWriter, Staging
from feedline.pack.source import Chunk, Column, FeatureFormat, Progress, Scan, Source, changed, optional_module

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
    """What `pack` wrote, or would write.

    Attributes
    ----------
    files
        The `.npy` files.
    target
        What the labels were taken from, in words; empty if there are none.
    classes
        The class names, whose index is the label; empty where labels are numbers.
    columns
        What became of each column of a table.
    said
        What was decided or left out, in sentences that a person should see.
    """

    files: tuple[PackedFile, ...]
    target: str = ""
    classes: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    said: tuple[str, ...] = ()


def _silent(stage: str, done: int, total: int) -> None:
    """Report no progress."""


@edge()
def pack(
    sources: Sequence[str | PathLike[str]],
    out: str | PathLike[str],
    *,
    columns: Columns | None = None,
    dialect: Dialect | None = None,
    classes: str | PathLike[str] | None = None,
    background: str | None = None,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    scale: float | None = None,
    shuffle_seed: int | None = None,
    split: Mapping[str, float] | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress = _silent,
) -> Packed:
    """Write ``features.npy``, ``labels.npy``, ``names.npy`` and, where labels are classes, ``classes.txt``.

    Parameters
    ----------
    sources
        Files or folders of one kind, read as one: text tables (``.csv``, ``.tsv``, also ``.gz`` and ``.zst``),
        ``.parquet``, folders of these, ``.npz`` and HDF5 (whose arrays keep their names), folders of images with one
        folder a class.
    out
        The output folder; made if need be.
    columns
        Which column of a table is what; by default the target is the one called so, else the last.
    dialect
        How text tables are written.
    classes
        A ``classes.txt`` of another set, whose numbers the labels get; each label must be in it.
    background
        The colour behind transparent pixels of images, such as ``"white"``.
    shape
        The shape of a row, such as ``(8, 8)``. Images are brought to it: ``(height, width)`` grey,
        ``(height, width, 3)`` colour.
    dtype
        Of the features: float32 by default; uint8 for images that are not scaled, uint16 for those of 16 bits.
    scale
        A factor for the features, such as ``1 / 255``.
    shuffle_seed
        Shuffles the rows, from 0 to 2³² - 1. The same seed over the same rows gives the same order.
    split
        Fraction of the rows by part, such as ``{"validation": 0.2}``: the last rows after shuffling. The parts, and
        ``train`` for the rest, become folders in `out`.
    overwrite
        Replace the files of an earlier pack.
    dry_run
        Read and check everything, and write nothing.
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
        pyarrow, Pillow or h5py is needed and not installed.
    """
    kind, paths, left_out = sources_of([Path(source) for source in sources])
    folder = Path(out)
    fractions = dict(split or {})
    placement.check(shuffle_seed, fractions)
    features = FeatureFormat(dtype, scale, shape)
    wish, written = columns or Columns(), dialect or Dialect()
    numbers = {
        "--shape": shape is not None,
        "--dtype": dtype is not None,
        "--scale": scale is not None,
        "--shuffle-seed": shuffle_seed is not None,
        "--split": bool(fractions),
        "--classes": classes is not None,
    }
    if kind is not Kind.TEXT:
        _refuse(kind, written.given() | {"--header": wish.header is not None})
    if kind is not Kind.IMAGES:
        _refuse(kind, {"--background": background is not None})
    if kind in (Kind.ARCHIVE, Kind.HDF5, Kind.IMAGES):
        _refuse(kind, _column_options(wish))
    if kind in (Kind.ARCHIVE, Kind.HDF5):
        _refuse(kind, numbers)
        return _pack_arrays(kind, paths, folder, overwrite=overwrite, dry_run=dry_run, progress=progress)
    if kind is Kind.IMAGES:
        _check_folders(paths, folder, shuffle_seed, fractions)
    known = None if classes is None else read_classes(Path(classes))
    source = _source(kind, paths, wish, written, features, known, background)
    packed = _pack_rows(
        source, paths, folder, shuffle_seed, fractions, overwrite=overwrite, dry_run=dry_run, progress=progress
    )
    return replace(packed, said=(*packed.said, *left_out))


def _pack_arrays(
    kind: Kind, paths: Sequence[Path], out: Path, *, overwrite: bool, dry_run: bool, progress: Progress
) -> Packed:
    """Pack what holds arrays by name."""
    found, said = archive.members(paths) if kind is Kind.ARCHIVE else datasets.members(paths)
    staging = Staging(out, [f"{name}.npy" for name in found], overwrite=overwrite)
    if dry_run:
        files = {f"{name}.npy": joined(parts) for name, parts in found.items()}
        written = tuple(PackedFile(out / name, shape, dtype) for name, (shape, dtype) in files.items())
        return Packed(written, said=said)
    with staging:
        writers = unpack(found, staging, progress)
        staging.commit()
    return Packed(_written(out, writers), said=said)


def _pack_rows(
    source: Source,
    paths: Sequence[Path],
    out: Path,
    seed: int | None,
    fractions: Mapping[str, float],
    *,
    overwrite: bool,
    dry_run: bool,
    progress: Progress,
) -> Packed:
    folders = [placement.REST, *fractions] if fractions else [""]
    owned = [_inside(name, file) for name in folders for file in (FEATURES, LABELS, NAMES)]
    staging = Staging(out, [*owned, CLASSES], overwrite=overwrite)
    scan = source.scan(progress)
    parts = placement.parts(scan.rows, fractions)
    places = None if seed is None or dry_run else placement.shuffled(scan.rows, seed)
    classes = scan.labels.classes if scan.labels else ()
    if dry_run:
        for _ in _chunks(source, scan, paths, progress):
            pass
    else:
        with staging:
            writers = {part: _writers(staging, part, scan) for part in parts}
            done = 0
            for chunk in _chunks(source, scan, paths, progress):
                stop = done + len(chunk.features)
                _write(chunk, np.arange(done, stop) if places is None else places[done:stop].astype(np.int64), writers)
                done = stop
            if classes:
                staging.text(CLASSES, classes)
            staging.commit()
    files = tuple(
        PackedFile(out / _inside(part.name, file), (part.rows, *shape), dtype)
        for part in parts
        for file, (dtype, shape) in _kinds(scan).items()
    )
    return Packed(files, scan.target, classes, source.columns(), source.said())


def _chunks(source: Source, scan: Scan, paths: Sequence[Path], progress: Progress) -> Iterator[Chunk]:
    """Yield a source's chunks, as many rows in all as the scan found."""
    done = 0
    for chunk in source.chunks(scan):
        done += len(chunk.features)
        if done > scan.rows:
            raise changed(paths[0])
        progress("Writing", done, scan.rows)
        yield chunk
    if done != scan.rows:
        raise changed(paths[0])


def _write(
    chunk: Chunk, where: npt.NDArray[np.integer[Any]], writers: Mapping[placement.Part, Mapping[str, NpyWriter]]
) -> None:
    """Put the rows of a chunk to their places."""
    rows = {FEATURES: chunk.features, LABELS: chunk.labels, NAMES: chunk.names}
    for part, files in writers.items():
        here = slice(None) if len(writers) == 1 else (where >= part.start) & (where < part.stop)
        for file, writer in files.items():
            values = rows[file]
            if values is not None:
                writer.write(values[here], where[here] - part.start)


def _kinds(scan: Scan) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return dtype and row shape of each file of a part."""
    kinds = {FEATURES: (scan.dtype, scan.row_shape), NAMES: (np.dtype(f"U{scan.name_width}"), ())}
    if scan.labels is not None:
        kinds[LABELS] = (scan.labels.dtype, ())
    return dict(sorted(kinds.items()))


def _writers(staging: Staging, part: placement.Part, scan: Scan) -> dict[str, NpyWriter]:
    return {
        file: staging.array(_inside(part.name, file), dtype, (part.rows, *shape))
        for file, (dtype, shape) in _kinds(scan).items()
    }


def _inside(part: str, file: str) -> str:
    return f"{part}/{file}" if part else file


def _written(out: Path, writers: Mapping[str, NpyWriter]) -> tuple[PackedFile, ...]:
    return tuple(PackedFile(out / name, writer.shape, writer.dtype) for name, writer in writers.items())


def _source(
    kind: Kind,
    paths: Sequence[Path],
    wish: Columns,
    dialect: Dialect,
    features: FeatureFormat,
    classes: tuple[str, ...] | None,
    background: str | None,
) -> Source:
    if kind is Kind.IMAGES:
        return images.ImageSource(paths, features, background=background, classes=classes)
    optional_module("pyarrow", "pyarrow", "tables")
    from feedline.pack import parquet, table, text

    is_text = kind is Kind.TEXT
    tables = text.TextTables(paths, dialect, wish.header) if is_text else parquet.ParquetTables(paths)
    return table.TableSource(paths, tables, wish, features, dialect=dialect, classes=classes, suffixes=kind.suffixes)


def _column_options(wish: Columns) -> dict[str, bool]:
    return {
        "--target": wish.target is not None,
        "--no-target": not wish.labelled,
        "--names": wish.names is not None,
        "--drop": bool(wish.drop),
    }


def _refuse(kind: Kind, options: Mapping[str, bool]) -> None:
    for option, given in options.items():
        if given:
            raise UsageError(f"{option} does not go with {kind.title}: leave it out")


def _check_folders(paths: Sequence[Path], out: Path, seed: int | None, fractions: Mapping[str, float]) -> None:
    if fractions and seed is None:
        raise UsageError("--split of images needs --shuffle-seed: they come class by class, the last would all go")
    for path in paths:
        if out.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{out} lies inside {path}, which is being packed: choose an output folder outside")
