"""`history.csv`: a line for everything that a run reported, with its step, epoch and seconds.

No step is in it twice: a run that goes on from a checkpoint cuts off what was reported after it. A disk that is full
keeps lines waiting, and never ends a training.
"""

import contextlib
import csv
import io
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from feedline.training.whole import write_text

HISTORY: Final = "history.csv"
_FIRST: Final = ("step", "epoch", "seconds")
_log = logging.getLogger("feedline")


class History:
    """The file in a run's folder; nothing is written before the first line.

    Attributes
    ----------
    rows
        Lines so far, those that wait among them.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / HISTORY
        self.rows = 0
        self._columns: tuple[str, ...] = ()
        self._descriptor: int | None = None  # kept open: some report after every step
        self._waiting: list[dict[str, str]] = []
        self._is_failing = False

    def add(self, step: int, epoch: int, seconds: float, values: Mapping[str, float]) -> None:
        """Write a line; a name that is new becomes a column."""
        line = {"step": str(step), "epoch": str(epoch), "seconds": f"{seconds:.3f}"}
        # Who reports a step or an epoch as well says what is there already.
        self._waiting.append({name: repr(value) for name, value in values.items()} | line)
        self.rows += 1
        try:
            self._write_waiting()
        except OSError as error:
            if not self._is_failing:
                _log.warning("%s: cannot be written (%s); its lines wait", self.path, error.strerror)
            self._is_failing = True
        else:
            self._is_failing = False

    def _write_waiting(self) -> None:
        names = dict.fromkeys([*(self._columns or _FIRST), *(name for line in self._waiting for name in line)])
        columns = tuple(names)
        if columns != self._columns:
            # What lies there already and was not cut is of a run that began anew since.
            self._replace(columns, [*(self._lines() if self._columns else ()), *self._waiting])
        else:
            self._append(_text(columns, self._waiting).encode())
        self._columns, self._waiting = columns, []

    def cut(self, rows: int) -> None:
        """Keep the first `rows` lines, and go on behind them.

        Raises
        ------
        OSError
            The file cannot be read or written.
        """
        lines = self._lines()[:rows]
        if len(lines) < rows:
            _log.warning("%s: has %d of %d lines; the others were lost", self.path, len(lines), rows)
        columns = tuple(dict.fromkeys([*_FIRST, *(name for line in lines for name in line)]))
        if self.path.exists() or lines:
            self._replace(columns, lines)
        self.rows, self._columns, self._waiting = rows, columns if lines else (), []

    def _lines(self) -> list[dict[str, str]]:
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                return [
                    {name: value for name, value in line.items() if name and value} for line in csv.DictReader(file)
                ]
        except FileNotFoundError:
            return []

    def _append(self, text: bytes) -> None:
        """Append all of a text, or nothing."""
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._descriptor).st_size
        try:
            while text:
                text = text[os.write(self._descriptor, text) :]
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Let go of the file; another line opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _replace(self, columns: Sequence[str], lines: Iterable[Mapping[str, str]]) -> None:
        self.close()
        header = _text([], [dict(zip(columns, columns, strict=True))], columns)
        write_text(self.path, header + _text(columns, lines))


def _text(columns: Sequence[str], lines: Iterable[Mapping[str, str]], header: Sequence[str] = ()) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or header, restval="", lineterminator="\n")
    writer.writerows(lines)
    return text.getvalue()


def reported(folder: Path, value: str) -> list[tuple[int, float]]:
    """Return step and value of each line of a run's history that has it; nothing where there is none to be read."""
    found = []
    file = folder / HISTORY
    with contextlib.suppress(OSError, csv.Error), file.open(newline="", encoding="utf-8", errors="replace") as lines:
        for line in csv.DictReader(lines):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                found.append((int(line["step"]), float(line[value])))
    return found
