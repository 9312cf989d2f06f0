"""Long-running programs that never outlive the process that started them.

Each one is told by the kernel to end when its parent does, writes into a log of its own in the run's folder, and bears
the folder's path in its environment, by which `folders.sweep` knows what a crashed run has left. Nothing in here knows
what the programs are.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from cluster.errors import ClusterError

FOLDER_VARIABLE = "FEEDLINE_CLUSTER_FOLDER"
# How many times as long as on a quiet machine something may take before it counts as failed: tests run beside others,
# and beside compilers.
PATIENCE = 5

# The kernel's parent-death signal goes by the thread that forked, not by the process: a test may start a program from
# a thread of its own, so every program is started from this one, which lives as long as the interpreter.
_starter = ThreadPoolExecutor(1, thread_name_prefix="cluster-starter")


class Processes:
    """The programs of one cluster, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, argv: Sequence[str | Path], environment: dict[str, str] | None = None) -> int:
        """Start a program, its output appended to `FOLDER/NAME.log`, and return its pid."""
        setpriv = shutil.which("setpriv")
        dies_with_parent = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with self.log(name).open("ab") as log:
            process = _starter.submit(
                subprocess.Popen,
                [*dies_with_parent, *map(str, argv)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {}), FOLDER_VARIABLE: str(self.folder)},
                start_new_session=True,  # Ctrl-C is for the harness, which ends them in order
            ).result()
        self._running[name] = process
        return process.pid

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def wait_until(self, ready: Callable[[], bool], name: str, what: str, seconds: float = 60) -> None:
        """Poll `ready` until it is true.

        Raises
        ------
        ClusterError
            The program `name` ended, or `seconds` passed; the message ends with the last line of its log.
        """
        deadline = time.monotonic() + PATIENCE * seconds
        while not ready():
            code = self._running[name].poll()
            if code is not None:
                raise ClusterError(f"{name} ended with code {code} before {what}; {self._last_line(name)}")
            if time.monotonic() > deadline:
                raise ClusterError(f"{what} did not come about in {seconds:.0f} s; {self._last_line(name)}")
            time.sleep(0.05)

    def kill(self, name: str) -> None:
        """Kill a program and what it has started, and wait until they are gone; one that is gone already is fine."""
        process = self._running.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            kill_all(psutil.Process(process.pid).children(recursive=True))
        process.kill()
        process.wait()

    def kill_everything(self) -> None:
        """Kill all programs, the last one started first."""
        for name in reversed(list(self._running)):
            self.kill(name)

    def _last_line(self, name: str) -> str:
        lines = self.log(name).read_text(errors="replace").strip().splitlines()
        return f"the last line of {self.log(name)}: {lines[-1] if lines else '(nothing)'}"


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on now, of loopback by default."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def kill_all(processes: list[psutil.Process]) -> None:
    """Kill processes and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)
