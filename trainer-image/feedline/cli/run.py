"""`feedline run`: the process that a pod would run, with a progress bar and the verdict in words."""

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedline.cli import options
from feedline.contract import IMPORT_FROM, MAX_PROCESSES, ExitCode, Report
from feedline.errors import UsageError

if TYPE_CHECKING:
    from feedline.training import Progress

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
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Leave weights, checkpoints and report there; runs/NAME by default."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that lies in the output.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the run that lies in the output away.")] = False,
    processes: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=MAX_PROCESSES, help="Train in so many processes, each with its share of a batch."
        ),
    ] = 1,
    metrics_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="Serve /metrics, /feed and /healthz; 0 takes a free port."),
    ] = None,
) -> None:
    """Train, as the pod would, and say whether the data or the model was the bottleneck.

        feedline run pipeline.yaml --volume digits=data

    Another backend, other parameters:

        feedline run pipeline.yaml --volume digits=data --backend keras --set spec.loader.batchSize=64

    In two processes, which share every batch (PyTorch):

        feedline run pipeline.yaml --volume digits=data --backend pytorch --processes 2

    A run that was ended, by Ctrl-C or by anything else, goes on with the very next batch:

        feedline run pipeline.yaml --volume digits=data --output runs/digits --resume

    The way people load data without feedline, or all of it in memory:

        feedline run pipeline.yaml --volume digits=data --set spec.loader.engine=Classic

        feedline run pipeline.yaml --volume digits=data --set spec.loader.residency=Memory

    Exit codes: 0 done, 64 wrong manifest, 65 bad data, 66 missing file, 70 the training function raised, 78 a backend
    or module is not installed, 74 I/O error, 130 Ctrl-C, 143 terminated.
    """
    options.require_writable(report, "--report")
    if resume and fresh:
        raise UsageError("--resume and --fresh exclude each other: give one of them")
    options.quiet_frameworks()
    document = options.read(file, backend, set_)
    volumes = options.folders(document, volume)
    from feedline.training import Output, execute, logged

    folder = _output(document.name, output, resume=resume, fresh=fresh)
    with _watching() as watch, logged(logging.Formatter("feedline: %(message)s")):
        finished = execute(
            document,
            volumes,
            import_from=(*map(Path, filter(None, [os.environ.get(IMPORT_FROM)])), file.resolve().parent, Path.cwd()),
            report_path=report,
            port=metrics_port,
            on_start=watch,
            output=Output(folder),
            processes=processes,
        )
    if as_json:
        typer.echo(json.dumps(finished, indent=2, ensure_ascii=False))
    elif "steps" in finished and (finished["steps"] or finished["exitCode"] == ExitCode.OK):
        _show(finished)  # of what ended before the first step there is nothing to see but why
    if finished["exitCode"] != ExitCode.OK or finished["message"] != "completed":
        sys.stderr.write(f"feedline: {finished['message']}\n")
    raise typer.Exit(finished["exitCode"])


def _output(name: str, named: Path | None, *, resume: bool, fresh: bool) -> Path:
    """Return the folder of the run, in which there is nothing, or what it is to go on with.

    Raises
    ------
    UsageError
        Something lies in the folder that was named, and nobody said what is to become of it.
    """
    from feedline.training import make_fresh, require_new, run_of

    folder = named
    if folder is None:
        numbered = (Path("runs", name if number == 1 else f"{name}-{number}") for number in count(1))
        taken = list(takewhile(lambda each: each.exists(), numbered))
        if taken and (resume or fresh):
            folder = taken[-1]
        else:
            folder = Path("runs", name if not taken else f"{name}-{len(taken) + 1}")
    if fresh:
        make_fresh(folder)
    elif not resume or run_of(folder) is None:
        require_new(folder)
    return folder


@contextmanager
def _watching() -> Iterator[Any]:
    """Give a function that shows the progress of a run: a bar on a terminal, else a line every few seconds."""
    from rich.console import Console

    console = Console(stderr=True)
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def watch(look: "Progress") -> None:
        show = _bar if console.is_terminal else _lines
        threads.append(
            threading.Thread(target=show, args=(console, look, ended), name="feedline-progress", daemon=True)
        )
        threads[0].start()

    try:
        yield watch
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _lines(console: Any, look: "Progress", ended: threading.Event) -> None:
    while not ended.wait(_LINE_SECONDS):
        if (now := look()) is not None:
            console.print(_progress(now), highlight=False)


def _bar(console: Any, look: "Progress", ended: threading.Event) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("loading", total=None)
        while not ended.wait(_BAR_SECONDS):
            if (now := look()) is not None:
                bars.update(task, total=now["targetSteps"] or None, completed=now["steps"], description=_progress(now))


def _progress(now: Report) -> str:
    """Return epoch, step, speed, the last reported values and the waiting share in one line."""
    from feedline.units import rate

    pieces = [f"epoch {now['epochs']}", f"step {now['steps']}/{now['targetSteps'] or '…'}"]
    if "samplesPerSecond" in now:
        pieces.append(rate(now["samplesPerSecond"]))
    pieces += [f"{name} {now['values'][name]}" for name in ("loss", "val_accuracy") if name in now["values"]]
    if "waitPermille" in now:
        pieces.append(f"waiting {now['waitPermille'] / 10:.0f} %")
    return "  ".join(pieces)


def _left_behind(finished: Report) -> Iterator[tuple[str, str]]:
    """Yield what is told of what the run has left, and where."""
    from feedline.units import size

    if "best" in (aim := finished.get("objective", {})):
        yield "best", f"{aim['best']} at step {aim['bestStep']}"
    if "fromStep" in finished:
        yield "went on from step", str(finished["fromStep"])
    if "step" in (saved := finished.get("checkpoint", {})):
        yield "checkpoint", f"step {saved['step']} ({size(saved['bytes'])})"
    if "output" in finished:
        yield "output", _short(finished["output"])


def _short(folder: str) -> str:
    """Return a folder as people would type it."""
    path = Path(folder)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else folder


_SHARES = (
    ("the disk's rows at random", "diskRandomLimitPermille"),
    ("the disk's rows in order", "diskSequentialLimitPermille"),
    ("the feed's time in transforms", "transformPermille"),
)


def _show(finished: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

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
    for name, key in _SHARES:
        if key in finished:
            table.add_row(f"of {name}", f"{finished[key] / 10:.0f} %")  # type: ignore[literal-required]
    for name, value in finished["values"].items():
        table.add_row(Text(name), value)
    for row in _left_behind(finished):
        table.add_row(*row)
    console = Console()
    console.print(table)
    rates = (finished.get("feedSamplesPerSecond"), finished.get("modelSamplesPerSecond"))
    console.print(in_words(finished["verdict"], finished.get("waitPermille"), *rates), highlight=False)
