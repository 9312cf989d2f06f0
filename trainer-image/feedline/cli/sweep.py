"""`feedline sweep …`: runs a sweep on this machine, and shows what came of one, wherever it ran."""

import csv
import io
import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedline import manifest
from feedline.cli import options
from feedline.cli.connection import ContextOption, KubeconfigOption, NamespaceOption
from feedline.cli.overviews import of_sweep, table, write_page
from feedline.cli.overviews import show as show_overview
from feedline.cli.swept import swept, swept_in
from feedline.contract import ExitCode
from feedline.errors import UsageError
from feedline.overview import text

if TYPE_CHECKING:
    from feedline.cli.swept import Swept
    from feedline.manifest import Manifest, Sweep
    from feedline.sweeps import Trial

app = typer.Typer(no_args_is_help=True, help="Run many trainings with other parameters, and find the best.")
_File = Annotated[Path, typer.Argument(metavar="FILE", help="A TrainingSweep.")]
_Place = Annotated[str, typer.Argument(metavar="DIR|NAME", help="The folder of a sweep, or one in a cluster.")]
_COLUMNS = ("trial", "state", "best", "message")
_LINES_AROUND = 6
"""Of a terminal, around the rows of a table."""


@app.command()
def run(
    file: _File,
    *,
    volume: options.VolumeOption = None,
    set_: options.SetOption = None,
    parallel: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=100, help="Trials at once, instead of the file's.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Leave the trials there; sweeps/NAME by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep that lies in the output.")] = False,
) -> None:
    """Run the trials of a sweep here, each as a process, and say which was best.

        feedline sweep run sweep.yaml --volume digits=data --parallel 2

    One that was ended, by Ctrl-C or by anything else, goes on where it was, its trials from their checkpoints:

        feedline sweep run sweep.yaml --volume digits=data --resume

    Exit codes: 0 done, 64 wrong manifest, 70 too many trials failed, 78 something is not installed, 130 Ctrl-C, 143
    terminated.
    """
    changes = [*(set_ or []), *([] if parallel is None else [f"spec.parallel={parallel}"])]
    document = manifest.read_sweep(file, changes)
    from feedline.local import SWEEP, LocalSweep

    metadata = document.get("metadata")
    folder = output or Path("sweeps", str(metadata.get("name")) if isinstance(metadata, dict) else "")
    # What lies there was found right when it began; another sweep is refused.
    sweep = manifest.parse_sweep(document, is_accepted=resume and (folder / SWEEP).is_file())
    volumes = options.folders(manifest.parse(sweep.pipeline_of(0, {})), volume)
    named = [f"--volume={name}={Path(place).absolute()}" for name, place in volumes.items()]
    local = LocalSweep(folder, sweep, _rows(volumes), named, file.resolve().parent)
    with _terminable(), _watching(sweep) as watch:
        decision = local.run(watch, resumes=resume)
    _show(swept_in(folder))
    typer.echo(f"sweep: {folder}")
    if decision.failure:
        sys.stderr.write(
            f"feedline: {decision.failure}\nfeedline: a trial whose {folder}/{sweep.name}-NUMBER.yaml is deleted runs "
            "again with --resume\n"
        )
        raise typer.Exit(ExitCode.USER_ERROR)


@app.command()
def show(
    place: _Place,
    *,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Draw the trials as a page there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the trials as JSON instead of a table.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show the trials of a sweep: the best first, how well each was fed, and why others were ended.

        feedline sweep show sweeps/digits --html digits.html
        feedline sweep show digits -n team

    The page is one file that loads nothing: curves, parameters, which of them decides, and every trial.

    Exit codes: 0 shown, 64 the page cannot be written, 66 there is no sweep, 78 no cluster.
    """
    found = swept(place, namespace, context, kubeconfig)
    if html is not None:
        write_page(of_sweep(found.sweep, found.trials, found.reports), html)
    if as_json:
        from feedline.sweeps import ranked

        told = [_as_json(found, trial) for trial in ranked(found.trials, found.sweep.objective)]
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    _show(found)
    if html is not None:
        typer.echo(f"page: {html}")


@app.command()
def export(
    place: _Place,
    *,
    csv_: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a line for each trial there.")
    ] = None,
    optuna: Annotated[
        str | None, typer.Option("--optuna", metavar="URL", help="Write an Optuna study there: sqlite:///FILE.db.")
    ] = None,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Write the trials of a sweep for other programs.

        feedline sweep export sweeps/digits --csv trials.csv
        feedline sweep export digits -n team --optuna sqlite:///digits.db

    Exit codes: 0 written, 64 nothing to write or no place for it, 66 there is no sweep, 78 no cluster or Optuna.
    """
    if csv_ is None and optuna is None:
        raise UsageError("say what to write: --csv FILE, or --optuna sqlite:///FILE.db")
    if csv_ is not None:
        options.require_writable(csv_, "--csv")
    found = swept(place, namespace, context, kubeconfig)
    if csv_ is not None:
        _write_csv(found, csv_)
    if optuna is not None:
        from feedline.sweeps import write_study

        write_study(found.sweep, found.trials, optuna)


def _write_csv(found: "Swept", path: Path) -> None:
    from feedline.training import write_text

    names = [parameter.name for parameter in found.sweep.parameters]
    columns = [f"parameter_{name}" if name in _COLUMNS else name for name in names]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS[:3], *columns, _COLUMNS[3]])
    for trial in found.trials:
        best = trial.best(found.sweep.objective)
        values = [trial.parameters.get(name, "") for name in names]
        writer.writerow([trial.index, trial.state, "" if best is None else repr(best), *values, trial.message])
    write_text(path, text.getvalue())


