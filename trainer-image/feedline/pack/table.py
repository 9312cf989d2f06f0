"""Tables of text or Parquet, read as one: from record batches to rows of features, labels and names.

Two passes, the first for the number of rows, the labels and the names, the second for the numbers. However long the
tables, some hundred thousand cells are in memory. Column roles are settled in `columns`, types in `values`, labels in
`labelled`. The file is long for the places that it gives to what is wrong.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from pyarrow import compute as pc

from feedline.errors import DataError, FeedlineError, UsageError
from feedline.limits import default_threads
from feedline.pack import numerals, values
from feedline.pack.columns import Columns, select, shown
from feedline.pack.dialect import Dialect
from feedline.pack.labelled import LabelColumn
from feedline.pack.narrowing import narrowed
from feedline.pack.numerals import BadCellError
from feedline.pack.ranges import Ranges
from feedline.pack.source import (
    MAX_NAME,
    Array,
    Chunk,
    Column,
    FeatureFormat,
    Progress,
    Scan,
    changed,
    row_names,
    stems,
)

_CHUNK_CELLS: Final = 1 << 17
"""Cells held at a time: a float64 each, and the text."""


class _Piece(NamedTuple):
    """Rows of a file from row `first` on, of `rows` in all: what names them, and their columns."""

    path: Path
    stem: str
    rows: int
    first: int
    batch: Any


class Tables(Protocol):
    """Tables of the same columns, of one kind.

    Attributes
    ----------
    is_text
        Whether cells are text, numbers too.
    names
        The columns' names, ``""`` where there are none.
    index
        The columns that pandas wrote for a frame's row index.
    said
        What was decided, in words.
    """

    is_text: bool
    names: tuple[str, ...]
    index: set[int]
    said: str

    def size(self, path: Path) -> int:
        """Return a file's bytes where cells are text, else its rows."""

    def kinds(self, path: Path) -> tuple[Any, ...]:
        """Return the types of a file's columns, as pyarrow has them."""

    def batches(self, path: Path, wanted: Sequence[int], advance: Callable[[int], None]) -> Iterator[Any]:
        """Yield a file's rows as record batches of some columns."""

    def where(self, path: Path, row: int) -> str:
        """Return the place of a row in words."""


