"""YAML and JSON text as kubectl understands it.

The values are those that the API server would get: kubectl turns YAML 1.1 into JSON with Go's yaml.v2, in which
`1e-3` is a number, `yes` a boolean, a date a string, and `1.0` the integer 1. Nothing in a text, however hostile, costs
more than a bounded amount of time, memory and stack. This module knows nothing of what the documents mean.
"""

import copy
import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from feedline.errors import UsageError
from feedline.manifest.jsonvalues import MAX_DEPTH, MAX_NODES, MAX_TEXT_CHARACTERS, number, read_json

# PyYAML's composer recurses in C and ends the process on deep nesting, so only its parser, a flat stream of events, is
# used. libyaml is what Go's yaml.v2 was ported from, so the two agree on the syntax.
_PARSER: Final[Any] = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
_TAG: Final = "tag:yaml.org,2002:"
WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
}
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER: Final = re.compile(
    r"(?P<sign>[-+]?)(0[xX](?P<hex>[0-9a-fA-F]+)|0[bB](?P<bin>[01]+)|0[oO]?(?P<oct>[0-7]+)|(?P<dec>0|[1-9][0-9]*))"
)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BETWEEN_DIGITS: Final = re.compile(r"(?<=[0-9])_(?=[0-9])")
_BASES: Final = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "null": (type(None),),
}


def read_yaml(text: str, where: str) -> list[Any]:
    """Read all documents of a text, leaving out those that are empty.

    Parameters
    ----------
    text
        YAML or JSON.
    where
        The text's name in errors, such as its path.

    Returns
    -------
    list
        One value of dict, list, str, int, float, bool per document; floats are finite and have a fraction, or are
        beyond 64-bit integers.

    Raises
    ------
    UsageError
        The text is no YAML, gives a key twice, has a value that JSON cannot hold, or passes one of the bounds above.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise UsageError(f"{where}: {len(text)} characters; a manifest has at most {MAX_TEXT_CHARACTERS}")
    if text.lstrip().startswith("{"):
        # JSON is YAML, except for tabs and surrogate escapes; kubectl also tries JSON first.
        try:
            return [read_json(text, where)]
        except json.JSONDecodeError:
            pass
    try:
        return [document for document in _Builder(where).documents(text) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", "")
        raise UsageError(f"{where}: {line}not valid YAML: {problem}") from None
    except UnicodeEncodeError:
        raise UsageError(f"{where}: not valid text; save it as UTF-8") from None


def _plain_scalar(text: str) -> bool | int | float | str | None:
    """Give an unquoted scalar its type by the rules of yaml.v2's resolve.go."""
    if text in WORDS:
        return WORDS[text]
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    # yaml.v2 leaves a leading point to Go's own parser, which allows underscores between digits only.
    digits = _BETWEEN_DIGITS.sub("", text) if text[0] == "." else text.replace("_", "")
    if match := _INTEGER.fullmatch(digits):
        base = next(name for name in _BASES if match[name])
        value = int(match["sign"] + match[base], _BASES[base]) if len(digits) <= 70 else None
        if value is not None and -(2**63) <= value < (2**63 if match["sign"] else 2**64):
            return value
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        return number if math.isfinite(number) else text
    return text


class _Builder:
    """Values from the parser's events, without recursion deeper than MAX_DEPTH."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._left = MAX_NODES
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._events: Iterator[Any] = iter(())

    def documents(self, text: str) -> Iterator[Any]:
        self._events = yaml.parse(text, Loader=_PARSER)
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                yield self._value(next(self._events), 0)

    def _fail(self, event: Any, problem: str) -> UsageError:
        return UsageError(f"{self._where}: line {event.start_mark.line + 1}: {problem}")

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._spend(event, 1)
        if depth > MAX_DEPTH:
            raise self._fail(event, f"nested deeper than {MAX_DEPTH} levels")
        before = self._left
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = list(self._items(depth))
        else:
            value = self._mapping(depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, before - self._left + 1)
        return value

    def _spend(self, event: Any, nodes: int) -> None:
        self._left -= nodes
        if self._left < 0:
            raise self._fail(event, f"more than {MAX_NODES} values, aliases included")

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise self._fail(event, f"no anchor &{event.anchor} before *{event.anchor}")
        value, nodes = self._anchors[event.anchor]
        self._spend(event, nodes)
        return copy.deepcopy(value)

    def _items(self, depth: int) -> Iterator[Any]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._value(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        own: set[str] = set()
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                merged = self._merged(next(self._events), depth)
            else:
                key = self._key(event, depth)
                merged = {key: self._value(next(self._events), depth + 1)}
            # Behind a merge a key may be given again. Before it, kubectl would let the merge win, which nobody expects.
            if twice := own.intersection(merged):
                raise self._fail(event, f'"{min(twice)}" is given twice; keep one')
            if event.value != "<<":
                own.update(merged)
            result.update(merged)
        return result

    def _merged(self, event: Any, depth: int) -> dict[str, Any]:
        value = self._value(event, depth + 1)
        maps = value if isinstance(value, list) else [value]
        result: dict[str, Any] = {}
        for item in reversed(maps):
            if not isinstance(item, dict):
                raise self._fail(event, "<< needs a map, or a list of maps")
            result.update(item)
        return result

    def _key(self, event: Any, depth: int) -> str:
        key = self._value(event, depth + 1)
        if isinstance(key, bool):
            return "true" if key else "false"
        if isinstance(key, int):
            return str(key)
        if not isinstance(key, str):
            raise self._fail(event, "a key must be a string; put it in quotes")
        return key

    def _scalar(self, event: Any) -> Any:
        kind = (event.tag or "").removeprefix(_TAG)
        if kind in _KINDS:
            value = _plain_scalar(event.value)
            if not isinstance(value, _KINDS[kind]) or (kind != "bool" and isinstance(value, bool)):
                raise self._fail(event, f'"{event.value}" is no {kind}')
        elif kind == "binary":
            raise self._fail(event, "!!binary cannot be used; write the value in base64 without the tag")
        else:
            value = _plain_scalar(event.value) if event.tag is None and event.implicit[0] else event.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return number(value, f"{self._where}: line {event.start_mark.line + 1}")
        return value
