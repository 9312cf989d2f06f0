"""Text and reports from a pod, as input from a stranger: bounded, finite, printable, and of the report's fields alone.

Whatever a pod writes, the result fits the pipeline's status, so that no pod can keep its pipeline's status from being
written, nor put control characters on somebody's terminal.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, get_type_hints

from feedline.contract import (
    MAX_CURVE_POINTS,
    MAX_REPORT_VALUES,
    CheckpointReport,
    ObjectiveReport,
    Percentiles,
    RanksReport,
    Report,
    Verdict,
)

MAX_REPORT_BYTES: Final = 16 * 1024
"""More than a report has (a termination message ends at 4,096 bytes), and little enough to read at once."""
MAX_MESSAGE_CHARACTERS: Final = 1024
_MAX_INTEGER: Final = 2**63 - 1
# As in the CRD, which would refuse the whole status for one field beyond them.
_MAX_INTEGERS: Final = {
    "exitCode": 255,
    **dict.fromkeys(("waitPermille", "othersPermille", "transformPermille"), 1000),
    "everySeconds": 2**31 - 1,
}
_TIMES: Final = frozenset({"observedTime", "time", "failingSince"})
_NUMBERS: Final = frozenset({"value", "best"})
_MAX_CHARACTERS: Final = {
    "pipeline": 63,
    "backend": 16,
    "engine": 16,
    "gather": 16,
    "reason": 64,
    "message": 1024,
    "cause": 32,
    "node": 253,
}
# At most 64 characters, as in the CRD.
_NUMBER: Final = re.compile(r"(?ai:nan|[+-]?inf(inity)?|[+-]?\d{1,28}(\.\d{0,28})?(e[+-]?\d{1,4})?)")
_STEP: Final = re.compile(r"[0-9]{1,19}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")


def clean(text: str, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    """Return `text` on one line, without control characters, cut to `limit` characters."""
    printable = "".join(
        " " if unicodedata.category(character)[0] == "C" else character for character in text[: 4 * limit]
    )
    line = " ".join(printable.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def word(text: Any, default: str) -> str:
    """Return `text` if it can be the reason of a condition, else `default`."""
    return text if isinstance(text, str) and _WORD.fullmatch(text) else default


def last_line(text: str) -> str:
    """Return the last line that says something, cleaned: of a log's end, that is the error."""
    lines = [line for line in text[-MAX_REPORT_BYTES:].splitlines() if line.strip()]
    return clean(lines[-1]) if lines else ""


def parse_report(text: str | bytes) -> dict[str, Any] | None:
    """Return the report in a termination message or in the answer of `/feed`.

    Fields that are unknown, of another type or out of bounds are left out.

    Returns
    -------
    dict or None
        None where the text is no JSON object, or too long to be one of ours.
    """
    if len(text) > MAX_REPORT_BYTES:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return _record(document, Report) if isinstance(document, dict) else None


def _record(document: Mapping[str, Any], fields: type) -> dict[str, Any]:
    result = {}
    for name, kind in get_type_hints(fields).items():
        value = _READERS[kind](name, document.get(name))
        if value is not None:
            result[name] = value
    return result


def _integer(name: str, value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_INTEGERS.get(name, _MAX_INTEGER) else None


def _string(name: str, value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    if name in _TIMES:
        return _time(value)
    if name in _NUMBERS:
        return value if _NUMBER.fullmatch(value) else None
    return clean(value, _MAX_CHARACTERS.get(name, MAX_MESSAGE_CHARACTERS))


def _time(value: str) -> str | None:
    try:
        time = datetime.fromisoformat(value[:40])
        # Its offset may have seconds, which the API server does not take.
        return None if time.tzinfo is None else time.astimezone(UTC).isoformat(timespec="seconds")[:19] + "Z"
    except (ValueError, OverflowError):
        return None


def _truth(_: str, value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _nested(fields: type) -> Callable[[str, Any], dict[str, Any] | None]:
    return lambda _, value: (_record(value, fields) or None) if isinstance(value, dict) else None


def _values(_: str, value: Any) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    kept = {
        name: number
        for name, number in value.items()
        if _NAME.fullmatch(name) and isinstance(number, str) and _NUMBER.fullmatch(number)
    }
    return dict(list(kept.items())[:MAX_REPORT_VALUES]) or None


def _curve(_: str, value: Any) -> list[str] | None:
    if not isinstance(value, list):
        return None
    return [point for point in value[:MAX_CURVE_POINTS] if isinstance(point, str) and _is_point(point)] or None


def _is_point(point: str) -> bool:
    step, _, value = point[:128].partition(":")
    return bool(_STEP.fullmatch(step)) and bool(_NUMBER.fullmatch(value))


_READERS: Final[dict[Any, Callable[[str, Any], Any]]] = {
    int: _integer,
    str: _string,
    bool: _truth,
    Percentiles: _nested(Percentiles),
    Verdict: _nested(Verdict),
    CheckpointReport: _nested(CheckpointReport),
    ObjectiveReport: _nested(ObjectiveReport),
    RanksReport: _nested(RanksReport),
    list[str]: _curve,
    dict[str, str]: _values,
}
