"""Text as numbers, many cells at a time: exactly those that are written as such, in ASCII digits, and nothing else.

Python's `int` and `float` also take `1_2` and digits of other scripts; pyarrow's parser takes `0x10` and makes 1e400
infinite. This module knows cells only; who calls it adds the place.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy import typing as npt
from pyarrow import compute as pc

from feedline.pack.dialect import number_pattern

_NOT_FINITE: Final = r"(?i)^[+-]?(nan|inf|infinity)$"
_ZERO: Final = re.compile(r"[+-]?[0.]+([eE].*)?")
_EXACT: Final = 2.0**53


class BadCellError(ValueError):
    """A cell that cannot be taken: its index, and what is wrong with it; the sentence goes on after the place."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(what)
        self.index = index


@dataclass(frozen=True)
class Numbers:
    """Numbers that were text.

    Attributes
    ----------
    values
        ``[k]`` float64.
    exact
        By index, those integers that a float64 does not hold.
    """

    values: npt.NDArray[np.float64]
    exact: dict[int, int] = field(default_factory=dict)

    def as_array(self) -> npt.NDArray[Any]:
        """Return all numbers exactly: float64, or integers of 64 bits where some need that and all are whole."""
        if not self.exact:
            return self.values
        low, high = min(self.exact.values()), max(self.exact.values())
        kind = np.int64 if low >= -(2**63) and high < 2**63 else np.uint64 if low >= 0 and high < 2**64 else None
        if (
            kind is None
            or not (self.values == np.rint(self.values)).all()
            or (kind is np.uint64 and self.values.min() < 0)
        ):
            index, value = next(iter(self.exact.items()))
            raise BadCellError(
                index, f"{value} has more digits than a float64 holds beside the other numbers: correct it"
            )
        whole = np.where(np.abs(self.values) < _EXACT, self.values, 0).astype(kind)
        large = np.flatnonzero(np.abs(self.values) >= _EXACT)
        for index in large.tolist():
            whole[index] = self.exact.get(index, int(self.values[index]))
        return whole


def trimmed(texts: Any) -> Any:
    """Return cells without what is blank around them."""
    return pc.utf8_trim_whitespace(texts)


def are_numbers(texts: Any, decimal: str) -> npt.NDArray[np.bool_]:
    """Return for each trimmed cell whether it is written as a finite number."""
    told: npt.NDArray[np.bool_] = pc.match_substring_regex(texts, number_pattern(decimal)).to_numpy(
        zero_copy_only=False
    )
    return told


def numbers(texts: Any, decimal: str = ".", null: tuple[str, ...] = ()) -> Numbers:
    """Return cells as numbers.

    Parameters
    ----------
    texts
        ``[k]`` strings, a pyarrow array.
    decimal
        What stands before a fraction.
    null
        Texts that stand for no number, which becomes NaN.

    Raises
    ------
    BadCellError
        A cell is no number, or one that no type holds.
    """
    values = None
    if decimal == "." and not null:
        values = _cast(texts)
    if values is None:
        texts = trimmed(texts)
        if null:
            texts = pc.if_else(pc.is_in(texts, pa.array(list(null), pa.string())), "nan", texts)
        values = _cast(texts) if decimal == "." else _cast_comma(texts)
    if values is None:
        raise _bad(texts, decimal)
    exact: dict[int, int] = {}
    if not np.abs(values).max(initial=0.0) < _EXACT:  # NaN among them, too
        _check_finite(values, texts)
        for index in np.flatnonzero((np.abs(values) >= _EXACT) & np.isfinite(values)).tolist():
            text = texts[index].as_py().strip()
            if re.fullmatch(r"[+-]?[0-9]+", text) and (whole := int(text)) != int(values[index]):
                exact[index] = whole
    if not values.all():
        _check_zeros(values, texts)
    return Numbers(values, exact)


def _cast(texts: Any) -> npt.NDArray[np.float64] | None:
    try:
        values: npt.NDArray[np.float64] = pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        return None
    return values


def _cast_comma(texts: Any) -> npt.NDArray[np.float64] | None:
    if pc.any(pc.match_substring(texts, ".")).as_py():
        return None
    return _cast(pc.replace_substring(texts, ",", "."))


def _check_finite(values: npt.NDArray[np.float64], texts: Any) -> None:
    """Refuse what is finite as text, and infinite as a float64."""
    for index in np.flatnonzero(np.isinf(values)).tolist():
        text = texts[index].as_py().strip()
        if "i" not in text.lower():
            raise BadCellError(index, f"{text} does not fit float64, and no type on offer holds it: correct it")


def _check_zeros(values: npt.NDArray[np.float64], texts: Any) -> None:
    """Refuse what is not 0 as text, and is as a float64; nothing shorter than 1e-324 becomes 0."""
    long = (values == 0) & (pc.binary_length(texts).to_numpy(zero_copy_only=False) >= 6)
    for index in np.flatnonzero(long).tolist():
        text = texts[index].as_py().strip()
        if not _ZERO.fullmatch(text.replace(",", ".")):
            raise BadCellError(index, f"{text} becomes 0 as a float64, and no type on offer holds it: correct it")


def _bad(texts: Any, decimal: str) -> BadCellError:
    """Return the error for the first cell that is no number."""
    fine = are_numbers(texts, decimal) | pc.match_substring_regex(texts, _NOT_FINITE).to_numpy(zero_copy_only=False)
    index = int(np.argmin(fine))
    text = texts[index].as_py()
    if not text:
        return BadCellError(
            index, "the cell is empty: fill it, leave the column out with --drop, or say --null '' for NaN"
        )
    shown = text if len(text) <= 40 else text[:40] + "…"
    hint = ""
    if decimal == "." and re.fullmatch(r"[+-]?[0-9]+,[0-9]+", text):
        hint = ", or say --decimal ,"
    elif decimal == "," and "." in text:
        hint = ", or leave out --decimal ,"
    return BadCellError(
        index,
        f"{shown!r} is no number: correct it, leave the column out with --drop, "
        f"or say --null {shown!r} if it stands for none{hint}",
    )
