"""JSON's own values, as the API server keeps them: keys once, numbers finite, nothing too deep and not too many."""

import json
import math
from typing import Any, Final

from feedline.errors import UsageError

MAX_TEXT_CHARACTERS: Final = 1024 * 1024
MAX_NODES: Final = 100_000
"""Values in one text, counted after aliases are replaced by what they stand for."""
MAX_DEPTH: Final = 100


def read_json(text: str, where: str) -> Any:
    """Read one JSON value, as the API server does.

    Raises
    ------
    UsageError
        A key is given twice, a number is not finite, or the nesting is too deep.
    json.JSONDecodeError
        The text is no JSON.
    """

    def no_constant(name: str) -> None:
        raise UsageError(f"{where}: {name} is no JSON number; write a finite one")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise UsageError(f'{where}: "{key}" is given twice; keep one')
            result[key] = value
        return result

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant, parse_int=_json_integer)
    except RecursionError:
        raise UsageError(f"{where}: nested deeper than {MAX_DEPTH} levels") from None
    return plain(value, where)


def plain(value: Any, where: str) -> Any:
    """Copy a value down to JSON's own types, with numbers as the API server keeps them.

    Raises
    ------
    UsageError
        There is something that JSON cannot hold, or too much of it.
    """
    left = MAX_NODES

    def copied(item: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise UsageError(f"{where}: more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise UsageError(f"{where}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(item, dict):
            return {_json_key(key, where): copied(member, depth + 1) for key, member in item.items()}
        if isinstance(item, list | tuple):
            return [copied(member, depth + 1) for member in item]
        return _json_scalar(item, where)

    return copied(value, 0)


def _json_key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise UsageError(f"{where}: the key {key!r} is no string; put it in quotes")
    return _utf8(key, where)


def _json_scalar(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _utf8(value, where)
    if isinstance(value, int | float):
        return number(value, where)
    raise UsageError(f"{where}: a {type(value).__name__} is no JSON value; use a string, a number, a list or a map")


def _utf8(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {text!r} is no valid text; save it as UTF-8") from None
    return text


def _json_integer(digits: str) -> int | float:
    # Python refuses to read integers of thousands of digits, quadratic work; the API server makes such numbers floats.
    return int(digits) if len(digits.lstrip("-")) <= 19 else float(digits)


def number(value: float, where: str) -> int | float:
    """Go writes 1.0 as 1, and reads an integer beyond 64 bits as a float."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UsageError(f"{where}: {value} is not a finite number; write a finite one")
        return int(value) if value.is_integer() and -(2.0**63) <= value < 2.0**63 else value
    if -(2**63) <= value < 2**63:
        return value
    try:
        return float(value)
    except OverflowError:
        raise UsageError(f"{where}: an integer of {value.bit_length()} bits is not a finite number") from None
