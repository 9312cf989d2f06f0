"""The checkpoints of a run, a folder each: which there are, whether they are whole, which may go.

::

    checkpoints/step-000000001200/
        model.safetensors  optimizer.safetensors  run.safetensors  manifest.json

The manifest is written last; a folder without one, or one whose files are not as it says, is no checkpoint. What is
saved once more at the same step lies beside the first one, with a number behind the step, until it is whole.
"""

import contextlib
import errno
import mmap
import re
import shutil
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from feedline.checkpoints import durable, record
from feedline.checkpoints.record import File, Record
from feedline.errors import DataError

MANIFEST: Final = "manifest.json"
SUFFIX: Final = ".safetensors"
_NAME: Final = re.compile(r"step-(\d{12})(?:-(\d{1,4}))?")
_PIECE: Final = 16 << 20
_CANNOT_RENAME: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV})
"""Of file systems over object stores."""


@dataclass(frozen=True)
class Found:
    """A folder that has the name of a checkpoint; `problem` says why it is none, and `record` is None then.

    `was_begun` tells one that was never finished, and so never was a checkpoint, from one that no longer is.
    """

    path: Path
    step: int
    number: int
    record: Record | None
    problem: str | None
    was_begun: bool = False


def checkpoints(folder: Path, run: str | None = None) -> list[Found]:
    """Return what lies in a folder of checkpoints, the newest first; manifests and sizes are looked at, no more.

    Parameters
    ----------
    run
        Whose they must be; None takes those of anybody.

    Raises
    ------
    OSError
        The folder is there and cannot be read.
    """
    try:
        matches = [match for each in folder.iterdir() if (match := _NAME.fullmatch(each.name))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    order = sorted(((int(match[1]), int(match[2] or 0), match[0]) for match in matches), reverse=True)
    return [_found(folder / name, step, number, run) for step, number, name in order]


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a folder, whole or not; what else lies there stays.

    Raises
    ------
    OSError
        Something cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for each in [each for each in folder.iterdir() if _NAME.fullmatch(each.name) and not each.is_symlink()]:
            shutil.rmtree(each)


def _found(path: Path, step: int, number: int, run: str | None) -> Found:
    try:
        found = _record(path)
        problem = _problem(path, found, step, run)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        is_unfinished = missing == MANIFEST
        told = "it was never finished" if is_unfinished else f"{missing} is missing"
        return Found(path, step, number, None, told, is_unfinished)
    except (OSError, ValueError) as error:
        told = f"it cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        return Found(path, step, number, None, told)
    return Found(path, step, number, found if problem is None else None, problem)


def _problem(path: Path, found: Record, step: int, run: str | None) -> str | None:
    """Return what keeps a folder from being the checkpoint that its manifest tells of; None if nothing does."""
    if found.step != step:
        return "its manifest is of another one"
    if run is not None and found.run != run:
        return "it is of another run"
    for file in found.files:
        size = (path / file.name).stat().st_size
        if size != file.bytes:
            return f"{file.name} has {size} of {file.bytes} bytes"
    return None


def _record(path: Path) -> Record:
    with (path / MANIFEST).open("rb") as file:
        return record.read(file.read(record.MOST_BYTES))


def commit(folder: Path, content: Record, files: Mapping[str, Iterable[Any]], first: Iterable[Path] = ()) -> Record:
    """Write a checkpoint, and return its record; it is there, on the disk, when this returns, and not before.

    Parameters
    ----------
    folder
        That of all checkpoints, which may not be there yet.
    files
        Each file's bytes, as buffers one after the other.
    first
        Files beside it that must be on the disk before.

    Raises
    ------
    OSError
        It could not be written; what there is of it is no checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = _new(folder, content.step)
    try:
        for each in first:
            durable.sync_file(each)
        written = []
        for name, pieces in files.items():
            size, checksum = durable.write(path / name, pieces)
            written.append(File(name, size, checksum))
        durable.sync_folder(path)
        whole = replace(content, files=tuple(written))
        _write_manifest(path, record.write(whole))
        durable.sync_folder(folder)
    except OSError:
        with contextlib.suppress(OSError):  # on a full disk it would keep the next one from being written
            remove(path)
        raise
    return whole


def _write_manifest(path: Path, text: bytes) -> None:
    """Make a checkpoint of a folder, in one moment where the file system can rename."""
    partial = path / f"{MANIFEST}.partial"
    durable.write(partial, [text])
    try:
        partial.replace(path / MANIFEST)
    except OSError as error:
        if error.errno not in _CANNOT_RENAME:
            raise
        durable.write(path / MANIFEST, [text])
        partial.unlink()
    durable.sync_folder(path)


def _new(folder: Path, step: int) -> Path:
    """Make the folder of a checkpoint, or take one that a save left unfinished; a whole one is never touched."""
    there = {found.number: found for found in checkpoints(folder) if found.step == step}
    number = next(number for number in range(len(there) + 1) if number not in there or there[number].record is None)
    path = folder / (f"step-{step:012d}" + (f"-{number}" if number else ""))
    if number in there:
        _empty(path)
    else:
        path.mkdir()
    return path


def clear(folder: Path, keep: int, best_step: int | None, run: str, damaged: Collection[Path] = ()) -> None:
    """Remove all but the newest `keep` checkpoints, the best one, and what is not to be understood; at least one stays.

    Parameters
    ----------
    best_step
        The step of the best one; None where none is known.
    run
        Whose they must be; others stay.
    damaged
        Those that were read and are not as their manifests say: none of them is kept.

    Raises
    ------
    OSError
        Something could not be removed.
    """
    there = [found for found in checkpoints(folder) if found.record is None or found.record.run == run]
    sound = [found for found in reversed(there) if found.record is not None and found.path not in damaged]
    whole = {found.step: found for found in sound}  # the newest of each step
    newest = sorted(whole, reverse=True)
    kept = [whole[step] for step in {*newest[: max(keep, 1)], best_step} if step in whole]
    for found in there:
        is_old = found.record is not None and found not in kept and bool(kept)
        # What was never finished is older than the newest one, or somebody writes it.
        is_torn = found.record is None and bool(whole) and found.step < newest[0] and _is_ours(found.path)
        if is_old or is_torn:
            remove(found.path)


def _is_ours(path: Path) -> bool:
    return all(each.name.startswith(MANIFEST) or each.suffix == SUFFIX for each in path.iterdir())


def remove(path: Path) -> None:
    """Remove a checkpoint; from the first moment on it is none any more."""
    _empty(path)
    path.rmdir()


def _empty(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        (path / MANIFEST).unlink()
        durable.sync_folder(path)
    for each in path.iterdir():
        each.unlink()


def problem_of(found: Found) -> str | None:
    """Read all of a checkpoint, and return what is wrong with it; None if nothing is."""
    try:
        Opened(found).close()
    except DataError as error:
        return str(error).partition(": ")[2]
    return None


class Opened:
    """A checkpoint whose bytes were all read once and are as its manifest says; files are mapped until `close`."""

    def __init__(self, found: Found) -> None:
        if found.record is None:
            raise DataError(f"checkpoint {found.path}: {found.problem}")
        self.record = found.record
        self.path = found.path
        self._maps: dict[str, mmap.mmap] = {}
        try:
            for file in found.record.files:
                self._maps[file.name] = _whole(found.path, file)
        except BaseException:
            self.close()
            raise

    def content(self, name: str) -> mmap.mmap | None:
        """Return the bytes of a file, None where there is none."""
        return self._maps.get(name)

    def close(self) -> None:
        """Let go of the files, and of their pages."""
        for mapped in self._maps.values():
            with contextlib.suppress(BufferError):  # somebody still looks at it
                mapped.close()
        self._maps.clear()


def _whole(path: Path, file: File) -> mmap.mmap:
    try:
        with (path / file.name).open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            checksum, view = 0, memoryview(mapped)
            for begin in range(0, len(view), _PIECE):
                checksum = zlib.crc32(view[begin : begin + _PIECE], checksum)
            view.release()
    except (OSError, ValueError) as error:
        raise DataError(f"checkpoint {path}: {file.name} cannot be read ({error})") from None
    if len(mapped) != file.bytes or checksum != file.crc32:
        raise DataError(f"checkpoint {path}: {file.name} was changed or damaged")
    return mapped
