"""The folder of a run: one below the temporary directory, held by a lock, swept by the next run if its owner crashed.

The lock ends with the process, however it ends, and cannot be mistaken for that of another process with the same pid.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil

from cluster.processes import FOLDER_VARIABLE, kill_all

# Short, because the path of a Unix socket may have 107 bytes.
PREFIX = "feedline-"
OWNER = "owner.pid"


class RunFolder(contextlib.AbstractContextManager):
    """A folder that is this process's until the block ends; making one sweeps away those of crashed runs.

    Parameters
    ----------
    level : str
        The kind of run; a sweep is for one kind.
    remove_leftovers : callable
        Removes what a run has outside its folder, given the folder, once its processes are gone.
    """

    def __init__(self, level: str, remove_leftovers: Callable[[Path], None]) -> None:
        self._remove_leftovers = remove_leftovers
        sweep(level, remove_leftovers)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{level}-")).resolve()
        unnamed = self.path / f"{OWNER}.new"
        self._lock = unnamed.open("w")
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Renamed when it is locked: a sweep never sees an owner file of a living run that it could lock.
        unnamed.rename(self.path / OWNER)

    def __exit__(self, *_: object) -> None:
        self._remove_leftovers(self.path)
        shutil.rmtree(self.path)
        self._lock.close()


def sweep(level: str, remove_leftovers: Callable[[Path], None]) -> None:
    """Remove the folders of crashed runs, and what is left of them elsewhere."""
    for folder in _all(level):
        with contextlib.suppress(FileNotFoundError), (folder / OWNER).open() as lock:
            if _is_free(lock):
                kill_all([process for process in psutil.process_iter() if _belongs_to(process, folder)])
                remove_leftovers(folder)
                shutil.rmtree(folder)


def folder_of(level: str, pid: int) -> Path | None:
    """Return the folder of the run of that kind that a living process has."""
    for folder in _all(level):
        with contextlib.suppress(FileNotFoundError):
            if (folder / OWNER).read_text() == str(pid):
                return folder
    return None


def _all(level: str) -> list[Path]:
    return [folder for folder in Path(tempfile.gettempdir()).resolve().glob(f"{PREFIX}{level}-*") if _is_mine(folder)]


def _is_mine(folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # another run may end just now
        return folder.stat().st_uid == os.getuid()
    return False


def _is_free(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get(FOLDER_VARIABLE) == str(folder)
    return False
