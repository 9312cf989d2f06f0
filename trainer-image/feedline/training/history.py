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
from fractions import Fraction
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
        self._waiting.append(line | {_column(name): repr(value) for name, value in values.items()})
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


def _column(name: str) -> str:
    """Return the column of what was reported by a name, which may be that of a column that is there already."""
    return f"reported_{name}" if name in _FIRST else name


class Reported:
    """What was reported by one name, as a run's history grows; each line is read once.

    Parameters
    ----------
    folder
        The run's.
    name
        What was reported.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._column = folder / HISTORY, _column(name)
        self._scale = Fraction(1)
        self._forget()

    def _forget(self) -> None:
        self._inode = self._read = 0
        self._columns: Sequence[str] | None = None
        self._found: list[tuple[int, float]] = []
        self._scaled: list[tuple[int, float]] = []

    def curve(self, scale: Fraction | int = 1) -> tuple[tuple[int, float], ...]:
        """Return step and value of each line that has it, the steps multiplied and rounded down.

        There are none where there is nothing to be read.
        """
        try:
            self._read_on()
        except (OSError, csv.Error):
            self._forget()
        if scale != self._scale:
            self._scale, self._scaled = Fraction(scale), []
        new = self._found[len(self._scaled) :]
        self._scaled += [(int(step * self._scale), value) for step, value in new]
        return tuple(self._scaled)

    def _read_on(self) -> None:
        with self._path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if stat.st_ino != self._inode or stat.st_size < self._read:  # it was replaced
                self._forget()
                self._inode = stat.st_ino
            file.seek(self._read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = csv.DictReader(io.StringIO(whole.decode("utf-8", "replace"), newline=""), self._columns)
        for line in lines:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                self._found.append((int(line["step"]), float(line[self._column])))
        self._columns = lines.fieldnames
