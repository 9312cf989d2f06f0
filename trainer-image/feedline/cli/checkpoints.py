"""`feedline checkpoints`: what a run could go on from, in a folder here, or as a cluster tells of it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feedline.cli.cluster import Object
from feedline.cli.connection import ContextOption, KubeconfigOption, NamespaceOption, connect
from feedline.cli.printable import columns
from feedline.cli.seen import output_of
from feedline.contract import ExitCode
from feedline.errors import InputMissingError

if TYPE_CHECKING:
    from feedline.checkpoints import Found

_HEADINGS = ("STEP", "EPOCH", "SAVED", "SIZE", "WHY", "OBJECTIVE", "STATE")


def checkpoints(
    where: Annotated[str, typer.Argument(metavar="DIR|NAME", help="A run's output, or a pipeline in the cluster.")],
    *,
    verify: Annotated[bool, typer.Option("--verify", help="Read every byte, and compare checksums.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """List what a run has saved: step, time, size, objective, and whether a run could go on from it.

        feedline checkpoints runs/digits

    Of a pipeline in a cluster the newest checkpoint is told, and where all of them lie:

        feedline checkpoints digits

    Exit codes: 0 found, 65 there are some and none is whole, 66 there is no such folder or pipeline, 75 the cluster
    cannot be reached, 78 no cluster or not permitted.
    """
    folder = Path(where)
    if folder.is_dir() or "/" in where or where in (".", ".."):
        raise typer.Exit(_list(folder, verify=verify))
    for line in _told(connect(namespace, context, kubeconfig).pipeline(where)):
        typer.echo(line)


def _list(folder: Path, *, verify: bool) -> int:
    from feedline.checkpoints import checkpoints as found_in
    from feedline.checkpoints import problem_of

    if not folder.is_dir():
        raise InputMissingError(f"{folder}: there is no such folder")
    found = found_in(folder / "checkpoints") or found_in(folder)
    if not found:
        typer.echo(f"{folder}: no checkpoint")
        return ExitCode.OK
    problems = [each.problem or (problem_of(each) if verify else None) for each in found]
    rows = [_row(each, problem) for each, problem in zip(found, problems, strict=True)]
    for line in columns([_HEADINGS, *rows]):
        typer.echo(line)
    is_any_whole = None in problems
    were_begun = all(each.was_begun for each in found)
    return ExitCode.OK if is_any_whole or were_begun else ExitCode.DATA


def _row(found: "Found", problem: str | None) -> tuple[str, ...]:
    from feedline.units import size

    if found.record is None:
        return str(found.step), "", "", "", "", "", problem or ""
    record = found.record
    told = (str(record.epoch), record.time, size(record.bytes), record.reason, record.objective or "")
    return str(found.step), *told, problem or "whole"


def _told(pipeline: Object) -> Iterator[str]:
    from feedline.units import size

    status = pipeline.get("status") or {}
    name, saved = pipeline["metadata"]["name"], status.get("checkpoint")
    place = output_of(pipeline)
    if place is None:
        yield f"{name} has no spec.output: what it makes is gone with its pod"
        return
    if saved is None:
        yield f"{name}: no checkpoint is known yet; they will lie in {place}"
        return
    ago = (datetime.now(UTC) - datetime.fromisoformat(saved["time"])).total_seconds() if "time" in saved else 0
    yield f"{name}: step {saved.get('step')}, {size(saved.get('bytes', 0))}, saved {max(0, ago):.0f} s ago"
    if (aim := status.get("objective", {})).get("best"):
        yield f"best {aim['best']} at step {aim.get('bestStep')}"
    yield f"in {place}"
