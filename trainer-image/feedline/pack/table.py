"""Tables of text: `.csv` and `.tsv`, plain or gzipped, read a line at a time by the standard library.

Two passes, the first for the number of rows and the labels, the second for the numbers. However long the file, a few
thousand cells are in memory; a line that never ends is refused. Column roles are settled in `columns`.
"""

import csv
import gzip
import io
import operator
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from feedline.errors import DataError
from feedline.pack.columns import Columns, Selection, select, shown
from feedline.pack.labels import LabelScan, encode
from feedline.pack.source import (
    CHUNK_CELLS,
    MAX_NAME,
    Array,
    Chunk,
    FeatureFormat,
    Labels,
    Progress,
    Scan,
    changed,
    opened,
    row_names,
    stems,
)

SUFFIXES: Final = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
MAX_LINE: Final = 1 << 26
"""Characters of a line. A longer one is no table, and would be held in memory as a whole."""
_MISSING: Final = frozenset({"", "?", "-", "na", "n/a", "nan", "null", "none"})
"""What stands for a missing number in tables: such a cell in the first row does not make it a header."""
_REPORT_ROWS: Final = 4096

Record = tuple[int, list[str]]


@dataclass(frozen=True)
class _Layout:
    """How the rows of all files look: their columns, and whether the first row holds the columns' names."""

    header: bool
    columns: tuple[str, ...]
    selection: Selection


