"""`feedline check`: whether a manifest and its data fit together, before anything is trained."""

import logging
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feedline.cli import options

if TYPE_CHECKING:
    from feedline.files import Arrays
    from feedline.manifest import Manifest, Split


def check(
    file: options.File,
    *,
    backend: options.Backend = None,
    volume: options.VolumeOption = None,
    set_: options.SetOption = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The output of an earlier run, whose checkpoints tell their size."),
    ] = None,
) -> None:
    """Check a manifest and its data: headers, shapes, sizes against the memory limit, how rows will come in.

        feedline check pipeline.yaml --volume digits=data

    Without volumes only the manifest is checked. What checkpoints take of memory and of a pod's grace is known from
    an earlier run:

        feedline check pipeline.yaml --volume digits=data --output runs/digits

    Exit codes: 0 fine, 64 wrong manifest, 65 bad data, 66 missing file,
    78 a backend is not installed or a limit is too small.
    """
    document = options.read(file, backend, set_)
    typer.echo(f"{file}: a valid TrainingPipeline, {document.name}")
    from feedline import training

    training.require_backend(document.backend)
    _tell_of_functions(document, file)
    if volume is None and document.volumes:
        typer.echo(f"data not checked: pass {' '.join(f'--volume {name}=DIR' for name in document.volumes)}")
        return
    volumes = options.folders(document, volume)
    from feedline.files import bytes_of
    from feedline.limits import default_threads, memory_bytes
    from feedline.native import copied_by
    from feedline.units import size

    limit, loader = memory_bytes(), document.loader
    if document.memory is not None:
        limit = min(limit, document.memory)
    with training.logged(logging.Formatter("feedline: %(message)s")):
        train, own = _describe("train", document, document.train_data, volumes, limit)
        validation = None
        if document.validation_data is not None:
            validation, more = _describe("validation", document, document.validation_data, volumes, limit)
            own += more
    splits = [train] if validation is None else [train, validation]
    in_memory = loader.residency == "memory"
    total = sum(arrays.loaded_bytes for arrays in splits) if in_memory else bytes_of(*splits)
    training.require_same_classes(document, volumes)
    training.largest_class(document, train, validation)
    kept = "in memory" if in_memory else "mapped"
    copied = _tell_of_checkpoints(document, output) if output is not None else 0
    processes = _tell_of_processes(document, own, copied)
    if in_memory:
        training.require_memory(total + copied + (own if processes > 1 else 0), limit)
    threads = loader.threads or default_threads(processes=processes)
    typer.echo(f"{kept}: {size(total)} of {size(limit)} of memory; {threads} threads, {copied_by()} gather")
    if not in_memory and total > limit:
        typer.echo("warning: the data do not fit into memory: rows will be read from the disk again in every epoch")
    elif not in_memory and total < limit // 2:
        typer.echo("the data fit into memory: after the first epoch they come from the page cache")


def _tell_of_processes(document: "Manifest", own: int, copied: int) -> int:
    """Print what the processes of a pod take of its memory together; return how many they are."""
    from feedline.units import size

    resources = document.document["spec"]["resources"]
    nodes, processes = resources["nodes"], resources["processes"]
    if nodes * processes > 1:
        pods = f"{nodes} pods of {processes}" if nodes > 1 else f"{processes}"
        copy = f", and {size(copied)} for a checkpoint's copy in /dev/shm of the first" if copied else ""
        typer.echo(
            f"{pods} processes: {size(own)} for the feeds of a pod together{copy}; rows are in memory once a pod; "
            "models, gradients and what NCCL has in /dev/shm come on top, once a process"
        )
    return int(processes)


