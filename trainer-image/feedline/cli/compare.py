"""`feedline compare`: the backends, the feed against the classic ways, and mapped against in memory, side by side."""

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedline.cli import options
from feedline.errors import EnvironmentInvalidError, UsageError

if TYPE_CHECKING:
    from feedline.compare import Cell, Result
    from feedline.manifest import Manifest

_BUILT_IN = "feedline.models:train"
_BAR_WIDTH = 24


def compare(
    file: options.File,
    *,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="BACKEND", help="Compare only this one. Repeatable. Default: all installed."),
    ] = None,
    volume: options.VolumeOption = None,
    set_: options.SetOption = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Timed runs of each way; the table shows medians.")] = 3,
    steps: Annotated[int, typer.Option(min=2, max=1_000_000, help="Steps of a timed run.")] = 200,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the model of each backend in DIR/BACKEND, in place of an earlier one."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw the medians and their spread.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead of a table.")] = False,
) -> None:
    """Train with every backend that is installed, and put ways of loading side by side.

        feedline compare pipeline.yaml --volume digits=data

    Only PyTorch, more rounds, a picture:

        feedline compare pipeline.yaml --volume digits=data --backend pytorch --rounds 9 --plot compare.png

    The built-in model exists for each backend; with an entrypoint of your own only engines and residency are
    compared. Ways are measured in turn, round after round, in one process for each backend.
    """
    from feedline.compare import compare as measure

    options.require_writable(plot, "--plot")
    options.quiet_frameworks()
    changes = list(set_ or [])
    document = options.read(file, None, changes)
    volumes = options.folders(document, volume)
    cells = _cells(document, backend or [])
    if plot is not None and find_spec("matplotlib") is None:
        raise EnvironmentInvalidError("--plot: matplotlib is not installed here: pip install 'feedline[plot]'")
    with _status() as say:
        results = measure(file, changes, volumes, cells, rounds=rounds, steps=steps, output=output, on_progress=say)
    if as_json:
        typer.echo(json.dumps([{**vars(cell), **vars(result)} for cell, result in results.items()], indent=2))
    else:
        _show(document.name, results)
        if output is not None:
            typer.echo(f"The models lie in {', '.join(sorted({f'{output}/{cell.backend}' for cell in results}))}.")
    if plot is not None:
        _draw(document.name, results, plot)
    hashes = {result.rows_hash for result in results.values()}
    if len(hashes) > 1:
        sys.stderr.write("feedline: the ways did not deliver the same rows; see the hashes\n")
        raise typer.Exit(1)


def _cells(document: "Manifest", chosen: list[str]) -> list["Cell"]:
    from feedline.compare import Cell
    from feedline.training import PACKAGES, require_backend

    if document.train.command:
        raise UsageError("spec.train.command: compare needs an entrypoint, which it can call again and again")
    for backend in chosen:
        if backend not in PACKAGES:
            raise UsageError(f"--backend {backend}: must be one of {', '.join(PACKAGES)}")
        require_backend(backend)
    backends = chosen or [name for name, package in PACKAGES.items() if find_spec(package) is not None]
    if document.train.entrypoint != _BUILT_IN:
        backends = [document.backend]
    if not backends:
        raise EnvironmentInvalidError("no backend is installed here: pip install 'feedline[pytorch]' or another")
    splits = [document.train_data, *([document.validation_data] if document.validation_data else [])]
    arrays = [array for split in splits for array in split.arrays]
    many_files = any("*" in array.path for array in arrays)
    others = not all(array.is_npy for array in arrays)
    transforms = bool(document.transforms) or document.train.transform is not None
    chooses = document.loader.draw is not None or any(split.index is not None for split in splits)
    if document.loader.shuffle == "block":
        typer.echo("the classic engines know no block shuffle, and are left out")
    elif chooses:
        typer.echo("the classic engines take every row once, and are left out")
    elif transforms:
        typer.echo("the classic engines hand rows out as they are stored, and are left out")
    elif many_files or others:
        typer.echo("the classic engines read one .npy file for each array, and are left out")
    one_engine = many_files or others or chooses or transforms or document.loader.shuffle == "block"
    return [
        Cell(backend, engine, residency)
        for backend in backends
        for engine in (("Feed",) if one_engine else ("Feed", "Classic"))
        for residency in ("Mapped", "Memory")
    ]


def _status() -> Any:
    from contextlib import contextmanager

    from rich.console import Console

    console = Console(stderr=True)

    @contextmanager
    def status() -> Any:
        with console.status("starting") as shown:
            yield shown.update if console.is_terminal else lambda _: None

    return status()


def _show(name: str, results: Mapping["Cell", "Result"]) -> None:
    from rich.console import Console
    from rich.table import Table

    from feedline.units import rate

    fastest = max(result.median_rate for result in results.values())
    table = Table(title=f"{name}: rows a second in training, median of {len(next(iter(results.values())).rates)}")
    for heading in ("backend", "engine", "residency"):
        table.add_column(heading)
    for heading in ("rows/s", "spread", "waiting", "val_accuracy"):
        table.add_column(heading, justify="right")
    table.add_column("")
    last_of = {cell.backend: cell for cell in results}
    for cell, result in results.items():
        waits = sorted(result.wait_permille)
        bar = "█" * max(1, round(_BAR_WIDTH * result.median_rate / fastest))
        table.add_row(
            cell.backend,
            cell.engine,
            cell.residency,
            rate(result.median_rate, unit=""),
            f"{rate(min(result.rates), unit='')} - {rate(max(result.rates), unit='')}",
            f"{waits[len(waits) // 2] / 10:.0f} %" if waits else "not seen",
            result.values.get("val_accuracy", ""),
            bar,
            end_section=cell == last_of[cell.backend],
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    hashes = sorted({result.rows_hash for result in results.values()})
    if len(hashes) == 1:
        console.print(f"All of them delivered the same rows (hash {hashes[0]}).", highlight=False)
    else:
        for cell, result in results.items():
            console.print(f"{cell}: rows hash {result.rows_hash}", highlight=False)


def _draw(name: str, results: Mapping["Cell", "Result"], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    labels = [str(cell) for cell in results]
    medians = [result.median_rate for result in results.values()]
    low = [result.median_rate - min(result.rates) for result in results.values()]
    high = [max(result.rates) - result.median_rate for result in results.values()]
    colors = ["tab:blue" if cell.engine == "Feed" else "tab:gray" for cell in results]
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(labels) + 1.5))
    axes.barh(labels, medians, xerr=[low, high], color=colors, capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel("rows a second in training (median; the line spans all rounds)")
    axes.set_title(name)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
