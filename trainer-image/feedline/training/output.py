"""The one place to which a run writes: a folder of its own, what lies in it, and whose it is."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from feedline.checkpoints import SUFFIX, is_of_a_state, remove_checkpoints
from feedline.errors import EnvironmentInvalidError, StorageError, UsageError
from feedline.manifest import Manifest, to_yaml
from feedline.training import history
from feedline.training.whole import write_text

CHECKPOINTS: Final = "checkpoints"
REPORT: Final = "report.json"
PIPELINE: Final = "pipeline.yaml"
KERAS_MODEL: Final = "model.keras"
_RUN: Final = "run.json"
_FOLDER: Final = re.compile(r"[a-z0-9-]{1,80}")
_LOOKS: Final = 20
_LOOK_SECONDS: Final = 0.01
_log = logging.getLogger("feedline")
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EPERM})
_NOT_OURS_TO_WRITE: Final = (PermissionError, NotADirectoryError, FileExistsError)


class Output:
    """A run's folder.

    Parameters
    ----------
    folder
        Which; it is made by `begin`.
    run
        Which run it is; None takes the name that the folder has, or makes one.
    discards
        Folders of runs beside it with which nobody goes on; `begin` frees what takes room in them.

    Attributes
    ----------
    is_kept
        Whether it outlives the process and what is around it.
    is_begun
        Whether this process writes there.
    """

    def __init__(
        self, folder: Path, run: str | None = None, *, discards: Iterable[str] = (), is_kept: bool = True
    ) -> None:
        self.folder = folder.absolute()
        self._discards = tuple(discards)
        self.is_kept = is_kept
        self.run = run or run_of(self.folder) or secrets.token_hex(16)
        self.is_begun = False
        self._lock: int | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def report(self) -> Path:
        """The file of the report."""
        return self.folder / REPORT

    def begin(self, document: Manifest) -> None:
        """Make the folder, and leave in it what is run.

        Raises
        ------
        EnvironmentInvalidError
            It may not be written.
        StorageError
            The disk is full or does not answer.
        UsageError
            Another run is writing there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _claim(self.folder)
            self.is_begun = True
            if run_of(self.folder) != self.run:
                write_text(self.folder / _RUN, json.dumps({"run": self.run}) + "\n")
            write_text(self.folder / PIPELINE, to_yaml(document.document))
        except OSError as error:
            what = f"the output {self.folder} cannot be written ({error.strerror})"
            if isinstance(error, _NOT_OURS_TO_WRITE) or error.errno in _READ_ONLY:
                raise EnvironmentInvalidError(
                    f"{what}: give the user {os.getuid()} of this process the right to write there (in a cluster by "
                    "spec.pod.securityContext), or another place by spec.output or --output"
                ) from None
            raise StorageError(f"{what}: make room there, or see to its disk") from None
        for name in self._discards:
            _discard(self.folder.parent, name)

    def publish(self, source: Path, name: str) -> None:
        """Give a file another name in the folder, in the place of what has it; a copy where there are no such names."""
        target = self.folder / name
        partial = target.with_name(f".{name}.partial")
        try:
            partial.unlink(missing_ok=True)
            try:
                os.link(source, partial)
            except OSError:
                shutil.copyfile(source, partial)
            partial.replace(target)
            partial.unlink(missing_ok=True)  # where both are one file, the system does nothing
        except OSError as error:
            _log.warning("%s cannot be written (%s)", target, error.strerror)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others write there."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def lock(folder: Path) -> int | None:
    """Return what keeps others from locking a folder until it is closed; None where the file system cannot.

    Raises
    ------
    BlockingIOError
        Somebody has locked it.
    OSError
        It cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor


def run_of(folder: Path) -> str | None:
    """Return which run's folder it is; None if it is none's."""
    try:
        found = json.loads((folder / _RUN).read_bytes()[:4096])
        return str(found["run"])[:64]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_in_use(folder: Path) -> bool:
    """Return whether a run is writing to a folder now, as far as the file system tells."""
    try:
        descriptor = lock(folder)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if descriptor is not None:
        os.close(descriptor)
    return False


def report_in(folder: Path) -> dict[str, Any] | None:
    """Return the report that lies in a run's folder; None where it has not ended yet, or was killed."""
    try:
        found = json.loads((folder / REPORT).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def is_finished(folder: Path) -> bool:
    """Return whether the run of a folder has come to its end."""
    return (report_in(folder) or {}).get("exitCode") == 0


def require_new(folder: Path) -> None:
    """Refuse a folder in which there is something already.

    Raises
    ------
    UsageError
        A run lies there, or files that are none's.
    """
    if run_of(folder) is not None:
        what = "a finished run" if is_finished(folder) else "a run that did not come to its end"
        raise UsageError(
            f"--output {folder}: there is {what}: go on with it by --resume, throw it away by --fresh, or name another "
            "folder"
        )
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if any(folder.iterdir()):
            raise UsageError(f"--output {folder}: is a folder with other files in it: name a new one")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: is a file: name a folder")


def make_fresh(folder: Path) -> None:
    """Remove what a run has left in its folder; files that feedline did not make stay.

    Raises
    ------
    UsageError
        It is no run's folder, and not empty, or a run is writing there.
    StorageError
        Something cannot be removed.
    """
    if run_of(folder) is None:
        require_new(folder)
        return
    descriptor = _claim(folder)
    try:
        for name in (REPORT, history.HISTORY, PIPELINE):
            (folder / name).unlink(missing_ok=True)
        remove_weights(folder)
        remove_checkpoints(folder / CHECKPOINTS)  # behind a link, to where there is more room
        (folder / _RUN).unlink()
    except OSError as error:
        raise StorageError(f"--fresh: {error.filename or folder} cannot be removed ({error.strerror})") from None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_weights(folder: Path) -> None:
    """Remove what takes room in a run's folder, its checkpoints and the weights of them; what is told of it stays."""
    saved = {weights.name.removesuffix(SUFFIX) for weights in (folder / CHECKPOINTS).glob(f"*/*{SUFFIX}")}
    for weights in folder.glob(f"*{SUFFIX}"):
        name = weights.name.removesuffix(SUFFIX).removesuffix(".best")
        # Where the checkpoints are gone already, nobody knows the names any more.
        if (name in saved or not saved) and is_of_a_state(weights):
            weights.unlink(missing_ok=True)
    (folder / KERAS_MODEL).unlink(missing_ok=True)
    if not (folder / CHECKPOINTS).is_symlink():
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _claim(folder: Path) -> int | None:
    """Keep another process of this machine from writing to a folder; not all file systems can."""
    for is_last in (*[False] * _LOOKS, True):
        try:
            return lock(folder)
        except BlockingIOError:
            if is_last:
                raise UsageError(
                    f"the output {folder}: another run is writing there: wait for it, or take another"
                ) from None
            time.sleep(_LOOK_SECONDS)  # somebody may only look whether it is in use
    return None


def _discard(parent: Path, name: str) -> None:
    """Remove the weights of a run that has ended, if it lies there; nothing depends on it."""
    folder = parent / name
    if not _FOLDER.fullmatch(name) or folder.is_symlink() or run_of(folder) is None or is_in_use(folder):
        return
    with contextlib.suppress(OSError):
        remove_weights(folder)