def _rows(volumes: Mapping[str, Path]) -> Any:
    """Return a function that says how many rows an epoch of a trial has; files are looked at once for the same data."""
    from feedline.training import epoch_rows

    known: dict[str, int] = {}

    def rows(document: "Manifest") -> int:
        spec = document.document["spec"]
        told = json.dumps([spec["data"]["train"], spec["loader"].get("draw")])
        if told not in known:
            known[told] = epoch_rows(document, volumes)
        return known[told]

    return rows


@contextmanager
def _terminable() -> Iterator[None]:
    """Have SIGTERM end the trials, too."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("feedline: interrupted; go on by --resume\n")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _watching(sweep: "Sweep") -> Iterator[Any]:
    """Give a function that shows how trials do: a table on a terminal, else a line when one of them is done."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    seen: dict[int, str] = {}

    def lines(trials: "Sequence[Trial]") -> None:
        for trial in trials:
            if seen.get(trial.index) != trial.state:
                seen[trial.index] = trial.state
                console.print(_line(sweep, trial), highlight=False, markup=False, soft_wrap=True)

    if not console.is_terminal:
        yield lines
        return
    with Live(console=console, transient=True, refresh_per_second=2) as live:
        yield lambda trials: live.update(_live_table(sweep, trials, console.height - _LINES_AROUND))


def _line(sweep: "Sweep", trial: "Trial") -> str:
    best = trial.best(sweep.objective)
    parameters = "  ".join(f"{name}={text(given)}" for name, given in trial.parameters.items())
    told = "" if best is None else f"  {sweep.objective.value} {best:.6g}"
    why = f"  ({trial.message})" if trial.message else ""
    return f"{sweep.name}-{trial.index}  {trial.state.lower()}{told}  {parameters}{why}"


def _show(found: "Swept") -> None:
    from feedline.sweeps import best_of

    show_overview(of_sweep(found.sweep, found.trials, found.reports), _title(found.sweep, found.trials))
    best = best_of(found.trials, found.sweep.objective)
    if best is not None:
        typer.echo(f"best: {_line(found.sweep, best)}")


def _live_table(sweep: "Sweep", trials: "Sequence[Trial]", most: int) -> Any:
    """Return a table of so many trials at most: those that run, and the best."""
    overview = of_sweep(sweep, trials, {})
    shown = sorted(overview.entries, key=lambda entry: entry.state != "Running")[: max(1, most)]
    return table(replace(overview, entries=shown), _title(sweep, trials), with_speed=False)


def _title(sweep: "Sweep", trials: "Sequence[Trial]") -> str:
    from feedline.sweeps import is_confirmation

    searching = [trial for trial in trials if not is_confirmation(trial.index)]
    counts = ", ".join(
        f"{number} {state.lower()}"
        for state in dict.fromkeys(trial.state for trial in searching)
        if (number := sum(trial.state == state for trial in searching))
    )
    more = len(trials) - len(searching)
    return f"{sweep.name}: {counts} of {sweep.trials}" + (f", and {more} confirmations" if more else "")


def _as_json(found: "Swept", trial: "Trial") -> dict[str, Any]:
    best, report = trial.best(found.sweep.objective), found.reports.get(trial.index, {})
    return {
        "trial": trial.index,
        "state": trial.state,
        "best": None if best is None else repr(best),
        "parameters": dict(trial.parameters),
        "curve": [[rows, repr(value)] for rows, value in trial.curve],
        "samplesPerSecond": report.get("samplesPerSecond"),
        "waitPermille": report.get("waitPermille"),
        "message": trial.message,
    }
