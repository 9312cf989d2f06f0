"""Text tables as record batches of text: pyarrow splits; this module knows files, lines and what is wrong with them.

Every cell comes as it stands; what is a number is decided elsewhere. However long the file, a block of it is in memory.
"""

import codecs
import csv
import errno
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
from pyarrow import csv as arrow_csv

from feedline.errors import DataError, FeedlineError, StorageError
from feedline.pack.dialect import SEPARATORS, Dialect, check_delimiter, has_header
from feedline.pack.source import opened

MAX_LINE: Final = 1 << 26
"""Bytes of a line. A longer one is no table, and would be held in memory as a whole."""
_BLOCK: Final = 1 << 20
_HEAD_BYTES: Final = 1 << 18
_HEAD_ROWS: Final = 200
_UNNAMED: Final = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
"""What pandas calls its row index where it has no name: nothing when it writes, a number when it reads that again."""
_CODECS: Final = {".gz": "gzip", ".zst": "zstd"}


class TextTables:
    """Text tables of the same columns.

    Parameters
    ----------
    paths
        The files.
    dialect
        How they are written.
    header
        Whether the first row of each names the columns. None: seen from the first rows of the first.

    Attributes
    ----------
    is_text, names, index, said
        As `feedline.pack.table.Tables` says.

    Raises
    ------
    InputMissingError
        A file is missing or may not be read.
    DataError
        The first file is empty, or separated by something else.
    UsageError
        Whether there is a header cannot be told.
    """

    is_text = True

    def __init__(self, paths: Sequence[Path], dialect: Dialect, header: bool | None) -> None:  # noqa: FBT001 - as the command line has it
        self._dialect = dialect
        self._delimiters = {path: dialect.delimiter_of(path.name) for path in paths}
        self._first = paths[0]
        self._in_utf8: dict[Path, Any] = {}  # temporary files, of those in another encoding
        self._line_bytes: dict[Path, int] = {}  # of the longest line at the begin of each file that was looked at
        rows = self._head(paths[0])
        width = len(rows[0])
        alike = [row for row in rows if len(row) == width]
        self.header = has_header(str(paths[0]), alike, dialect.decimal) if header is None else header
        self._width = width
        self.names = tuple(cell.strip() if self.header else "" for cell in rows[0])
        named = any(self.names[1:])
        self.index = {number for number, name in enumerate(self.names) if named and _UNNAMED.fullmatch(name)}
        if header is not None:
            self.said = ""
        elif self.header:
            self.said = "The first row names the columns; if it does not, say --no-header."
        else:
            self.said = "No row names the columns; if the first one does, say --header."

    def kinds(self, path: Path) -> tuple[Any, ...]:
        """Return the types of a file's columns."""
        del path
        return (pa.string(),) * self._width

    def size(self, path: Path) -> int:
        """Return a file's bytes."""
        return path.stat().st_size

    def batches(self, path: Path, wanted: Sequence[int], advance: Callable[[int], None]) -> Iterator[Any]:
        """Yield a file's rows as record batches of the columns `wanted`, in this order; `advance` gets bytes read.

        Raises
        ------
        DataError
            The file is broken, or its columns differ from the first file's.
        """
        if path not in self._line_bytes:
            self._check_header(self._head(path)[0], path)
        names = [str(index) for index in range(self._width)]
        # The header is read as a row: all cells are text.
        convert = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=[names[index] for index in (wanted or [0])],
            strings_can_be_null=False,
        )
        parse = arrow_csv.ParseOptions(delimiter=self._delimiters[path], newlines_in_values=True)
        read = arrow_csv.ReadOptions(use_threads=True, block_size=self._block(path), column_names=names)
        skip = int(self.header)
        with _file(path) as raw:
            try:
                with arrow_csv.open_csv(self._decoded(path, raw), read, parse, convert) as reader:
                    for batch in reader:
                        rows = batch.slice(min(skip, batch.num_rows))
                        skip -= batch.num_rows - rows.num_rows
                        advance(raw.tell())
                        yield rows
            except FeedlineError:
                raise
            except (pa.ArrowException, UnicodeError, OSError) as error:
                raise self._explained(path, error) from error

    def _block(self, path: Path) -> int:
        """Return the bytes that are read at a time, which no line may be longer than."""
        return min(MAX_LINE, max(_BLOCK, 8 * self._line_bytes[path]))

    def where(self, path: Path, row: int) -> str:
        """Return the place of a row, counted from 0, in words."""
        with self._text(path) as file:
            reader = self._reader(file, self._delimiters[path])
            record = row + int(self.header)
            next(islice((cells for cells in reader if cells), record, None), None)
            return f"{path}, line {reader.line_num}"

    def _head(self, path: Path) -> list[list[str]]:
        """Return the first rows, and see to it that what separates them is what does."""
        with self._text(path) as file:
            text = file.read(_HEAD_BYTES)
            while text and "\n" not in text and "\r" not in text and len(text) < MAX_LINE:
                more = file.read(_HEAD_BYTES)
                if not more:
                    break
                text += more
        lines = text.splitlines()
        if len(text) >= _HEAD_BYTES and len(lines) > 1:
            lines.pop()  # it may go on
        self._line_bytes[path] = max((len(line.encode()) for line in lines), default=0)
        if self._line_bytes[path] >= MAX_LINE:
            raise DataError(f"{path} has a line of more than {MAX_LINE:,} bytes: give a table with line ends")
        head = "\n".join(lines)
        chosen = self._delimiters[path]
        if self._dialect.delimiter is None:
            others = [mark for mark in SEPARATORS if mark == chosen or (lines and mark in lines[0])]
            rows_of = {mark: self._rows(path, head, mark, strict=False) for mark in others}
            check_delimiter(str(path), "".join(lines[:_HEAD_ROWS]), chosen, rows_of)
        rows = self._rows(path, head, chosen, strict=True)
        if not rows:
            raise DataError(f"{path} is empty: give a table with at least one row")
        return rows

    def _rows(self, path: Path, text: str, delimiter: str, *, strict: bool) -> list[list[str]]:
        reader = self._reader(io.StringIO(text, newline=""), delimiter, strict=strict)
        try:
            return list(islice((cells for cells in reader if cells), _HEAD_ROWS))
        except csv.Error as error:
            if not strict:
                return [[]]
            raise DataError(f"{path}, line {reader.line_num}: {error}: correct it") from error

    @staticmethod
    def _reader(file: IO[str], delimiter: str, *, strict: bool = True) -> Any:
        return csv.reader(file, delimiter=delimiter, strict=strict)

    def _check_header(self, cells: Sequence[str], path: Path) -> None:
        if self.header and tuple(cell.strip() for cell in cells) != self.names:
            raise DataError(f"{path}: its header differs from that of {self._first}: pack them apart")

    def _explained(self, path: Path, error: Exception) -> FeedlineError:  # noqa: PLR0911 - a list of what may be wrong
        """Return what is wrong with a file that pyarrow could not read, by a look at its lines."""
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "straddling" in told:
            return DataError(
                f"{path} has a line of more than {self._block(path):,} bytes, and none like it at its beginning: "
                "give a table with line ends"
            )
        if isinstance(error, UnicodeError) or "UTF8" in told or "codec" in told:
            return self._no_text(path)
        try:
            with self._text(path) as file:
                reader = self._reader(file, self._delimiters[path])
                for cells in reader:
                    if cells and len(cells) != self._width:
                        return DataError(
                            f"{path}, line {reader.line_num}: {len(cells)} columns where {self._width} are expected: "
                            "correct it"
                        )
        except FeedlineError as found:
            return found
        except csv.Error as found:
            return DataError(f"{path}, line {reader.line_num}: {found}: correct it")
        except (pa.ArrowException, UnicodeError, OSError):
            pass
        if path.suffix.lower() in _CODECS:
            return _not_packed(path, told)
        return DataError(f"{path} is no table that can be read ({told}): correct it")

    def _no_text(self, path: Path) -> DataError:
        return DataError(f"{path} is no {self._dialect.encoding} text: convert it, or say --encoding, such as latin-1")

    @contextmanager
    def _text(self, path: Path) -> Iterator[IO[str]]:
        """Open as text; whatever is wrong with the content is told in one sentence."""
        with _file(path) as raw:
            try:
                stream = io.BufferedReader(_Readable(self._decoded(path, raw)))
                with io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as file:
                    yield file
            except UnicodeError as error:
                raise self._no_text(path) from error
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, FeedlineError) or path.suffix.lower() not in _CODECS:
                    raise
                raise _not_packed(path, str(error).splitlines()[0]) from error

    def _decoded(self, path: Path, raw: Any) -> Any:
        """Return a file's text in UTF-8, as a stream of pyarrow's."""
        codec = _CODECS.get(path.suffix.lower())
        stream = raw if codec is None else pa.CompressedInputStream(raw, codec)
        if self._dialect.encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
            return stream
        if path not in self._in_utf8:
            self._in_utf8[path] = _written_in_utf8(path, stream, self._dialect.encoding)
        return pa.OSFile(self._in_utf8[path].name)


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    """Open a file as pyarrow's own, whose threads have no need of the interpreter to read it.

    They read ahead. Where one asks for an interpreter that is going down, as after an error, the process is aborted.
    """
    with opened(path), pa.OSFile(os.fsencode(path)) as raw:
        yield raw


def _written_in_utf8(path: Path, stream: Any, encoding: str) -> Any:
    """Return a temporary file with a text of another encoding in UTF-8: a decoder of Python's is none for threads."""
    decode = codecs.getincrementaldecoder(encoding)().decode
    try:
        file = tempfile.NamedTemporaryFile(prefix="feedline-")  # noqa: SIM115 - it is closed with the tables
        while data := stream.read(_BLOCK):
            file.write(decode(data).encode())
        file.write(decode(b"", final=True).encode())
        file.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        raise StorageError(
            f"{path} cannot be written in UTF-8 to {tempfile.gettempdir()} ({error.strerror}): "
            "make room there, or name another folder by TMPDIR"
        ) from error
    return file


def _not_packed(path: Path, told: str) -> DataError:
    return DataError(f"{path} is cut short or no {_CODECS[path.suffix.lower()]} file ({told}): make it anew")


class _Readable(io.RawIOBase):
    """A stream of pyarrow's as Python's own: its `read` may raise what `io` does not know."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
