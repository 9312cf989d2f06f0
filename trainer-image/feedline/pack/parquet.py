"""Tables in Parquet, read by pyarrow a few thousand cells at a time.

Numeric columns and lists of them, of one length, are features. A null is an error: a hole has no number. Column roles
are settled in `columns`; as with every source, the first pass reads only what the labels and names need.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from feedline.errors import DataError, FeedlineError, StorageError, UsageError
from feedline.pack.columns import Columns, select
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
    missing,
    optional_module,
    row_names,
    stems,
)

SUFFIXES: Final = (".parquet",)
_SCAN_ROWS: Final = 4096


class ParquetSource:
    """Parquet files of the same columns, read as one.

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
    EnvironmentInvalidError
        pyarrow is not installed.
    InputMissingError
        A file is missing or may not be read.
    DataError
        A file is no Parquet, columns differ from the first file's, a value is null, list lengths differ.
    UsageError
        The columns or the shape asked for do not go with the data.
    """

    def __init__(self, paths: Sequence[Path], wish: Columns, features: FeatureFormat) -> None:
        if wish.header is not None:
            raise UsageError("--header is for text tables, Parquet names its columns: leave it out")
        self._parquet = optional_module("pyarrow.parquet", "pyarrow", "Parquet")
        self._arrow = optional_module("pyarrow", "pyarrow", "Parquet")
        self._compute = optional_module("pyarrow.compute", "pyarrow", "Parquet")
        self._paths = paths
        self._format = features
        self._stems = stems(paths, SUFFIXES)
        self._tables = [self._open_checked(path) for path in paths]
        schema = self._tables[0]
        self._columns: list[str] = list(schema.names)
        selection = select(wish, self._columns)
        self._features = [self._columns[index] for index in selection.features]
        self._target = None if selection.target is None else self._columns[selection.target]
        self._names = None if selection.names is None else self._columns[selection.names]
        self._found = selection.found
        self._check_types(schema)
        self._rows: list[int] = []
        self._widths: list[int] = []

    def scan(self, progress: Progress) -> Scan:
        """Take the number of rows from the files' footers; see all labels and names. Progress is in rows."""
        with self._reading(self._paths[0]) as file:
            first = next(file.iter_batches(batch_size=1, columns=self._features), None)
            if first is None or not first.num_rows:
                raise DataError(f"{self._paths[0]} has no rows: give a table with at least one")
            self._widths = [
                self._numbers(self._paths[0], 0, name, first.column(name)).shape[1] for name in self._features
            ]
        labels = LabelScan()
        longest = 0
        self._rows = []
        for path, stem in zip(self._paths, self._stems, strict=True):
            with self._reading(path) as file:
                rows = file.metadata.num_rows
                longest = max(longest, len(row_names(stem, 0, 1, rows)[0]), self._scan_file(path, file, labels))
                self._rows.append(rows)
            progress("Reading", len(self._rows), len(self._paths))
        return Scan(
            rows=sum(self._rows),
            row_shape=self._format.shape_of(sum(self._widths)),
            dtype=np.dtype(self._format.dtype or "float32"),
            labels=None if self._target is None else labels.result(),
            name_width=longest,
            target=self._found,
        )

    def chunks(self, scan: Scan) -> Iterator[Chunk]:
        """Yield the rows, as many at a time as make `CHUNK_CELLS` cells."""
        size = max(1, CHUNK_CELLS // sum(self._widths))
        for path, stem, rows in zip(self._paths, self._stems, self._rows, strict=True):
            first = 0
            with self._reading(path) as file:
                for batch in file.iter_batches(batch_size=size):
                    names = (
                        row_names(stem, first, batch.num_rows, rows)
                        if self._names is None
                        else self._texts(path, first, self._names, batch.column(self._names))
                    )
                    yield Chunk(
                        self._feature_rows(path, first, batch, scan),
                        self._labels(path, first, batch, scan.labels),
                        np.array(names, dtype=f"U{scan.name_width}"),
                    )
                    first += batch.num_rows

    def _open_checked(self, path: Path) -> Any:
        with self._reading(path) as file:
            return file.schema_arrow

    def _check_types(self, schema: Any) -> None:
        for path, other in zip(self._paths, self._tables, strict=True):
            if list(other.names) != self._columns or other.types != schema.types:
                raise DataError(f"{path}: its columns differ from those of {self._paths[0]}: pack them apart")
        for name in self._features:
            kind = schema.field(name).type
            while self._is_list(kind):
                kind = kind.value_type
            if not self._is_numeric(kind):
                raise UsageError(
                    f"column {name} of {self._paths[0]} is {schema.field(name).type}, which is no number: "
                    "leave it out with --drop, or use it as --target or --names"
                )
        if self._target is not None:
            kind = schema.field(self._target).type
            if not (self._is_numeric(kind) or self._is_text(kind)):
                raise UsageError(
                    f"column {self._target} of {self._paths[0]} is {kind}, which is no label: "
                    "name another by --target, or say --no-target"
                )
        if self._names is not None and self._is_list(schema.field(self._names).type):
            raise UsageError(f"column {self._names} of {self._paths[0]} holds lists: name another by --names")

    def _scan_file(self, path: Path, file: Any, labels: LabelScan) -> int:
        """See a file's labels and names, and return the longest name's length."""
        first = longest = 0
        wanted = [name for name in (self._target, self._names) if name is not None]
        for batch in file.iter_batches(batch_size=_SCAN_ROWS, columns=wanted) if wanted else ():
            if self._target is not None:
                self._scan_labels(path, first, batch.column(self._target), labels)
            if self._names is not None:
                texts = self._texts(path, first, self._names, batch.column(self._names))
                longest = max(longest, *map(len, texts))
                if longest > MAX_NAME:
                    raise DataError(
                        f"{path}, column {self._names}: a name of {longest} characters is too long, "
                        f"at most {MAX_NAME} are stored: name another column by --names"
                    )
            first += batch.num_rows
        return longest

    def _scan_labels(self, path: Path, first: int, column: Any, labels: LabelScan) -> None:
        target = str(self._target)
        try:
            if self._is_text(column.type):
                for text in self._texts(path, first, target, column):
                    labels.class_name(text)
            else:
                labels.numbers(self._numbers(path, first, target, column)[:, 0])
        except ValueError as error:
            if isinstance(error, FeedlineError):
                raise
            raise DataError(f"{path}, column {target}: {error}") from None

    def _feature_rows(self, path: Path, first: int, batch: Any, scan: Scan) -> Array:
        parts = [self._numbers(path, first, name, batch.column(name)) for name in self._features]
        for name, part, width in zip(self._features, parts, self._widths, strict=True):
            if part.shape[1] != width:
                raise DataError(
                    f"{path}, row {first}, column {name}: a list of {part.shape[1]} where the first row's has {width}: "
                    "all rows need the same length"
                )
        values = np.concatenate(parts, axis=1, dtype=np.float64)
        owners = np.repeat(np.arange(len(parts)), self._widths)

        def where(row: int, column: int) -> str:
            return f"{path}, row {first + row}, column {self._features[owners[column]]}"

        return self._format.convert(values, scan.dtype, where).reshape(len(values), *scan.row_shape)

    def _labels(self, path: Path, first: int, batch: Any, labels: Labels | None) -> Array | None:
        if labels is None or self._target is None:
            return None
        column = batch.column(self._target)
        if not labels.classes:
            return encode(labels, self._numbers(path, first, self._target, column)[:, 0])
        try:
            return encode(labels, self._texts(path, first, self._target, column))
        except ValueError as error:
            if isinstance(error, FeedlineError):
                raise
            raise changed(path) from None

    def _texts(self, path: Path, first: int, name: str, column: Any) -> list[str]:
        self._refuse_nulls(path, first, name, column, 1)
        return [str(value) for value in column.to_pylist()]

    def _numbers(self, path: Path, first: int, name: str, column: Any) -> Array:
        """Return ``[k, width]`` numbers of a column, its lists laid side by side; row `first` is its first."""
        rows = len(column)
        self._refuse_nulls(path, first, name, column, 1)
        while self._is_list(column.type):
            per_row = len(column) // rows
            lengths = self._compute.list_value_length(column).to_numpy(zero_copy_only=False)
            odd = np.flatnonzero(lengths != lengths[0])
            if len(odd):
                raise DataError(
                    f"{path}, row {first + odd[0] // per_row}, column {name}: a list of {lengths[odd[0]]} where others "
                    f"have {lengths[0]}: all rows need the same length"
                )
            column = column.flatten()
            self._refuse_nulls(path, first, name, column, max(1, len(column) // rows))
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(rows, -1)

    @staticmethod
    def _refuse_nulls(path: Path, first: int, name: str, column: Any, per_row: int) -> None:
        if column.null_count:
            row = first + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))) // per_row
            raise DataError(f"{path}, row {row}, column {name}: the value is null: fill it, or leave the column out")

    def _is_list(self, kind: Any) -> bool:
        types = self._arrow.types
        return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))

    def _is_numeric(self, kind: Any) -> bool:
        types = self._arrow.types
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))

    def _is_text(self, kind: Any) -> bool:
        types = self._arrow.types
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind))

    @contextmanager
    def _reading(self, path: Path) -> Iterator[Any]:
        try:
            # Without pre_buffer, which would hold a whole row group in memory.
            file = self._parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (OSError, self._arrow.ArrowException) as error:
            if getattr(error, "errno", None) is not None:  # the system's word, not pyarrow's about the content
                raise missing(path, error) from error
            raise DataError(f"{path} is no Parquet file, or cut short: make it anew") from error
        with file:
            try:
                yield file
            except FeedlineError:
                raise
            except (OSError, self._arrow.ArrowException) as error:
                if getattr(error, "errno", None) is not None:
                    raise StorageError(f"{path} could not be read to its end ({error}): try again") from error
                raise DataError(f"{path} is damaged ({str(error).splitlines()[0]}): make it anew") from error