def _tell_of_checkpoints(document: "Manifest", output: Path) -> int:
    """Print what saving took of an earlier run; return the memory that a copy takes."""
    from feedline.checkpoints import checkpoints
    from feedline.training import report_in
    from feedline.units import size

    newest = next((found.record for found in checkpoints(output / "checkpoints") if found.record is not None), None)
    if newest is None:
        typer.echo(f"checkpoints: {output} has none to tell by")
        return 0
    typer.echo(f"checkpoints: {size(newest.bytes)}, and as much memory for a copy, beside model and data")
    seconds = ((report_in(output) or {}).get("checkpoint") or {}).get("milliseconds", 0) / 1e3
    if seconds > document.grace_seconds:
        typer.echo(
            f"warning: a save took {seconds:.0f} s here, a pod's grace is {document.grace_seconds} s: raise "
            "spec.pod.terminationGracePeriodSeconds"
        )
    elif seconds:
        typer.echo(f"a save took {seconds:.1f} s here, of the {document.grace_seconds} s of a pod's grace")
    return newest.bytes


def _tell_of_functions(document: "Manifest", file: Path) -> None:
    """Warn of a function whose module is not here; it is not imported, for that runs what is in it.

    No more than a warning: in a cluster it may come from `spec.train.source` or an image.
    """
    folders = [str(file.resolve().parent), str(Path.cwd()), *sys.path]
    for field, name in (("entrypoint", document.train.entrypoint), ("transform", document.train.transform)):
        module = (name or "").partition(":")[0].partition(".")[0]
        if module and PathFinder.find_spec(module, folders) is None and find_spec(module) is None:
            typer.echo(
                f"warning: spec.train.{field}: there is no module {module} beside {file}, here, or on the import path; "
                "a run needs it"
            )


def _describe(
    title: str, document: "Manifest", split: "Split", volumes: Mapping[str, Path], limit: int
) -> "tuple[Arrays, int]":
    """Print what the arrays of a split are and how their rows will come in; return them, and what their feeds take."""
    from feedline import training
    from feedline.files import Residency, open_arrays
    from feedline.paging import survey
    from feedline.units import size

    # Never into memory: headers, sizes and a sample of pages are all that is looked at.
    loader = document.loader
    residency: Residency = "read" if loader.residency == "read" else "auto"
    boundaries = training.boundaries_of(split, volumes)
    stored, rows = training.stored(split, volumes), training.rows_of(split, volumes)
    arrays = open_arrays(stored, rows, residency, boundaries=boundaries)
    windows = "" if arrays.windows is None else f", windows every {arrays.windows.stride}"
    windows += "" if arrays.segments is None else ", from another element on in each epoch"
    windows += "" if split.boundaries is None else f" between the boundaries in {split.boundaries}"
    index = "" if split.index is None else f", those of {split.index}"
    typer.echo(f"{title}: {arrays.rows} rows{windows}{index}, {size(arrays.bytes)}")
    feeds = loader.engine == "Feed" and loader.residency in ("auto", "read")
    choices = survey(arrays, limit, _run_rows(title, document, arrays)) if feeds else {}
    for name, array in arrays.items():
        typer.echo(f"  {name:16} {array.dtype.str:6} {list(array.row_shape)!s:16} {size(array.row_bytes)} a row")
        if name in choices and choices[name].strategy != "resident":
            typer.echo(f"  {'':16} {choices[name].in_words()}")
    if loader.draw is not None and split is document.train_data:
        source = loader.draw.weights or f"the labels in {loader.draw.balance}"
        typer.echo(f"  an epoch draws {loader.draw.rows or arrays.rows} of them, by {source}")
    own, told = training.check_split(document, split, volumes, arrays)
    if told is not None:
        typer.echo(f"  {told}")
    return arrays, own


def _run_rows(title: str, document: "Manifest", arrays: "Arrays") -> int:
    """Return how many rows lie together in the order of a split."""
    from feedline.order import Blocks

    loader = document.loader
    # What is drawn may come again, and windows elsewhere in the next epoch.
    if arrays.segments is not None or (title == "train" and (loader.shuffle == "full" or loader.draw is not None)):
        return 1
    if title != "train" or loader.shuffle == "none":
        return arrays.rows
    return Blocks.of(max(array.row_bytes for array in arrays.values()), loader.block_rows, loader.window).rows
