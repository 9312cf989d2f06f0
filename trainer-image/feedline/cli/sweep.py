"""`feedline sweep …`: runs a sweep on this machine, and shows what came of it."""

import csv
import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feedline import manifest
from feedline.cli import options
from feedline.contract import ExitCode
from feedline.errors import InputMissingError

if TYPE_CHECKING:
    from feedline.manifest import Manifest, Sweep
    from feedline.sweeps import Trial

app = typer.Typer(no_args_is_help=True, help="Run many trainings with other parameters, and find the best.")
_File = Annotated[Path, typer.Argument(metavar="FILE", help="A TrainingSweep.")]
_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a sweep.")]
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
    sweep = manifest.parse_sweep(manifest.read_sweep(file, changes))
    volumes = options.folders(manifest.parse(sweep.pipeline_of(0, {})), volume)
    from feedline.local import LocalSweep

    folder = output or Path("sweeps", sweep.name)
    named = [f"--volume={name}={Path(place).absolute()}" for name, place in volumes.items()]
    local = LocalSweep(folder, sweep, _rows(volumes), named, file.resolve().parent)
    with _terminable(), _watching(sweep) as watch:
        decision = local.run(watch, resumes=resume)
    trials = local.trials()
    _show(sweep, trials)
    typer.echo(f"sweep: {folder}")
    if decision.failure:
        sys.stderr.write(
            f"feedline: {decision.failure}\nfeedline: trials whose files are deleted, {folder}/{sweep.name}-0* and so "
            "on, run again with --resume\n"
        )
        raise typer.Exit(ExitCode.USER_ERROR)


@app.command()
def show(
    folder: _Folder,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the trials as JSON instead of a table.")] = False,
) -> None:
    """Show the trials of a sweep that runs or ran here: the best first, and why others were ended.

    feedline sweep show sweeps/digits
    """
    sweep, trials = _read(folder)
    if as_json:
        from feedline.sweeps import ranked

        told = [_as_json(sweep, trial) for trial in ranked(trials, sweep.objective)]
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _show(sweep, trials)


@app.command()
def export(
    folder: _Folder,
    *,
    csv_: Annotated[Path, typer.Option("--csv", metavar="FILE", help="Write a line for each trial there.")],
) -> None:
    """Write the trials of a sweep for other programs.

    feedline sweep export sweeps/digits --csv trials.csv
    """
    options.require_writable(csv_, "--csv")
    sweep, trials = _read(folder)
    names = [parameter.name for parameter in sweep.parameters]
    columns = [f"parameter_{name}" if name in _COLUMNS else name for name in names]
    with csv_.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*_COLUMNS[:3], *columns, _COLUMNS[3]])
        for trial in trials:
            best = trial.best(sweep.objective)
            values = [trial.parameters[name] for name in names]
            writer.writerow([trial.index, trial.state, "" if best is None else repr(best), *values, trial.message])


def _read(folder: Path) -> "tuple[Sweep, list[Trial]]":
    from feedline.local import SWEEP, read_trials, sweep_in

    if not (folder / SWEEP).is_file():
        raise InputMissingError(f"{folder}: is no sweep: it has no {SWEEP}; name a folder that feedline sweep run made")
    sweep = sweep_in(folder)
    return sweep, read_trials(folder, sweep, lambda _: 0)


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
        yield lambda trials: live.update(_table(sweep, trials, console.height - _LINES_AROUND))


def _line(sweep: "Sweep", trial: "Trial") -> str:
    best = trial.best(sweep.objective)
    parameters = "  ".join(f"{name}={_value(value)}" for name, value in trial.parameters.items())
    value = "" if best is None else f"  {sweep.objective.value} {best:.6g}"
    why = f"  ({trial.message})" if trial.message else ""
    return f"{sweep.name}-{trial.index}  {trial.state.lower()}{value}  {parameters}{why}"


def _show(sweep: "Sweep", trials: "Sequence[Trial]") -> None:
    from rich.console import Console

    from feedline.sweeps import best_of, ranked

    console = Console()
    console.print(_table(sweep, ranked(trials, sweep.objective)))
    best = best_of(trials, sweep.objective)
    if best is not None:
        console.print(f"best: {_line(sweep, best)}", highlight=False, markup=False, soft_wrap=True)


def _table(sweep: "Sweep", trials: "Sequence[Trial]", most: int | None = None) -> Any:
    """Return a table of trials; of so many at most: those that run, and the best."""
    from rich.table import Table
    from rich.text import Text

    from feedline.sweeps import State, ranked

    counts = ", ".join(
        f"{number} {state.lower()}"
        for state in dict.fromkeys(trial.state for trial in trials)
        if (number := sum(trial.state == state for trial in trials))
    )
    table = Table(title=f"{sweep.name}: {counts} of {sweep.trials}", title_justify="left")
    for title in ("trial", "state", sweep.objective.value, *(each.name for each in sweep.parameters), "why"):
        table.add_column(Text(title))
    if most is not None:
        best_first = ranked(trials, sweep.objective)
        trials = sorted(best_first, key=lambda trial: trial.state != State.RUNNING)[: max(1, most)]
    for trial in trials:
        best = trial.best(sweep.objective)
        cells = [str(trial.index), trial.state.lower(), "" if best is None else f"{best:.6g}"]
        cells += [_value(trial.parameters[each.name]) for each in sweep.parameters]
        table.add_row(*map(Text, [*cells, trial.message]))
    return table


def _as_json(sweep: "Sweep", trial: "Trial") -> dict[str, Any]:
    best = trial.best(sweep.objective)
    return {
        "trial": trial.index,
        "state": trial.state,
        "best": None if best is None else repr(best),
        "parameters": dict(trial.parameters),
        "curve": [[rows, repr(value)] for rows, value in trial.curve],
        "message": trial.message,
    }


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
