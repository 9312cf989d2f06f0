"""The one that writes checkpoints beside the training, one at a time, whatever goes wrong: no failure ends a training.

A thread is enough: it hands buffers to the kernel, which takes them without the interpreter. What is copied is written
as it was at its border, whatever the training does meanwhile.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from feedline.checkpoints import folder
from feedline.checkpoints.copying import Buffer, bytes_of
from feedline.checkpoints.record import Record
from feedline.checkpoints.states import State

_log = logging.getLogger("feedline")
_MUCH_MEMORY: Final = 64 << 20
_URGENT: Final = frozenset({"Stopped", "End"})
_NICENESS: Final = 15


@dataclass(frozen=True)
class Kept:
    """How the saving goes.

    Attributes
    ----------
    last
        The newest checkpoint; None before the first one.
    copy_seconds, write_seconds
        How long the newest one was copied, and written.
    blocked_total, write_total, bytes_total
        Seconds that the training stood still for copies, seconds of writing, and bytes, of this process.
    copies, saves, failures, skipped
        Copies taken; checkpoints written; those that could not be; those that were due while one was being written.
    failing_since, error
        Since when none could be written, by `time.time`, and why; None where the newest one was.
    state_bytes
        Memory that the copy takes.
    """

    last: Record | None = None
    copy_seconds: float = 0.0
    write_seconds: float = 0.0
    blocked_total: float = 0.0
    write_total: float = 0.0
    bytes_total: int = 0
    copies: int = 0
    saves: int = 0
    failures: int = 0
    skipped: int = 0
    failing_since: float | None = None
    error: str | None = None
    state_bytes: int = 0


class Writer:
    """Saves the checkpoints of a run.

    Parameters
    ----------
    path
        The folder of all of them.
    run
        Whose they are.
    keep
        How many of the newest stay.
    """

    def __init__(self, path: Path, run: str, keep: int) -> None:
        self.path, self.run, self._keep = path, run, keep
        self.kept = Kept()
        self._changing = threading.Lock()  # both threads count
        self._buffer = Buffer()
        self._passed_over: set[Path] = set()
        self._copied: Record | None = None  # what lies in the buffer and is not being written
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def prepare(self, states: Mapping[str, State]) -> None:
        """Have memory for a copy, on a thread, where it is so much that the first copy would wait for it.

        Raises
        ------
        FeedlineError
            A state cannot be taken or saved.
        """
        size = bytes_of(states)
        if size >= _MUCH_MEMORY:
            self._thread = threading.Thread(target=self._buffer.reserve, args=(size,), daemon=True)
            self._thread.start()

    def copy(self, states: Mapping[str, State], describe: Callable[[], Record]) -> None:
        """Copy the states as they are now; `write` writes them. Not while one is being written.

        Raises
        ------
        FeedlineError
            A state cannot be taken or saved.
        """
        self._copied = None
        began = time.perf_counter()
        self._buffer.fill(states)
        self._copied = describe()
        blocked = time.perf_counter() - began
        with self._changing:
            self.kept = replace(
                self.kept,
                blocked_total=self.kept.blocked_total + blocked,
                copies=self.kept.copies + 1,
                copy_seconds=blocked,
                state_bytes=self._buffer.bytes,
            )

    @property
    def copied(self) -> Record | None:
        """What is copied and was not written; None where there is nothing."""
        return self._copied

    def files(self) -> dict[str, Iterator[memoryview]]:
        """Return the bytes of what was copied, by file."""
        return self._buffer.files()

    def skip(self) -> None:
        """Note that a checkpoint was due while one was being written."""
        with self._changing:
            self.kept = replace(self.kept, skipped=self.kept.skipped + 1)

    def write(self, reason: str, best_step: int | None, first: tuple[Path, ...]) -> None:
        """Write what was copied, on a thread.

        Parameters
        ----------
        reason
            Why it is saved.
        best_step
            The step of the best checkpoint, which is kept.
        first
            Files that must be on the disk before it.
        """
        content, self._copied = self._copied, None
        if content is None:
            return
        work = (replace(content, reason=reason), best_step, first)
        self._thread = threading.Thread(target=self._write, args=work, name="feedline-checkpoint", daemon=True)
        self._thread.start()

    def _write(self, content: Record, best_step: int | None, first: tuple[Path, ...]) -> None:
        if content.reason not in _URGENT:
            _give_way()
        began = time.perf_counter()
        try:
            whole = folder.commit(self.path, content, self.files(), first)
        except Exception as error:  # noqa: BLE001 - whatever it is, the training goes on
            self._failed(content, error)
            return
        seconds = time.perf_counter() - began
        if self.kept.failing_since is not None:
            _log.info("checkpoint of step %d: written, saving works again", content.step)
        with self._changing:
            self.kept = replace(
                self.kept,
                last=whole,
                write_seconds=seconds,
                write_total=self.kept.write_total + seconds,
                bytes_total=self.kept.bytes_total + whole.bytes,
                saves=self.kept.saves + 1,
                failing_since=None,
                error=None,
            )
        try:
            folder.clear(self.path, self._keep, best_step, self.run, self._passed_over)
        except OSError as error:
            _log.warning("checkpoints: an old one cannot be removed (%s)", error)

    def _failed(self, content: Record, error: Exception) -> None:
        why = f"{error.filename or self.path}: {error.strerror}" if isinstance(error, OSError) else repr(error)
        if self.kept.failing_since is None:
            _log.warning("checkpoint of step %d: cannot be written (%s); the training goes on", content.step, why)
        with self._changing:
            self.kept = replace(
                self.kept,
                failures=self.kept.failures + 1,
                failing_since=self.kept.failing_since or time.time(),
                error=why,
            )

    def pass_over(self, path: Path) -> None:
        """Note a folder that is no checkpoint, though its manifest and its sizes say so: it counts for nothing."""
        self._passed_over.add(path)

    def newest(self, step: int | None = None) -> Path | None:
        """Return the folder of the newest checkpoint, of a step where one is given; None if there is none."""
        for found in folder.checkpoints(self.path, self.run):
            if found.record is not None and found.path not in self._passed_over and step in (None, found.step):
                return found.path
        return None

    def wait(self) -> None:
        """Wait until nothing is being written."""
        if self._thread is not None:
            self._thread.join()

    def begin_with(self, last: Record) -> None:
        """Note what the run goes on from."""
        self.kept = replace(self.kept, last=last)


def _give_way() -> None:
    """Let this thread have what the training leaves of the CPUs: a checkpoint that is a second later costs nothing.

    On Linux a thread has a niceness of its own. (2026-11-29, two cores, both busy: rows/s while a checkpoint was
    written, by those without, 0.66 before and 0.94 so.)
    """
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
