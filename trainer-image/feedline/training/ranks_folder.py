"""The folder in which the ranks of a machine, and the process that has started them, leave files for each other."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from feedline.training.whole import write_text

ENV_FOLDER: Final = "FEEDLINE_RANKS"


class RanksFolder:
    """What lies in that folder; ranks are numbered as in the whole training.

    Parameters
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_environment(cls) -> "RanksFolder | None":
        """Return the one that a rank finds in its environment; None where it was started by somebody else."""
        return cls(Path(os.environ[ENV_FOLDER])) if ENV_FOLDER in os.environ else None

    @property
    def job(self) -> Path:
        """What the ranks are to run, in JSON."""
        return self.path / "job.json"

    @property
    def port(self) -> Path:
        """Where the chief is asked how it does."""
        return self.path / "port"

    @property
    def rows(self) -> Path:
        """Where the first rank of the machine says which rows it has in memory."""
        return self.path / "rows.json"

    def report(self, rank: int) -> Path:
        """Return where a rank leaves its report."""
        return self.path / f"rank-{rank}.json"

    def pipe(self, rank: int) -> Path:
        """Return into what a rank prints."""
        return self.path / f"out-{rank}"

    def ask_to_stop(self, code: int) -> None:
        """Ask the ranks to end all at one step, with this exit code."""
        write_text(self.path / "stop", str(code))

    def stop_code(self) -> int | None:
        """Return with which exit code the ranks of this machine were asked to end; None: they were not."""
        with contextlib.suppress(OSError):
            return int((self.path / "stop").read_text())
        return None

    def listen(self, rank: int) -> None:
        """Note that a rank hears from now on what it is asked."""
        (self.path / f"listening-{rank}").touch()

    def all_listen(self, ranks: Iterable[int]) -> bool:
        """Return whether all of these hear what they are asked."""
        return all((self.path / f"listening-{rank}").exists() for rank in ranks)

    def note_nccl(self) -> None:
        """Note that ranks speak by NCCL, which ends a process that waits for another one in vain."""
        (self.path / "nccl").touch()

    def uses_nccl(self) -> bool:
        """Return whether ranks speak by NCCL."""
        return (self.path / "nccl").exists()

    def confess(self, rank: int) -> bool:
        """Note that a rank has an error of its own; return whether it is the first on this machine."""
        try:
            descriptor = os.open(self.path / "culprit", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        os.write(descriptor, str(rank).encode())
        os.close(descriptor)
        return True

    def culprit(self) -> int | None:
        """Return the first rank that had an error of its own."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.path / "culprit").read_text())
        return None

    def suffer(self, rank: int) -> None:
        """Note that a rank ends because of another one."""
        (self.path / f"victim-{rank}").touch()

    def is_victim(self, rank: int) -> bool:
        """Return whether a rank ends because of another one."""
        return (self.path / f"victim-{rank}").exists()

    def note_hung(self, rank: int, message: str) -> None:
        """Note that a rank is ended since it hangs, and what is said of it."""
        write_text(self.path / f"hung-{rank}", message)

    def hung(self, rank: int) -> str | None:
        """Return what is said of a rank that hung; None: it did not."""
        with contextlib.suppress(OSError):
            return (self.path / f"hung-{rank}").read_text()
        return None
