"""`feedline split`: reads the command line, and says which index files were written."""

from pathlib import Path
from typing import Annotated

import typer

from feedline.cli.pack import said, split_of


def split(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file with the rows, such as that of the labels.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The output folder.")],
    *,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FRACTION", help="Put so many rows into OUT/NAME.npy, the rest into OUT/train.npy. Repeatable."
        ),
    ] = None,
    folds: Annotated[
        int,
        typer.Option(metavar="N", help="Hold out every row once: OUT/train-0.npy and OUT/validation-0.npy, and so on."),
    ] = 0,
    by_labels: Annotated[
        bool, typer.Option("--by-labels", help="FILE holds classes, of which every part and fold gets its share.")
    ] = False,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of the chance by which rows are dealt; the same deals them alike.")
    ] = 0,
    in_order: Annotated[
        bool, typer.Option("--in-order", help="Deal none: parts are the last rows, and folds follow each other.")
    ] = False,
    gap: Annotated[
        int, typer.Option(metavar="ROWS", help="With --in-order, rows to leave out between train and the others.")
    ] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an earlier split.")] = False,
) -> None:
    """Write which rows to train on and which to hold out, as `data.train.rows.index` of a pipeline reads it.

    One row in five held out, of every class:

        feedline split data/labels.npy data/parts --part validation=0.2 --by-labels

    Five folds:

        feedline split data/labels.npy data/folds --folds 5

    The last tenth of a series, a week after the rest of it:

        feedline split data/hours.npy data/parts --part validation=0.1 --in-order --gap 168

    The rows themselves stay where they are, and are not copied.
    """
    from feedline.pack import divide

    packed = divide(
        path,
        out,
        fractions=split_of(part or [], "--part"),
        folds=folds,
        by_labels=by_labels,
        seed=None if in_order else seed,
        gap=gap,
        overwrite=overwrite,
    )
    said(packed)
