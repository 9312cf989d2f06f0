"""`feedline run`: the process that a pod would run, with a progress bar and the verdict in words."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedline.cli import options
from feedline.contract import ExitCode, Report

if TYPE_CHECKING:
    from feedline.training import Run

_LINE_SECONDS = 5.0
_BAR_SECONDS = 0.25


def run(
    file: options.File,
    *,
    backend: options.Backend = None,
    volume: options.VolumeOption = None,
    set_: options.SetOption = None,
    report: Annotated[Path | None, typer.Option(metavar="OUT.json", help="Write the report to a file, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")] = False,
    metrics_port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Serve /metrics, /feed and /healthz; 0 takes a free port.")
    ] = None,
) -> None:
    """Train, as the pod would, and say whether the data or the model was the bottleneck.

        feedline run pipeline.yaml --volume digits=data

    Another backend, other parameters:

        feedline run pipeline.yaml --volume digits=data --backend keras --set spec.loader.batchSize=64

    The way people load data without feedline, or all of it in memory:

        feedline run pipeline.yaml --volume digits=data --set spec.loader.engine=Classic

        feedline run pipeline.yaml --volume digits=data --set spec.loader.residency=Memory

    Exit codes: 0 done, 64 wrong manifest, 65 bad data, 66 missing file, 70 the training function raised, 78 a backend
    or module is not installed, 74 I/O error, 130 Ctrl-C, 143 terminated.
    """
    options.quiet_frameworks()
    document = options.read(file, backend, set_)
    volumes = options.folders(document, volume)
    from feedline.training import execute, logged

    with _watching() as watch, logged(logging.Formatter("feedline: %(message)s")):
        finished = execute(
            document,
            volumes,
            import_from=(file.resolve().parent, Path.cwd()),
            report_path=report,
            port=metrics_port,
            on_start=watch,
        )
    if as_json:
        typer.echo(json.dumps(finished, indent=2, ensure_ascii=False))
    elif "steps" in finished:
        _show(finished)
    if finished["exitCode"] != ExitCode.OK or finished["message"] != "completed":
        sys.stderr.write(f"feedline: {finished['message']}\n")
    raise typer.Exit(finished["exitCode"])


@contextmanager
def _watching() -> Iterator[Any]:
    """Give a function that shows the progress of a run: a bar on a terminal, else a line every few seconds."""
    from rich.console import Console

    console = Console(stderr=True)
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def watch(run: "Run") -> None:
        show = _bar if console.is_terminal else _lines
        threads.append(threading.Thread(target=show, args=(console, run, ended), name="feedline-progress", daemon=True))
        threads[0].start()

    try:
        yield watch
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _lines(console: Any, run: "Run", ended: threading.Event) -> None:
    while not ended.wait(_LINE_SECONDS):
        console.print(_progress(run), highlight=False)


def _bar(console: Any, run: "Run", ended: threading.Event) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("loading", total=run.target_steps or None)
        while not ended.wait(_BAR_SECONDS):
            bars.update(task, completed=run.train.steps, description=_progress(run))


def _progress(run: "Run") -> str:
    """Return epoch, step, speed, the last reported values and the waiting share in one line."""
    from feedline.training import decimal, summarize
    from feedline.units import rate

    now = summarize(run.snapshot())
    pieces = [f"epoch {now['epochs']}", f"step {now['steps']}/{now['targetSteps'] or '…'}"]
    if "samplesPerSecond" in now:
        pieces.append(rate(now["samplesPerSecond"]))
    pieces += [f"{name} {decimal(run.values[name])}" for name in ("loss", "val_accuracy") if name in run.values]
    if "waitPermille" in now:
        pieces.append(f"waiting {now['waitPermille'] / 10:.0f} %")
    return "  ".join(pieces)


_LIMITS = (
    ("the disk's rows at random", "diskRandomLimitPermille"),
    ("the disk's rows in order", "diskSequentialLimitPermille"),
)


def _show(finished: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from feedline.training import in_words
    from feedline.units import rate, size

    table = Table(title=f"{finished['pipeline']}: {finished['backend']}, {finished['engine']}", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("result", finished["reason"])
    table.add_row("epochs, steps", f"{finished['epochs']}, {finished['steps']}")
    table.add_row("rows", f"{finished['samples']} ({size(finished['bytes'])})")
    if "samplesPerSecond" in finished:
        table.add_row("speed", rate(finished["samplesPerSecond"]))
    for name, key in (("fetch", "fetchMicros"), ("step", "stepMicros")):
        if key in finished:
            percentiles = finished[key]  # type: ignore[literal-required]
            told = " / ".join(f"{percentiles[each] / 1000:.2f}" for each in ("p50", "p95", "p99"))
            table.add_row(f"{name} p50/p95/p99", f"{told} ms")
    if "firstBatchMillis" in finished and "firstStepMillis" in finished:
        table.add_row("first batch, first step", f"{finished['firstBatchMillis']}, {finished['firstStepMillis']} ms")
    table.add_row("page faults, major/minor", f"{finished['majorFaults']} / {finished['minorFaults']}")
    if finished.get("diskSamples"):
        table.add_row("rows read from the disk", f"{finished['diskSamples']}")
    for name, key in _LIMITS:
        if key in finished:
            table.add_row(f"of {name}", f"{finished[key] / 10:.0f} %")  # type: ignore[literal-required]
    for name, value in finished["values"].items():
        table.add_row(name, value)
    console = Console()
    console.print(table)
    rates = (finished.get("feedSamplesPerSecond"), finished.get("modelSamplesPerSecond"))
    console.print(in_words(finished["verdict"], finished.get("waitPermille"), *rates), highlight=False)
