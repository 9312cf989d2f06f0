"""A network disk to test with: a folder shown through FUSE by tools/slowfs, each read of which takes a set time.

A mount is gone when its `with` ends, whatever holds files on it open. Nothing in here knows what is read.
"""

import contextlib
import ctypes
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import build
from cluster.errors import ClusterError, NotHereError
from cluster.processes import Processes

_PROGRAM = "slowfs"
_MNT_DETACH = 2
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Counts:
    """What was asked of a disk.

    Attributes
    ----------
    reads, failed
        Reads that were answered, and those of them that failed.
    bytes
        Given out.
    at_once
        Most reads that were under way at the same time.
    """

    reads: int
    failed: int
    bytes: int
    at_once: int


class SlowDisk:
    """A folder as a network disk shows it.

    Attributes
    ----------
    folder
        Where it is mounted.
    pid
        Its process. Killed, it ends as a server does that loses its power: who reads gets an error from then on.
    """

    def __init__(self, folder: Path, pid: int, counts: Path) -> None:
        self.folder = folder
        self.pid = pid
        self._counts = counts

    def counts(self) -> Counts:
        """Return what was asked of the disk so far."""
        self._counts.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._counts.exists():
            if time.monotonic() > deadline:
                raise ClusterError(f"{_PROGRAM} did not write {self._counts} within {_PATIENCE_SECONDS} s")
            time.sleep(0.005)
        told = json.loads(self._counts.read_text())
        return Counts(told["reads"], told["failed"], told["bytes"], told["atOnce"])


@contextlib.contextmanager
def mounted(
    source: Path, scratch: Path, *, latency_seconds: float = 0, bad: tuple[str, int] | None = None, direct: bool = False
) -> Iterator[SlowDisk]:
    """Show a folder as a network disk.

    Parameters
    ----------
    source
        The folder.
    scratch
        An empty folder, for the mount and what belongs to it.
    latency_seconds
        What each read takes, however many are under way.
    bad
        A file, as the folder names it, and a byte of it: reads that touch it fail with EIO.
    direct
        Whether the kernel keeps nothing of what it has read; files can then not be mapped.

    Raises
    ------
    NotHereError
        This machine has no Go, no root or no FUSE.
    ClusterError
        The mount did not come about.
    """
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise NotHereError(
            "A slow disk is mounted through FUSE, which takes root on Linux and /dev/fuse: run this as root, after "
            "`modprobe fuse` where that is missing."
        )
    program = build.program(_PROGRAM, build.SLOWFS)
    folder, counts = scratch / "mounted", scratch / "counts.json"
    folder.mkdir()
    given = ["-latency", f"{latency_seconds * 1e6:.0f}us", "-counts", counts]
    if bad is not None:
        given += ["-bad-file", bad[0], "-bad-byte", str(bad[1])]
    if direct:
        given.append("-direct")
    processes = Processes(scratch)
    pid = processes.start(_PROGRAM, [program, *given, source, folder])
    try:
        processes.wait_until(
            lambda: processes.log(_PROGRAM).read_text() == "mounted\n", _PROGRAM, f"the mount of {folder}"
        )
        yield SlowDisk(folder, pid, counts)
    finally:
        # At once, though files on it may be open: what still reads gets an error as soon as the program is gone.
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(folder), _MNT_DETACH)
        processes.kill_everything()
