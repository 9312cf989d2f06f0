"""`feedline pack`: reads the command line, shows progress on a terminal, says what was written.

What is packed how is `feedline.pack`'s business; errors go up to the command line's edge, which has their exit codes.
"""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from feedline.contract import ExitCode
from feedline.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from feedline.pack import Column, Packed, Progress

_SHOWN_COLUMNS = 20


def pack(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="SOURCE... OUT", help="Files or folders of one kind, then the output folder."),
    ],
    *,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The labels' column, by name or by number from 1. "
            "Default: the one called label, labels, target, class or y, else the last one.",
        ),
    ] = None,
    no_target: Annotated[bool, typer.Option("--no-target", help="The table has no labels.")] = False,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="The column that names the rows. Default: none, names are SOURCE-000000 and so on."
        ),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(metavar="COLUMN", help="Leave a column out. Repeatable.")] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether a text table's first row names the columns. Default: seen from the data, or asked for.",
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            help="What separates the columns of a text table, such as ';' or tab. Default: a comma.",
        ),
    ] = None,
    decimal: Annotated[
        str, typer.Option(metavar="CHARACTER", help="What stands before a fraction in a text table: . or a comma.")
    ] = ".",
    null: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Cells of a text table with this text have no number: NaN in the features. Repeatable. "
            "Default: none, such a cell is an error.",
        ),
    ] = None,
    encoding: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Of a text table, such as latin-1 or utf-16; what is no UTF-8 is first written so to TMPDIR.",
        ),
    ] = "utf-8",
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The classes.txt of another set: labels get its numbers, and each must be in it."
        ),
    ] = None,
    background: Annotated[
        str | None, typer.Option(metavar="COLOUR", help="What lies behind transparent pixels of images, such as white.")
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(metavar="8,8", help="The shape of a row. Images are resized to it: 64,64 grey, 64,64,3 colour."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE", help="Of the features. Default: float32; of images that are not scaled uint8, or uint16."
        ),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(metavar="FACTOR", help="Multiply the features, such as 0.0625 to bring 0-16 to 0-1.")
    ] = None,
    shuffle_seed: Annotated[
        int | None, typer.Option(metavar="N", help="Shuffle the rows; the same seed gives the same order.")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FRACTION",
            help="Put the last rows (after shuffling) into OUT/NAME, the rest into OUT/train. Repeatable.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an earlier pack.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, say what would be written, and write nothing.")
    ] = False,
) -> None:
    """Turn tables, archives and folders of images into .npy files that a feed maps.

    A table (.csv, .tsv, also .gz or .zst, or .parquet) needs no options: the last column holds the labels. What every
    column became is printed.

        feedline pack digits.csv.gz data/

    Rows of another shape, scaled from 0-16 to 0-1:

        feedline pack digits.csv.gz data/ --shape 8,8 --scale 0.0625

    Shuffled, with one row in five held out:

        feedline pack iris.csv data/ --shuffle-seed 7 --split validation=0.2

    Several files, or a folder of them, are read as one; columns are known by name or number:

        feedline pack part-*.parquet data/ --target species --names id

    As spreadsheets write them where a comma stands before fractions:

        feedline pack prices.csv data/ --delimiter semicolon --decimal , --null NA

    A second set with the numbers of the first one's classes:

        feedline pack more.csv more/ --classes data/classes.txt

    Images lie in one folder a class, as in photos/cat/1.jpg:

        feedline pack photos/ data/ --shape 64,64,3 --shuffle-seed 7

    The arrays of an .npz or of an HDF5 file become one file each, group/x in one as group.x.npy in the other:

        feedline pack mnist.npz data/

    It writes features.npy, labels.npy (int32; float32 where a label is no whole number), names.npy, and classes.txt
    where labels are names. A number that the type of the features does not hold is an error. Files appear when they
    are whole; however large the source, little memory is used.
    """
    from feedline.pack import Columns, Dialect
    from feedline.pack import pack as pack_sources

    if len(paths) < 2:
        raise UsageError("the output folder is missing: name it after the sources, as in feedline pack data.csv out/")
    *sources, out = paths
    with _sigterm_as_exception(), _progress() as progress:
        packed = pack_sources(
            sources,
            out,
            columns=Columns(target, not no_target, names, tuple(drop or ()), header),
            dialect=Dialect(delimiter, decimal, tuple(null or ()), encoding),
            classes=classes,
            background=background,
            shape=_shape(shape),
            dtype=dtype,
            scale=scale,
            shuffle_seed=shuffle_seed,
            split=split_of(split or []),
            overwrite=overwrite,
            dry_run=dry_run,
            progress=progress,
        )
    said(packed)
    if dry_run:
        typer.echo("Nothing was written: leave out --dry-run to write it.")


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(size) for size in text.replace("x", ",").split(","))
    except ValueError:
        raise UsageError(f"--shape {text} is no shape: give sizes with commas, such as 8,8") from None


def split_of(texts: list[str], option: str = "--split") -> dict[str, float]:
    """Return the fractions that an option names, which may be given several times.

    Raises
    ------
    UsageError
        One is no fraction, or named twice.
    """
    fractions: dict[str, float] = {}
    for text in texts:
        name, _, fraction = text.partition("=")
        if name in fractions:
            raise UsageError(f"{option} {name} is given twice: leave one out")
        try:
            fractions[name] = float(fraction)
        except ValueError:
            raise UsageError(f"{option} {text}: give a name and a fraction, such as validation=0.2") from None
    return fractions


def said(packed: "Packed") -> None:
    """Print what was written."""
    from feedline.cli.printable import columns, line

    if packed.columns:
        for row in columns([("COLUMN", "NAME", "HOLDS", "ROLE", "RANGE", "MISSING"), *_runs(packed.columns)]):
            typer.echo(row)
    width = max(len(str(file.path)) for file in packed.files)
    for file in packed.files:
        typer.echo(line(f"{file.path!s:{width}}  {list(file.shape)} {_element(file.dtype)}"))
    if packed.target:
        typer.echo(
            line(f"Labels come from {packed.target}" + (f", {len(packed.classes)} classes." if packed.classes else "."))
        )
    for sentence in packed.said:
        typer.echo(line(sentence))


def _runs(columns: "Sequence[Column]") -> Iterator[tuple[str, str, str, str, str, str]]:
    """Yield a row for each column, and one for several of a long table that lie together and are alike."""
    is_long = len(columns) > _SHOWN_COLUMNS
    for _, alike in groupby(columns, lambda column: (column.kind, column.role) if is_long else column.number):
        run = list(alike)
        low = min((column.low for column in run if column.low is not None), default=None)
        high = max((column.high for column in run if column.high is not None), default=None)
        first, last = run[0], run[-1]
        yield (
            f"{first.number}" if first is last else f"{first.number}-{last.number}",
            first.name if first is last or not first.name else f"{first.name} … {last.name}",
            first.kind,
            first.role,
            "" if low is None else f"{low:g} to {high:g}",
            str(sum(column.missing for column in run) or ""),
        )


def _element(dtype: "np.dtype[Any]") -> str:
    return f"text of up to {dtype.itemsize // 4} characters" if dtype.kind == "U" else str(dtype)


@contextmanager
def _progress() -> "Iterator[Progress]":
    """Give a progress bar on a terminal, and silence elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    with Bars(console=console, disable=not console.is_terminal, transient=True) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)  # type: ignore[arg-type]

        yield show


@contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that nothing half-written stays; its default ends the process at once."""

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(ExitCode.TERMINATED)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
