"""How a text table is written: what separates its columns, whether its first row names them. Pure: it sees rows only.

What the rows do not settle is asked for: a wrong guess would lose a row, or make one of the columns' names.
"""

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from feedline.errors import DataError, UsageError, printable

SEPARATORS: Final = {",": "','", ";": "';'", "\t": "tab", "|": "'|'", " ": "space"}
"""What separates the columns of tables that people have, and how it is said."""
MISSING: Final = frozenset(
    {"", "?", "-", "--", ".", "..", "na", "nan", "null", "nil", "none", "nul", "missing", "unknown", "inf", "infinity"}
)
"""What stands for a missing number in tables, without what is around it, as in ``#N/A`` and ``<NA>``."""
_AROUND: Final = str.maketrans("", "", "#<>()[]/\\*'\" ")
_ON_A_LINE: Final = {"\t": "tab", " ": "space", ",": ","}
_WORDS: Final = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|"}


@dataclass(frozen=True)
class Dialect:
    """What the user says about how text tables are written.

    Attributes
    ----------
    delimiter
        One ASCII character, or ``tab``, ``space``, ``comma``, ``semicolon``, ``pipe``. None: a tab in ``.tsv``, else
        a comma.
    decimal
        What stands before a number's fraction: ``.`` or ``,``.
    null
        Cells with one of these texts have no number; they become NaN. By default each is an error.
    encoding
        One that Python knows.
    """

    delimiter: str | None = None
    decimal: str = "."
    null: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            mark = _WORDS.get(self.delimiter, self.delimiter)
            if len(mark) != 1 or not mark.isascii() or mark.isalnum() or mark in '"\n\r.+-\0':
                raise UsageError(
                    f"--delimiter {self.delimiter!r} cannot separate columns: give one character, such as ';' or tab"
                )
            object.__setattr__(self, "delimiter", mark)
        if self.decimal not in (".", ","):
            raise UsageError(f"--decimal {self.decimal!r}: give . or , as what stands before a fraction")
        if self.decimal == "," and self.delimiter in (None, ","):
            raise UsageError("--decimal , needs another --delimiter, such as ';': a comma cannot be both")
        try:
            is_text = "".encode(self.encoding) is not None and codecs.lookup(self.encoding).name
        except (LookupError, UnicodeError, ValueError):
            is_text = ""
        if not is_text:
            raise UsageError(f"--encoding {self.encoding!r} is not known: give one such as utf-8, latin-1 or utf-16")

    def given(self) -> dict[str, bool]:
        """Return by option whether it says something."""
        return {
            "--delimiter": self.delimiter is not None,
            "--decimal": self.decimal != ".",
            "--null": bool(self.null),
            "--encoding": self.encoding != "utf-8",
        }

    def delimiter_of(self, name: str) -> str:
        """Return what separates the columns of a file of this name."""
        return self.delimiter or ("\t" if ".tsv" in name.lower() else ",")


def number_pattern(decimal: str = ".") -> str:
    """Return what a number looks like, as a regular expression for a whole cell; digits are those of ASCII."""
    mark = re.escape(decimal)
    return rf"^[+-]?([0-9]+{mark}?[0-9]*|{mark}[0-9]+)([eE][+-]?[0-9]+)?$"


