"""Trainings side by side: what the commands about many of them show, as a table or as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from feedline.cli import options
from feedline.manifest import Numbers, Sweep
from feedline.overview import Entry, Overview, number, page, text
from feedline.sweeps import Trial, confirmed, is_confirmation, ranked

Reports = Mapping[int, Mapping[str, Any]]


def of_sweep(sweep: Sweep, trials: Sequence[Trial], reports: Reports) -> Overview:
    """Return the trials of a sweep, the best first.

    Parameters
    ----------
    reports
        What is known of how each trial trained, by its number.
    """
    return Overview(
        title=sweep.name,
        value=sweep.objective.value,
        is_maximized=sweep.objective.is_maximized,
        entries=[
            _entry(sweep, trial, trials, reports.get(trial.index, {})) for trial in ranked(trials, sweep.objective)
        ],
        logarithmic=frozenset(
            each.name for each in sweep.parameters if isinstance(each.space, Numbers) and each.space.is_log
        ),
    )


def _entry(sweep: Sweep, trial: Trial, trials: Sequence[Trial], report: Mapping[str, Any]) -> Entry:
    again = confirmed(trial, trials, sweep.objective)
    told = "" if again is None else f"confirmed at {again.mean:.5g} ± {again.deviation:.2g} by {again.count}"
    return Entry(
        name=f"{sweep.name}-{trial.index}",
        state=trial.state,
        parameters=trial.parameters,
        value=trial.best(sweep.objective),
        curve=trial.curve,
        message=trial.message or told,
        is_repeated=is_confirmation(trial.index),
        **measured(report),
    )


def measured(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report says of the speed and of waiting for data, as an `Entry` takes it."""
    verdict = report.get("verdict") or {}
    return {
        "samples_per_second": report.get("samplesPerSecond"),
        "wait_permille": report.get("waitPermille"),
        "cause": str(verdict.get("cause", "")) if verdict.get("inputBound") else "",
    }


def write_page(overview: Overview, file: Path) -> None:
    """Write the page.

    Raises
    ------
    UsageError
        It cannot be written there.
    """
    from feedline.training import write_text

    options.require_writable(file, "--html")
    write_text(file, page(overview))


def show(overview: Overview, title: str) -> None:
    """Print the trainings as a table, and below it why some failed or were ended early."""
    from rich.console import Console

    console = Console()
    console.print(table(overview, title))
    for entry in overview.entries:
        if entry.message:
            console.print(f"{entry.name}: {entry.message}", highlight=False, markup=False, soft_wrap=True)


def table(overview: Overview, title: str, *, with_speed: bool = True) -> Any:
    """Return the trainings as a table of rich's."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(title), title_justify="left")
    speed = ("rows/s", "waits") if with_speed else ()
    names = overview.parameters
    for heading in ("training", "state", overview.value, *names, *speed):
        shown.add_column(Text(heading), no_wrap=heading in ("training", "state"))
    for entry in overview.entries:
        given = [text(entry.parameters.get(name)) for name in names]
        best = "" if entry.value is None else number(entry.value)
        shown.add_row(*map(Text, [entry.name, entry.state.lower(), best, *given, *_speed(entry)[: len(speed)]]))
    return shown


def _speed(entry: Entry) -> tuple[str, str]:
    rate = "" if entry.samples_per_second is None else f"{entry.samples_per_second:,}"
    waits = "" if entry.wait_permille is None else f"{entry.wait_permille / 10:.0f} %"
    return rate, f"{waits} {entry.cause}".strip()
