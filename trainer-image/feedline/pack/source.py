"""What a kind of source gives to `pack`: a scan that settles shapes and types, then its rows in order, in chunks.

The two passes agree: a source that changed between them is an error, never a wrong file. This module reads nothing
itself and does not know where rows are written.
"""

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy import typing as npt

from feedline.errors import (
    DataError,
    EnvironmentInvalidError,
    FeedlineError,
    InputMissingError,
    StorageError,
    UsageError,
)
from feedline.pack.narrowing import DTYPES

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]
"""Called with what is done (``"Reading"``, ``"Writing"``), how much of it, and of how much."""

MAX_NAME: Final = 1024
"""Characters of a name. Names are stored at a fixed width, so one long name costs that much in every row."""


@dataclass(frozen=True)
class Labels:
    """The labels' type.

    Attributes
    ----------
    dtype
        int32 for integers and classes (int64 where 32 bits do not suffice), float32 for other numbers.
    classes
        The class names in the order of their numbers; empty where labels are numbers.
    """

    dtype: np.dtype[Any]
    classes: tuple[str, ...] = ()

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each class."""
        return {name: number for number, name in enumerate(self.classes)}


@dataclass(frozen=True)
class Column:
    """What became of a column of a table.

    Attributes
    ----------
    number, name
        Its number from 1, and its name, ``""`` where the table has none.
    kind
        What it holds: ``number``, ``integer``, ``class``, ``text``, or the type that the file gives it.
    role
        ``feature``, ``labels``, ``names``, ``left out``, or ``row index, left out``.
    low, high
        The least and the greatest number; None where there are none.
    missing
        Cells without a number.
    """

    number: int
    name: str
    kind: str
    role: str
    low: float | None = None
    high: float | None = None
    missing: int = 0


@dataclass(frozen=True)
class Scan:
    """What the first pass found.

    Attributes
    ----------
    rows
        Rows in all sources.
    row_shape, dtype
        Of one row of features, and of its elements.
    labels
        The labels' type, or None if there are none.
    name_width
        Characters of the longest name.
    target
        What the labels were taken from, in words.
    """

    rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    labels: Labels | None
    name_width: int
    target: str


@dataclass(frozen=True)
class Chunk:
    """Some rows in the sources' order: features ``[k, ...]``, labels ``[k]`` or None, names ``[k]`` of strings."""

    features: Array
    labels: Array | None
    names: Array


class Source(Protocol):
    """One or more sources of one kind, read as one."""

    def scan(self, progress: Progress) -> Scan:
        """Read everything once, as far as shapes, types and the number of rows need it."""

    def chunks(self, scan: Scan) -> Iterator[Chunk]:
        """Read everything again and yield the rows."""

    def columns(self) -> tuple[Column, ...]:
        """Return what became of the columns, once all chunks were taken; nothing where there are none."""

    def said(self) -> tuple[str, ...]:
        """Return what was decided or left out, once all chunks were taken, in sentences that a person should see."""


@dataclass(frozen=True)
class FeatureFormat:
    """How numbers become features.

    Attributes
    ----------
    dtype
        One of `narrowing.DTYPES`, or None for the kind's own default.
    scale
        A factor, or None.
    row_shape
        The shape of a row, or None for the source's own.
    """

    dtype: str | None = None
    scale: float | None = None
    row_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise UsageError(f"--dtype {self.dtype} is not on offer: choose one of {', '.join(DTYPES)}")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale):
            raise UsageError(f"--scale {self.scale} is no factor: give a finite number other than 0, such as 0.0625")
        if self.scale is not None and self.dtype is not None and not self.dtype.startswith("float"):
            raise UsageError(f"--scale makes fractions, which {self.dtype} cannot hold: choose --dtype float32")
        if self.row_shape is not None and (not self.row_shape or min(self.row_shape) < 1):
            raise UsageError(f"--shape {self.row_shape} is no shape of a row: give positive sizes, such as 8,8")

    def shape_of(self, width: int) -> tuple[int, ...]:
        """Return the shape of a row of `width` numbers.

        Raises
        ------
        UsageError
            The shape asked for holds another number of elements.
        """
        shape = self.row_shape or (width,)
        if math.prod(shape) != width:
            sizes = ",".join(map(str, shape))
            raise UsageError(
                f"--shape {sizes} holds {math.prod(shape)} numbers, but a row has {width} features: "
                "correct the shape, or leave columns out with --drop"
            )
        return shape


def stems(paths: Sequence[Path], suffixes: Sequence[str]) -> list[str]:
    """Return what the rows of each source are called: its file name without the suffix, its path where two agree."""
    short = [_without(path.name, suffixes) for path in paths]
    if len(set(short)) == len(short):
        return short
    return [_without(str(path), suffixes) for path in paths]


def _without(name: str, suffixes: Sequence[str]) -> str:
    return next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)


def row_names(stem: str, first: int, count: int, rows: int) -> list[str]:
    """Name rows by where they come from, ``STEM-000123``: the row's number in its source, counted from 0."""
    pattern = f"{stem.replace('%', '%%')}-%0{max(6, len(str(rows - 1)))}d"
    return [pattern % row for row in range(first, first + count)]


def changed(path: Path) -> DataError:
    """Return the error for a source whose two readings differ."""
    return DataError(f"{path} changed while it was read: pack it again when nothing writes to it")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a source for reading.

    Raises
    ------
    InputMissingError
        It is missing or may not be read.
    StorageError
        Reading it failed later.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise missing(path, error) from error
    with file:
        try:
            yield file
        except FeedlineError:
            raise
        except OSError as error:
            raise StorageError(f"{path} could not be read to its end ({error.strerror}): try again") from error


def missing(path: Path, error: OSError) -> InputMissingError:
    """Return the error for a source that cannot be opened."""
    return InputMissingError(f"{path} cannot be read ({error.strerror}): check the path and its permissions")


def optional_module(name: str, package: str, reads: str) -> Any:
    """Import a package that only some sources need.

    Raises
    ------
    EnvironmentInvalidError
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentInvalidError(
            f"{package} is not installed, which reads {reads}: run pip install 'feedline[pack]'"
        ) from error