class CsvSource:
    """Text tables of the same columns, read as one.

    Parameters
    ----------
    paths
        The files.
    wish
        Which column is what.
    features
        How numbers become features; float32 by default.

    Raises
    ------
    InputMissingError
        A file is missing or may not be read.
    DataError
        A file is empty or broken, columns differ from the first file's, a cell holds no number.
    UsageError
        The columns or the shape asked for do not go with the data.
    """

    def __init__(self, paths: Sequence[Path], wish: Columns, features: FeatureFormat) -> None:
        self._paths = paths
        self._features = features
        self._stems = stems(paths, SUFFIXES)
        self._layout = _layout(paths[0], wish)
        self._shape = features.shape_of(len(self._layout.selection.features))
        self._rows: list[int] = []

    def scan(self, progress: Progress) -> Scan:
        """Count the rows; see all labels and names. Progress is in bytes."""
        labels = LabelScan()
        longest = 0
        sizes = [path.stat().st_size for path in self._paths]
        self._rows = []
        for number, path in enumerate(self._paths):
            before = sum(sizes[:number])

            def advance(done: int, before: int = before) -> None:
                progress("Reading", before + done, sum(sizes))

            rows, width = self._scan_file(path, labels, advance)
            self._rows.append(rows)
            longest = max(longest, width or len(row_names(self._stems[number], 0, 1, rows)[0]))
        selection = self._layout.selection
        return Scan(
            rows=sum(self._rows),
            row_shape=self._shape,
            dtype=np.dtype(self._features.dtype or "float32"),
            labels=None if selection.target is None else labels.result(),
            name_width=longest,
            target=selection.found,
        )

    def chunks(self, scan: Scan) -> Iterator[Chunk]:
        """Yield the rows, as many at a time as make `CHUNK_CELLS` cells."""
        size = max(1, CHUNK_CELLS // len(self._layout.columns))
        for path, stem, rows in zip(self._paths, self._stems, self._rows, strict=True):
            first = 0
            with _reading(path) as (file, _):
                records = self._records(path, file)
                while block := list(islice(records, size)):
                    names = None if self._layout.selection.names is not None else (stem, first, rows)
                    yield self._chunk(path, block, scan, names)
                    first += len(block)

    def _scan_file(self, path: Path, labels: LabelScan, advance: Callable[[int], None]) -> tuple[int, int]:
        """Return the rows of a file, and the longest name if a column names them."""
        target, names = self._layout.selection.target, self._layout.selection.names
        rows = longest = 0
        with _reading(path) as (file, raw):
            for rows, (line, cells) in enumerate(self._records(path, file), 1):
                if target is not None:
                    try:
                        labels.text(cells[target].strip())
                    except ValueError as error:
                        raise DataError(f"{self._where(path, line, target)}: {error}") from None
                if names is not None:
                    longest = max(longest, len(cells[names].strip()))
                    if longest > MAX_NAME:
                        raise DataError(
                            f"{self._where(path, line, names)}: a name of {longest} characters is too long, "
                            f"at most {MAX_NAME} are stored: name another column by --names"
                        )
                if rows % _REPORT_ROWS == 0:
                    advance(raw.tell())
            advance(raw.tell())
        if not rows:
            raise DataError(f"{path} has no rows: give a table with at least one")
        return rows, longest

    def _records(self, path: Path, file: IO[str]) -> Iterator[Record]:
        """Yield (line number, cells) of the data, all of the same width."""
        columns = self._layout.columns
        records = _rows(path, file)
        if self._layout.header:
            _, cells = next(records, (0, []))
            if tuple(cell.strip() for cell in cells) != columns:
                raise DataError(f"{path}: its header differs from that of {self._paths[0]}: pack them apart")
        width = len(columns)
        for line, cells in records:
            if len(cells) != width:
                raise DataError(f"{path}, line {line}: {len(cells)} columns where {width} are expected: correct it")
            yield line, cells

    def _chunk(self, path: Path, block: list[Record], scan: Scan, named: tuple[str, int, int] | None) -> Chunk:
        selection = self._layout.selection
        keep = _keeper(selection.features)
        cells: list[str] = []
        for _, row in block:
            cells.extend(keep(row))
        numbers = self._numbers(path, block, cells).reshape(len(block), len(selection.features))

        def where(row: int, column: int) -> str:
            return self._where(path, block[row][0], selection.features[column])

        features = self._features.convert(numbers, scan.dtype, where)
        if named is not None:
            stem, first, rows = named
            names = row_names(stem, first, len(block), rows)
        else:
            names = [row[selection.names or 0].strip() for _, row in block]
        return Chunk(
            features.reshape(len(block), *scan.row_shape),
            self._labels(path, block, scan.labels),
            np.array(names, dtype=f"U{scan.name_width}"),
        )

    def _numbers(self, path: Path, block: list[Record], cells: list[str]) -> Array:
        try:
            return np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            features = self._layout.selection.features
            for index, cell in enumerate(cells):
                if not _is_number(cell):
                    row, column = divmod(index, len(features))
                    what = f"{cell!r} is no number" if cell.strip() else "the cell is empty"
                    raise DataError(
                        f"{self._where(path, block[row][0], features[column])}: {what}: correct it, "
                        "or leave the column out with --drop"
                    ) from None
            raise

    def _labels(self, path: Path, block: list[Record], labels: Labels | None) -> Array | None:
        target = self._layout.selection.target
        if labels is None or target is None:
            return None
        try:
            return encode(labels, [row[target].strip() for _, row in block])
        except ValueError:
            raise changed(path) from None

    def _where(self, path: Path, line: int, column: int) -> str:
        return f"{path}, line {line}, {shown(column, self._layout.columns)}"


def _layout(path: Path, wish: Columns) -> _Layout:
    with _reading(path) as (file, _):
        head = [cells for _, cells in islice(_rows(path, file), 2)]
    if not head:
        raise DataError(f"{path} is empty: give a table with at least one row")
    header = _has_header(head) if wish.header is None else wish.header
    columns = tuple(cell.strip() if header else "" for cell in head[0])
    return _Layout(header, columns, select(wish, columns))


def _has_header(head: Sequence[Sequence[str]]) -> bool:
    """Say whether the first row names the columns: a word stands over a number."""
    if len(head) == 1:
        return False
    return any(
        not _is_number(above) and above.strip().lower() not in _MISSING and _is_number(below)
        for above, below in zip(head[0], head[1], strict=False)
    )


def _rows(path: Path, file: IO[str]) -> Iterator[Record]:
    """Yield (line number, cells), without blank lines."""
    delimiter = "\t" if ".tsv" in path.name.lower() else ","
    reader = csv.reader(_lines(path, file), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}: correct it") from error


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE and not line.endswith("\n"):
            raise DataError(f"{path} has a line of more than {MAX_LINE:,} characters: give a table with line ends")
        yield line


@contextmanager
def _reading(path: Path) -> Iterator[tuple[IO[str], IO[bytes]]]:
    """Open as text; the second file is the one on the disk, whose position tells how far reading is."""
    with opened(path) as raw:
        plain: Any = gzip.GzipFile(fileobj=raw) if path.name.lower().endswith(".gz") else raw
        try:
            with io.TextIOWrapper(plain, encoding="utf-8-sig", newline="") as file:
                yield file, raw
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is no UTF-8 text ({error.reason}): convert it") from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is cut short or no gzip file ({error}): make it anew") from error


def _keeper(features: tuple[int, ...]) -> Callable[[list[str]], Sequence[str]]:
    """Return what picks the features' cells out of a row; a slice where it can, which is faster."""
    first, stop = features[0], features[-1] + 1
    if len(features) == stop - first:
        return operator.itemgetter(slice(first, stop))
    return operator.itemgetter(*features)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