class TableSource:
    """Tables as a source.

    Parameters
    ----------
    paths
        The files.
    tables
        What reads them.
    wish
        Which column is what.
    features
        How numbers become features; float32 by default.
    dialect
        How numbers are written where they are text.
    classes
        The classes of another set, in the order of their numbers.
    suffixes
        What is left away of the files' names to name rows.

    Raises
    ------
    DataError
        A cell holds no number, a value is null, list lengths differ.
    UsageError
        The columns or the shape asked for do not go with the data.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        tables: Tables,
        wish: Columns,
        features: FeatureFormat,
        *,
        dialect: Dialect,
        classes: tuple[str, ...] | None,
        suffixes: Sequence[str],
    ) -> None:
        self._paths, self._tables, self._format, self._dialect = paths, tables, features, dialect
        self._classes = classes
        self._stems = stems(paths, suffixes)
        self._selection = select(wish, tables.names, tables.index)
        if classes is not None and self._selection.target is None:
            raise UsageError("--classes is for labels, and there are none: leave one of it and --no-target out")
        self._check_types()
        self._rows: list[int] = []
        self._widths: list[int] = []
        self._labels = self._label_column()
        self._ranges = Ranges(0)

    # --- the first pass -----------------------------------------------------------------------------------------------

    def scan(self, progress: Progress) -> Scan:
        """Count the rows; see all labels and names. Progress is in bytes of text, in rows of Parquet."""
        self._widths = self._first_widths()
        self._labels = self._label_column()
        longest = 0
        self._rows = []
        sizes = [self._tables.size(path) for path in self._paths]
        for number, (path, stem) in enumerate(zip(self._paths, self._stems, strict=True)):
            before = sum(sizes[:number])

            def advance(done: int, before: int = before) -> None:
                progress("Reading", before + done, sum(sizes))

            rows, width = self._scan_file(path, advance)
            if not rows:
                raise DataError(f"{path} has no rows: give a table with at least one")
            self._rows.append(rows)
            longest = max(longest, width or len(row_names(stem, 0, 1, rows)[0]))
        shape = self._format.shape_of(sum(self._widths))
        self._ranges = Ranges(sum(self._widths))
        return Scan(
            rows=sum(self._rows),
            row_shape=shape,
            dtype=np.dtype(self._format.dtype or "float32"),
            labels=None if self._selection.target is None else self._labels.result(),
            name_width=longest,
            target=self._selection.found,
        )

    def _scan_file(self, path: Path, advance: Callable[[int], None]) -> tuple[int, int]:
        """Return the rows of a file, and the longest name if a column names them."""
        target, names = self._selection.target, self._selection.names
        wanted = [index for index in (target, names) if index is not None]
        if not wanted and not self._tables.is_text:
            return self._tables.size(path), 0
        rows = longest = 0
        for batch in self._tables.batches(path, wanted, advance):
            if target is not None:
                with self._placed(path, rows, target):
                    self._labels.scan(batch.column(0))
            if names is not None and batch.num_rows:
                with self._placed(path, rows, names):
                    longest = max(longest, self._longest(batch.column(len(wanted) - 1)))
            rows += batch.num_rows
        return rows, longest

    def _longest(self, column: Any) -> int:
        found = pc.utf8_length(numerals.trimmed(values.texts(column)))
        longest = int(pc.max(found).as_py())
        if longest > MAX_NAME:
            raise BadCellError(
                pc.index(found, longest).as_py(),
                f"a name of {longest} characters is too long, at most {MAX_NAME} are stored: "
                "name another column by --names",
            )
        return longest

    # --- the second pass ----------------------------------------------------------------------------------------------

    def chunks(self, scan: Scan) -> Iterator[Chunk]:
        """Yield the rows, as many at a time as make `_CHUNK_CELLS` cells, made by as many threads as there are CPUs."""
        threads = default_threads()
        with ThreadPoolExecutor(threads, thread_name_prefix="feedline-pack") as pool:
            coming: deque[Future[tuple[Chunk, list[Array]]]] = deque()
            for piece in self._pieces():
                coming.append(pool.submit(self._chunk, piece, scan))
                if len(coming) > threads:
                    yield self._seen(*coming.popleft().result())
            while coming:
                yield self._seen(*coming.popleft().result())

    def _pieces(self) -> Iterator[_Piece]:
        selection = self._selection
        extra = [index for index in (selection.target, selection.names) if index is not None]
        size = max(1, _CHUNK_CELLS // sum(self._widths))
        for path, stem, rows in zip(self._paths, self._stems, self._rows, strict=True):
            first = 0
            for whole in self._tables.batches(path, [*selection.features, *extra], lambda _: None):
                for start in range(0, whole.num_rows, size):
                    batch = whole.slice(start, size)
                    if first + batch.num_rows > rows:
                        raise changed(path)
                    yield _Piece(path, stem, rows, first, batch)
                    first += batch.num_rows
            if first != rows:
                raise changed(path)

    def _chunk(self, piece: _Piece, scan: Scan) -> tuple[Chunk, list[Array]]:
        """Return the rows of a piece, and the numbers that became their features; called by any thread."""
        path, stem, rows, first, batch = piece
        selection, labels = self._selection, None
        parts = self._parts(path, first, batch)
        features = self._features(path, first, parts, scan)
        if scan.labels is not None and selection.target is not None:
            with self._placed(path, first, selection.target):
                labels = self._labels.encode(batch.column(len(selection.features)), scan.labels, path)
        if selection.names is None:
            names = row_names(stem, first, batch.num_rows, rows)
        else:
            names = numerals.trimmed(values.texts(batch.column(batch.num_columns - 1))).to_pylist()
        return Chunk(features, labels, np.array(names, dtype=f"U{scan.name_width}")), parts

    def _seen(self, chunk: Chunk, parts: list[Array]) -> Chunk:
        begin = 0
        for part in parts:
            self._ranges.see(part, begin)
            begin += part.shape[1]
        return chunk

    def _parts(self, path: Path, first: int, batch: Any) -> list[Array]:
        """Return the numbers of some rows, ``[k, n]``: of all columns at once where they are of one type."""
        parts = []
        for number, index in enumerate(self._selection.features):
            with self._placed(path, first, index):
                part = self._numbers(batch.column(number))
            if part.shape[1] != self._widths[number]:
                raise DataError(
                    f"{self._place(path, first, index)}: a list of {part.shape[1]} where the first row's has "
                    f"{self._widths[number]}: all rows need the same length"
                )
            parts.append(part)
        return [np.concatenate(parts, axis=1)] if len({part.dtype for part in parts}) == 1 else parts

    def _features(self, path: Path, first: int, parts: Sequence[Array], scan: Scan) -> Array:
        """Return the features of some rows, ``[k, *row_shape]``; row `first` of the file is the first of them."""
        out = np.empty((len(parts[0]), sum(self._widths)), scan.dtype)
        begin = 0
        for part in parts:
            end = begin + part.shape[1]

            def where(row: int, column: int, begin: int = begin) -> str:
                return self._place(path, first + row, self._owners()[begin + column])

            out[:, begin:end] = narrowed(part, scan.dtype, where, self._format.scale)
            begin = end
        return out.reshape(len(out), *scan.row_shape)

    def _numbers(self, column: Any) -> Array:
        if self._tables.is_text:
            return numerals.numbers(column, self._dialect.decimal, self._dialect.null).as_array().reshape(-1, 1)
        return values.numbers(column)

    # --- what was found -----------------------------------------------------------------------------------------------

    def columns(self) -> tuple[Column, ...]:
        """Return what became of each column."""
        selection, kinds = self._selection, self._tables.kinds(self._paths[0])
        begins = dict(zip(selection.features, np.cumsum([0, *self._widths]).tolist(), strict=False))
        widths = dict(zip(selection.features, self._widths, strict=True))
        found = []
        for index, (name, kind) in enumerate(zip(self._tables.names, kinds, strict=True)):
            number, told = index + 1, "text" if self._tables.is_text else str(kind)
            if index in begins:
                low, high, missing = self._ranges.of(begins[index], begins[index] + widths[index])
                found.append(
                    Column(number, name, "number" if self._tables.is_text else told, "feature", low, high, missing)
                )
            elif index == selection.target:
                found.append(Column(number, name, self._labels.kind, "labels", *self._labels.range))
            elif index == selection.names:
                found.append(Column(number, name, told, "names"))
            else:
                role = "row index, left out" if index in self._tables.index else "left out"
                found.append(Column(number, name, told, role))
        return tuple(found)

    def said(self) -> tuple[str, ...]:
        """Return what was decided."""
        said = [self._tables.said] if self._tables.said else []
        said += [
            f"{_sentence(shown(index, self._tables.names))} is the row index of pandas and was left out; "
            f"to name the rows by it, say --names {index + 1}."
            for index in sorted(self._tables.index.difference({self._selection.target, self._selection.names}))
        ]
        owners = self._owners()
        for place in self._ranges.counting():
            index = owners[place]
            said.append(
                f"{_sentence(shown(index, self._tables.names))} counts the rows; if it only numbers them, "
                f"a model learns the order of the file: say --drop {index + 1}."
            )
        return tuple(said)

    # --- checks and places --------------------------------------------------------------------------------------------

    def _check_types(self) -> None:
        if self._tables.is_text:
            return
        selection = self._selection
        for path in self._paths:
            kinds = self._tables.kinds(path)
            for index in selection.features:
                if not values.is_numeric(kinds[index]):
                    raise UsageError(
                        f"{shown(index, self._tables.names)} of {path} is {kinds[index]}, which is no number: "
                        "leave it out with --drop, or use it as --target or --names"
                    )
            target = selection.target
            if target is not None and not (
                values.is_numeric(kinds[target], lists=False) or values.is_text(kinds[target])
            ):
                raise UsageError(
                    f"{shown(target, self._tables.names)} of {path} is {kinds[target]}, which is no label: "
                    "name another by --target, or say --no-target"
                )
            if target is not None and values.is_text(kinds[target]) != values.is_text(
                self._tables.kinds(self._paths[0])[target]
            ):
                raise DataError(
                    f"{path}: its labels are {kinds[target]}, unlike those of {self._paths[0]}: pack them apart"
                )
            names = selection.names
            if names is not None and not (values.is_text(kinds[names]) or values.is_numeric(kinds[names], lists=False)):
                raise UsageError(
                    f"{shown(names, self._tables.names)} of {path} is {kinds[names]}, which names no rows: "
                    "name another by --names"
                )

    def _label_column(self) -> LabelColumn:
        return LabelColumn(self._dialect if self._tables.is_text else None, self._classes)

    def _first_widths(self) -> list[int]:
        """Return how many numbers each column of features has in a row."""
        features = self._selection.features
        if self._tables.is_text:
            return [1] * len(features)
        path = self._paths[0]
        first = next((batch for batch in self._tables.batches(path, features, lambda _: None) if batch.num_rows), None)
        if first is None:
            raise DataError(f"{path} has no rows: give a table with at least one")
        widths = []
        for number, index in enumerate(features):
            with self._placed(path, 0, index):
                widths.append(values.numbers(first.column(number).slice(0, 1)).shape[1])
        return widths

    def _owners(self) -> list[int]:
        """Return the column of the table for each number of a row."""
        owners: list[int] = np.repeat(self._selection.features, self._widths).tolist()
        return owners

    def _place(self, path: Path, row: int, index: int) -> str:
        return f"{self._tables.where(path, row)}, {shown(index, self._tables.names)}"

    @contextmanager
    def _placed(self, path: Path, first: int, index: int) -> Iterator[None]:
        """Add the place to what is wrong with a cell; row `first` of the file is the first that is looked at."""
        try:
            yield
        except FeedlineError:
            raise
        except BadCellError as error:
            raise DataError(f"{self._place(path, first + error.index, index)}: {error}") from None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
