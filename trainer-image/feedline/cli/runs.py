"""`feedline runs`: any runs side by side, by what differs between them."""

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from feedline import manifest
from feedline.cli.overviews import measured, show, write_page
from feedline.contract import FATAL_EXIT_CODES, ExitCode
from feedline.errors import DataError, FeedlineError, InputMissingError, UsageError
from feedline.overview import Entry, Overview

_NOT_COMPARED = ("metadata", "status", "spec.output", "spec.objective", "spec.stop", "spec.suspend")
_SCALARS = (str, int, float, bool)


def runs(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders of runs, or folders of such folders.")],
    *,
    value: Annotated[
        str | None, typer.Option("--value", metavar="NAME", help="What to compare, instead of spec.objective.")
    ] = None,
    minimize: Annotated[bool, typer.Option("--minimize", help="Less of it is better.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Draw them as a page there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON instead of a table.")] = False,
) -> None:
    """Compare what runs left behind: what differs between them, how good each was, and whether it waited for data.

        feedline run pipeline.yaml --volume digits=data --output runs/a --set spec.train.parameters.learningRate=0.1
        feedline run pipeline.yaml --volume digits=data --output runs/b
        feedline runs runs --value val_accuracy --html runs.html

    Exit codes: 0 shown, 64 nothing to compare by, 66 there is no run.
    """
    documents = dict(_readable(each for folder in folders for each in _runs_in(folder)))
    found = list(documents)
    if not found:
        raise InputMissingError(f"{folders[0]}: none of its runs has a manifest that can be read")
    objective = _objective(list(documents.values()), value, minimize=minimize)
    given = _differences(documents)
    shared = Path(os.path.commonpath([folder.parent for folder in found]))
    entries = [
        _entry(str(folder.relative_to(shared)), folder, given[folder], documents[folder], objective) for folder in found
    ]
    if objective is not None and not any(entry.curve for entry in entries):
        raise UsageError(f"{objective.value} was reported by none of these runs; {_reported(found)}")
    entries.sort(key=lambda entry: _rank(entry, objective))
    overview = Overview(
        title=f"Runs in {', '.join(str(folder) for folder in folders)}",
        value=objective.value if objective else "",
        is_maximized=objective.is_maximized if objective else True,
        entries=entries,
    )
    if html is not None:
        write_page(overview, html)
    if as_json:
        typer.echo(json.dumps([_as_json(entry) for entry in entries], indent=2, ensure_ascii=False))
        return
    better = f", {'more' if objective.is_maximized else 'less'} of {objective.value} is better" if objective else ""
    show(overview, f"{len(entries)} runs{better}")
    if html is not None:
        typer.echo(f"page: {html}")


def _runs_in(folder: Path) -> list[Path]:
    from feedline.training import PIPELINE, run_of

    candidates = [folder, *sorted(folder.glob("*/"))]
    found = [each.absolute() for each in candidates if (each / PIPELINE).is_file() and run_of(each) is not None]
    if not found:
        raise InputMissingError(f"{folder}: is no run, nor has it any: name what feedline run --output made")
    return found


def _readable(folders: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each run with its manifest; one whose manifest was damaged is told of and left out."""
    from feedline.training import PIPELINE

    for folder in folders:
        try:
            document = manifest.read(folder / PIPELINE)
            _require_shape(folder / PIPELINE, document)
            yield folder, document
        except FeedlineError as error:
            sys.stderr.write(f"feedline: {error}; left out\n")


def _require_shape(file: Path, document: Mapping[str, Any]) -> None:
    """Refuse a manifest that does not say what is read here; another feedline may have written the rest."""
    spec = document.get("spec")
    loader = spec.get("loader", {}) if isinstance(spec, dict) else None
    objective = spec.get("objective") if isinstance(spec, dict) else None
    is_told = objective is None or (isinstance(objective, dict) and objective.keys() >= {"value", "goal"})
    if not isinstance(loader, dict) or not isinstance(loader.get("batchSize", 1), int) or not is_told:
        raise DataError(f"{file}: is no manifest of a run")


def _objective(
    documents: Sequence[Mapping[str, Any]], value: str | None, *, minimize: bool
) -> manifest.Objective | None:
    told = {json.dumps(document["spec"].get("objective"), sort_keys=True) for document in documents}
    common = json.loads(told.pop()) if len(told) == 1 else None
    if value is not None:
        if not minimize and common is not None and common["value"] == value:
            return manifest.Objective(value, common["goal"] == "Maximize")
        return manifest.Objective(value, not minimize)
    if common is None and told:
        raise UsageError("these runs have other objectives: say by --value NAME what to compare")
    if minimize:
        raise UsageError("--minimize: say by --value NAME of what less is better")
    return None if common is None else manifest.Objective(common["value"], common["goal"] == "Maximize")


def _reported(folders: Sequence[Path]) -> str:
    from feedline.training import report_in

    names = sorted({name for folder in folders for name in (report_in(folder) or {}).get("values", {})})
    return f"reported was {', '.join(names)}" if names else "none reported anything"


def _differences(documents: Mapping[Path, Mapping[str, Any]]) -> dict[Path, dict[str, Any]]:
    """Return of each run the fields that are not the same in all, by their shortest names."""
    flat = {folder: dict(_flat(document, "")) for folder, document in documents.items()}
    paths = dict.fromkeys(path for fields in flat.values() for path in fields)
    differing = [path for path in paths if len({json.dumps(fields.get(path)) for fields in flat.values()}) > 1]
    names = {path: _short(path, differing) for path in differing}
    return {
        folder: {names[path]: fields[path] for path in differing if path in fields} for folder, fields in flat.items()
    }


def _flat(document: Any, path: str) -> Any:
    """Yield each value with its path."""
    if path in _NOT_COMPARED:
        return
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    elif isinstance(document, list):
        for place, value in enumerate(document):
            yield from _flat(value, f"{path}[{place}]")
    elif isinstance(document, _SCALARS):
        yield path, document


def _short(path: str, others: Sequence[str]) -> str:
    """Return the end of a path that no other has."""
    parts = path.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if sum(each == end or each.endswith(f".{end}") for each in others) == 1:
            return end
    return path


def _entry(
    name: str, folder: Path, given: Mapping[str, Any], document: Mapping[str, Any], objective: manifest.Objective | None
) -> Entry:
    from feedline.training import Reported, is_in_use, report_in

    report = report_in(folder) or {}
    code = report.get("exitCode")
    ended = "Complete" if code == ExitCode.OK else "Failed" if code in tuple(FATAL_EXIT_CODES) else "Unfinished"
    state = "Running" if is_in_use(folder) else ended
    batch = document["spec"].get("loader", {}).get("batchSize", 1)
    told = () if objective is None else Reported(folder, objective.value).curve()
    curve = [(step * batch, each) for step, each in told]
    values = [value for _, value in curve if math.isfinite(value)]
    best = max(values, key=objective.merit, default=None) if objective is not None else None
    message = "" if code == ExitCode.OK else str(report.get("message", ""))
    return Entry(name, state, given, best, curve, message=message, **measured(report))


def _rank(entry: Entry, objective: manifest.Objective | None) -> tuple[bool, float]:
    merit = -objective.merit(entry.value) if objective is not None and entry.value is not None else math.inf
    return entry.state != "Complete", merit


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "run": entry.name,
        "state": entry.state,
        "value": None if entry.value is None else repr(entry.value),
        "parameters": dict(entry.parameters),
        "samplesPerSecond": entry.samples_per_second,
        "waitPermille": entry.wait_permille,
        "cause": entry.cause,
        "message": entry.message,
    }
