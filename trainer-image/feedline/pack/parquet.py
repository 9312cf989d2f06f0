"""Parquet files as record batches of a few thousand rows; columns are known by their names, wherever they stand."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet

from feedline.errors import DataError, FeedlineError, StorageError
from feedline.pack.source import missing

_BATCH_ROWS: Final = 4096


class ParquetTables:
    """Parquet files of the same columns.

    Parameters
    ----------
    paths
        The files.

    Attributes
    ----------
    is_text, names, index, said
        As `feedline.pack.table.Tables` says.

    Raises
    ------
    InputMissingError
        A file is missing or may not be read.
    DataError
        A file is no Parquet, has two columns of one name, or others than the first.
    """

    is_text = False
    said = ""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._schemas: dict[Path, Any] = {}
        self._rows: dict[Path, int] = {}
        for path in paths:
            with self._reading(path) as file:
                self._schemas[path], self._rows[path] = file.schema_arrow, file.metadata.num_rows
        first = self._schemas[paths[0]]
        self.names: tuple[str, ...] = tuple(first.names)
        for path, schema in self._schemas.items():
            twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
            if twice:
                raise DataError(f"{path} has several columns named {twice[0]}: rename all but one")
            if set(schema.names) != set(self.names):
                raise DataError(f"{path}: its columns differ from those of {paths[0]}: pack them apart")
        self.index = {number for number, name in enumerate(self.names) if name in _row_index(first)}

    def kinds(self, path: Path) -> tuple[Any, ...]:
        """Return the types of a file's columns."""
        return tuple(self._schemas[path].field(name).type for name in self.names)

    def size(self, path: Path) -> int:
        """Return the number of rows, by the file's footer."""
        return self._rows[path]

    def batches(self, path: Path, wanted: Sequence[int], advance: Callable[[int], None]) -> Iterator[Any]:
        """Yield a file's rows as record batches of the columns `wanted`, in this order; `advance` gets rows read.

        Raises
        ------
        DataError
            The file is damaged.
        StorageError
            Reading it failed.
        """
        names = [self.names[index] for index in wanted]
        done = 0
        with self._reading(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                done += batch.num_rows
                advance(done)
                yield batch.select(names)

    def where(self, path: Path, row: int) -> str:
        """Return the place of a row, counted from 0, in words."""
        return f"{path}, row {row}"

    @staticmethod
    @contextmanager
    def _reading(path: Path) -> Iterator[Any]:
        try:
            # Without pre_buffer, which would hold a whole row group in memory.
            file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (OSError, pa.ArrowException) as error:
            if getattr(error, "errno", None) is not None:  # the system's word, not pyarrow's about the content
                raise missing(path, error) from error
            raise DataError(f"{path} is no Parquet file, or cut short: make it anew") from error
        with file:
            try:
                yield file
            except FeedlineError:
                raise
            except (OSError, pa.ArrowException) as error:
                if getattr(error, "errno", None) is not None:
                    raise StorageError(f"{path} could not be read to its end ({error}): try again") from error
                raise DataError(f"{path} is damaged ({str(error).splitlines()[0]}): make it anew") from error


def _row_index(schema: Any) -> set[str]:
    """Return the columns that pandas wrote for a frame's row index, which is no column of the frame."""
    told = {name for name in schema.names if name.startswith("__index_level_")}
    try:
        pandas = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        told |= {name for name in pandas.get("index_columns", []) if isinstance(name, str)}
    except (ValueError, AttributeError, TypeError):
        pass  # others may write there what they like
    return told