def check_delimiter(name: str, text: str, chosen: str, rows_of: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Refuse a separator that nobody named where another one separates as well, or alone.

    Parameters
    ----------
    name
        The file's name, for the message.
    text
        Its first lines.
    chosen
        What would separate.
    rows_of
        The first rows by separator, for those of `SEPARATORS` that the first line has.

    Raises
    ------
    DataError
        Another one cuts every row into the same number of columns.
    """
    chosen_widths = {len(row) for row in rows_of[chosen]}
    for other, rows in rows_of.items():
        widths = {len(row) for row in rows}
        # Text with spaces in it is everywhere; only where nothing else separates, they do.
        alone = chosen_widths == {1} or other != " "
        if other != chosen and alone and len(widths) == 1 and widths != {1}:
            decimal = ", and --decimal , for numbers such as 5,1" if chosen == "," and "," in text else ""
            raise DataError(
                f"{name}: what separates its columns may be {SEPARATORS[other]}, every row has {widths.pop()} columns "
                f"then: say --delimiter {_ON_A_LINE.get(other, SEPARATORS[other])}{decimal}; "
                f"or --delimiter {_ON_A_LINE.get(chosen, SEPARATORS[chosen])} if it is not"
            )


def has_header(name: str, rows: Sequence[Sequence[str]], decimal: str = ".") -> bool:
    """Return whether the first row names the columns.

    It does where all its cells are words, and there are numbers below. It does not where all its cells
    are numbers, unless they count up; nor where those over numbers are, and what stands over words comes again below or
    is beside a fraction.

    Parameters
    ----------
    name
        The file's name, for the message.
    rows
        The first rows of the table, all of one width.
    decimal
        What stands before a fraction.

    Raises
    ------
    UsageError
        The rows do not settle it.
    """
    pattern = re.compile(number_pattern(decimal))
    first, below = [cell.strip() for cell in rows[0]], rows[1:]
    numbers = [bool(pattern.match(cell)) for cell in first]
    names = [_is_name(cell) for cell in first]
    # pandas leaves the name of its row index away.
    all_named = all(
        named or (number == 0 and cell == "") for number, (named, cell) in enumerate(zip(names, first, strict=True))
    )
    if not below:
        if all_named and any(names):
            return True
        if all(number or _is_missing(cell) for number, cell in zip(numbers, first, strict=True)):
            return False
    columns = [[row[index].strip() for row in below if index < len(row)] for index in range(len(first))]
    numeric = [_is_numeric(cells, pattern) for cells in columns]
    if all_named and any(pattern.match(cell) for cells in columns for cell in cells):
        return True
    over_numbers = [number for number, is_number in zip(numbers, numeric, strict=True) if is_number]
    texts = [index for index, is_number in enumerate(numeric) if not is_number]
    if all(numbers):
        if not _counts(first, below, 2 if texts and below else 3):
            return False
    elif all(over_numbers) and (over_numbers or not below):
        comes_again = any(first[index] in columns[index] for index in texts)
        has_fraction = any(number and not cell.isdecimal() for cell, number in zip(first, numbers, strict=True))
        if comes_again or has_fraction:
            return False
    shown = printable(",".join(first if len(first) <= 6 else [*first[:6], "…"]))
    raise UsageError(
        f"{name}: whether its first row ({shown}) names the columns cannot be told from the data: "
        "say --header if it does, --no-header if it is a row like the others"
    )


def _is_name(cell: str) -> bool:
    """Tell a word from a number, from what stands for a missing one, and from a number with something to it (12 %)."""
    bare = cell.translate(_AROUND)
    return bool(bare) and not _is_missing(cell) and (bare[0].isalpha() or bare[0] == "_")


def _is_missing(cell: str) -> bool:
    return cell.translate(_AROUND).lower() in MISSING


def _is_numeric(cells: Sequence[str], pattern: re.Pattern[str]) -> bool:
    others = [cell for cell in cells if not pattern.match(cell)]
    return len(others) < len(cells) and all(map(_is_missing, others))


def _counts(first: Sequence[str], below: Sequence[Sequence[str]], least: int) -> bool:
    """Tell whether a row of numbers may be names: 0, 1, 2, as pandas numbers columns, or years, and others are not."""
    if len(first) < least or not all(cell.isdecimal() for cell in first):
        return False
    start, steps = int(first[0]), range(len(first))
    if [int(cell) for cell in first] != [start + step for step in steps] or not (start == 0 or 1900 <= start <= 2100):
        return False
    # Where the next row goes on like that, they are data.
    follows = [cell.strip() for cell in below[0]] if below else []
    return not follows or not follows[0].isdecimal() or follows != [str(int(follows[0]) + step) for step in steps]
