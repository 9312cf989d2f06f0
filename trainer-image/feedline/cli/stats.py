"""`feedline stats`: reads the command line, and says what the statistics are."""

from typing import TYPE_CHECKING, Annotated

import typer

from feedline.cli import options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def stats(
    file: options.File,
    *,
    volume: options.VolumeOption = None,
    set_: options.SetOption = None,
    axis: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="The axis of a row whose places have a mean each: -1 the last, such as columns, 0 the first of a row.",
        ),
    ] = -1,
) -> None:
    """Write the means and standard deviations by which a manifest standardizes.

        feedline stats pipeline.yaml --volume digits=data

    Of pictures whose rows are [channels, height, width], one mean for each channel:

        feedline stats pipeline.yaml --volume pictures=data --axis 0

    Each `standardize` of `data.transforms` names the file that is written. All training rows are read once, in order;
    rows of the validation are none of them.
    """
    document = options.read(file, None, set_)
    volumes = options.folders(document, volume)
    from feedline.training import write_statistics

    for measured in write_statistics(document, volumes, axis):
        found = measured.statistics
        typer.echo(f"{measured.path}: {measured.array}, {found.rows} rows, {found.mean.size} means")
        for title, values in (("mean", found.mean), ("std", found.std), ("min", found.least), ("max", found.most)):
            typer.echo(f"  {title:4} {_span(values)}")


def _span(values: "NDArray[np.float64]") -> str:
    least, most = float(values.min()), float(values.max())
    return f"{least:.6g}" if values.size == 1 else f"{least:.6g} to {most:.6g}"
