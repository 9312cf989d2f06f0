"""The processes of trials: `feedline run`, each in a session of its own, with its words in a file.

Importing torch takes seconds of a core, and a sweep has many trials: they are forked from one process that has imported
it. TensorFlow is not forked, which has threads of its own.
"""

import atexit
import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from feedline.contract import IMPORT_FROM
from feedline.manifest import Manifest
from feedline.ranks import end_with_parent, forking

_COMMANDS: Final = "feedline.cli"
_PRELOADED: Final = (_COMMANDS, "feedline.training.execution", "feedline.pytorch", "torch._dynamo")
# A trial is not to train on when the sweep is gone, whatever has ended it: it saves itself, as a pod does.
_PROGRAM: Final = """
import signal
from feedline.ranks import end_with_parent
end_with_parent(signal.SIGTERM)
from feedline.cli import main
main()
"""


class Process(Protocol):
    """A trial's process."""

    def poll(self) -> int | None:
        """Return its exit code, -n where signal n ended it; None while it runs."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing where it has ended."""

    def wait(self, seconds: float | None = None) -> None:
        """Wait for its end, so long at most."""


class Starter:
    """Starts trials.

    Parameters
    ----------
    document
        One of them: all have the same backend, and as many processes.
    import_from
        A folder of modules of the trials.
    """

    def __init__(self, document: Manifest, import_from: Path) -> None:
        self._variables = {IMPORT_FROM: str(import_from)}
        alone = document.document["spec"]["resources"]["processes"] == 1
        self._may_fork = document.backend == "pytorch" and alone

    def start(self, arguments: Sequence[str], log: Path) -> Process:
        """Start `feedline run` with these arguments."""
        variables = {**os.environ, **self._variables}
        context = forking(_PRELOADED) if self._may_fork else None
        if context is not None:
            # Where what they are forked from has ended, a process of its own tells why it cannot be.
            with contextlib.suppress(EOFError, OSError):
                return _Forked(context, arguments, log, variables)
        return _Spawned(arguments, log, variables)


class _Spawned:
    def __init__(self, arguments: Sequence[str], log: Path, variables: Mapping[str, str]) -> None:
        command = [sys.executable, "-P", "-c", _PROGRAM, "run", *arguments]
        with log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=variables,
                start_new_session=True,  # Ctrl-C is this process's: it ends the trials in its own way
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float | None = None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)


class _Forked:
    def __init__(self, context: Any, arguments: Sequence[str], log: Path, variables: Mapping[str, str]) -> None:
        self._process = context.Process(
            target=_be_trial, args=(tuple(arguments), str(log), dict(variables), str(Path.cwd()))
        )
        self._process.start()

    def poll(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def wait(self, seconds: float | None = None) -> None:
        self._process.join(seconds)


def _be_trial(arguments: Sequence[str], log: str, variables: Mapping[str, str], folder: str) -> None:
    """Be what `feedline run` is in a process that was not forked."""
    os.setsid()
    end_with_parent(signal.SIGTERM)
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    os.environ.clear()
    os.environ.update(variables)
    np.random.seed()  # noqa: NPY002 - that of whoever asks for no other
    time.tzset()
    multiprocessing.set_start_method(None, force=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["feedline", "run", *arguments]
    atexit._clear()  # noqa: SLF001 - what others have registered
    try:
        importlib.import_module(_COMMANDS).main()
    finally:
        # multiprocessing leaves these out: files of trackers that are yet to be written, temporary folders.
        atexit._run_exitfuncs()  # noqa: SLF001 - there is no other way
