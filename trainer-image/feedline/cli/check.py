"""`feedline check`: whether a manifest and its data fit together, before anything is trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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
) -> None:
    """Check a manifest and its data: headers, shapes, sizes against the memory limit, how rows will come in.

        feedline check pipeline.yaml --volume digits=data

    Without volumes only the manifest is checked. Exit codes: 0 fine, 64 wrong manifest, 65 bad data, 66 missing file,
    78 a backend is not installed or a limit is too small.
    """
    document = options.read(file, backend, set_)
    typer.echo(f"{file}: a valid TrainingPipeline, {document.name}")
    from feedline import training

    training.require_backend(document.backend)
    if volume is None and document.volumes:
        typer.echo(f"data not checked: pass {' '.join(f'--volume {name}=DIR' for name in document.volumes)}")
        return
    volumes = options.folders(document, volume)
    from feedline.limits import default_threads, memory_bytes
    from feedline.units import size

    limit, loader = memory_bytes(), document.loader
    if document.memory is not None:
        limit = min(limit, document.memory)
    total = _describe("train", document, document.train_data, volumes, limit)
    if document.validation_data is not None:
        total += _describe("validation", document, document.validation_data, volumes, limit)
    kept = "in memory" if loader.residency == "memory" else "mapped"
    if kept == "in memory":
        training.require_memory(total, limit)
    typer.echo(f"{kept}: {size(total)} of {size(limit)} of memory; {loader.threads or default_threads()} threads")
    if kept == "mapped" and total > limit:
        typer.echo("warning: the data do not fit into memory: rows will be read from the disk again in every epoch")
    elif kept == "mapped" and total < limit // 2:
        typer.echo("the data fit into memory: after the first epoch they come from the page cache")


def _describe(title: str, document: "Manifest", split: "Split", volumes: Mapping[str, Path], limit: int) -> int:
    """Print what the arrays of a split are and how their rows will come in; return their bytes."""
    from feedline import training
    from feedline.files import Residency, open_arrays
    from feedline.paging import survey
    from feedline.units import size

    # Never into memory: headers, sizes and a sample of pages are all that is looked at.
    loader = document.loader
    residency: Residency = "read" if loader.residency == "read" else "auto"
    arrays = open_arrays(training.paths(split, volumes), (split.start, split.stop), residency)
    typer.echo(f"{title}: {arrays.rows} rows, {size(arrays.bytes)}")
    feeds = loader.engine == "Feed" and loader.residency in ("auto", "read")
    choices = survey(arrays, limit, _run_rows(title, document, arrays)) if feeds else {}
    for name, array in arrays.items():
        typer.echo(f"  {name:16} {array.dtype.str:6} {list(array.row_shape)!s:16} {size(array.row_bytes)} a row")
        if name in choices and choices[name].strategy != "resident":
            typer.echo(f"  {'':16} {choices[name].in_words()}")
    if title == "train":
        told = training.check_order(document, arrays)
        if told is not None:
            typer.echo(f"  {told}")
    return arrays.bytes


def _run_rows(title: str, document: "Manifest", arrays: "Arrays") -> int:
    """Return how many rows lie together in the order of a split."""
    from feedline.order import Blocks

    loader = document.loader
    if title != "train" or loader.shuffle == "none":
        return arrays.rows
    if loader.shuffle == "full":
        return 1
    return Blocks.of(max(array.row_bytes for array in arrays.values()), loader.block_rows, loader.window).rows
