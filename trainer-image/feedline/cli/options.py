"""What the commands that take a manifest share: its options, and how they become a manifest and folders."""

import os
from pathlib import Path
from typing import Annotated

import typer

from feedline import manifest
from feedline.errors import InputMissingError, UsageError
from feedline.manifest import Manifest

File = Annotated[Path, typer.Argument(metavar="FILE", help="A TrainingPipeline, as for kubectl apply.")]
Backend = Annotated[
    str | None,
    typer.Option("--backend", metavar="BACKEND", help="keras, tensorflow or pytorch, instead of the file's."),
]
VolumeOption = Annotated[
    list[str] | None,
    typer.Option("--volume", metavar="NAME=DIR", help="The folder to use for a volume. Repeatable."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a field, as in spec.loader.batchSize=64. Repeatable."),
]


def quiet_frameworks() -> None:
    """Keep TensorFlow's notes about instruction sets and missing GPUs from burying what feedline says."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def read(file: Path, backend: str | None, overrides: list[str] | None) -> Manifest:
    """Read a manifest with the changes that were asked for."""
    changes = list(overrides or [])
    if backend is not None:
        changes.append(f"spec.backend={backend}")
    return manifest.parse(manifest.read(file, changes))


def folders(document: Manifest, volumes: list[str] | None) -> dict[str, Path]:
    """Return the folder of every volume that was given.

    Raises
    ------
    UsageError
        A volume is not in the manifest, or one of the manifest's has no folder.
    InputMissingError
        A folder does not exist.
    """
    found = {}
    for text in volumes or []:
        name, equals, folder = text.partition("=")
        if not equals:
            raise UsageError(f"--volume {text}: write it as NAME=DIR")
        if name not in document.volumes:
            raise UsageError(f"--volume {text}: the manifest has no volume {name}, only {', '.join(document.volumes)}")
        found[name] = Path(folder)
        if not found[name].is_dir():
            raise InputMissingError(f"--volume {text}: there is no directory {folder}")
    for name in document.volumes:
        manifest.folder_of(name, found)
    return found


def require_writable(path: Path | None, option: str) -> None:
    """Refuse a file that cannot be written, before the work whose result it is to hold.

    Raises
    ------
    UsageError
        It is a folder, or cannot be made where it should lie.
    """
    if path is None:
        return
    try:
        if path.is_dir() or not path.name:
            raise UsageError(f"{option} {path}: is a folder, give the name of a file")
        existed = path.exists()
        with path.open("ab"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be written ({error.strerror}): choose another place") from None
