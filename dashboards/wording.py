"""Values in the words of their unit, as Grafana has them."""

from collections.abc import Callable
from datetime import UTC, datetime
from math import isnan
from typing import Final

_SI: Final = ("", " K", " M", " G", " T")
_BYTES: Final = (" B", " KiB", " MiB", " GiB", " TiB")
_RATE: Final = (" B/s", " kB/s", " MB/s", " GB/s", " TB/s")
_PERIODS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def worded(value: float, unit: str, now: float = 0.0) -> str:
    """Return a value as text; `now` is what a time that lies back is told from, in Unix seconds."""
    if isnan(value):
        return "NaN"
    if unit == "dateTimeFromNow":
        return f"{_seconds(now - value / 1000)} ago"
    return _UNITS[unit](value)


def _scaled(value: float, base: float, suffixes: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base and power < len(suffixes) - 1:
        value, power = value / base, power + 1
    return f"{value:.3g}{suffixes[power]}" if abs(value) < 1000 else f"{value:.0f}{suffixes[power]}"


def _seconds(value: float) -> str:
    for size, name in _PERIODS:
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    if value and abs(value) < 1e-3:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1e3:.3g} ms" if value and abs(value) < 1 else f"{value:.3g} s"


def _moment(value: float) -> str:
    return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


_UNITS: Final[dict[str, Callable[[float], str]]] = {
    "none": "{:g}".format,
    "short": lambda value: _scaled(value, 1000, _SI),
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "s": _seconds,
    "dtdurations": _seconds,
    "h": lambda value: f"{value:.3g} h",
    "bytes": lambda value: _scaled(value, 1024, _BYTES),
    "Bps": lambda value: _scaled(value, 1000, _RATE),
    "rowsps": lambda value: f"{_scaled(value, 1000, _SI)} rows/s",
    "cps": lambda value: f"{_scaled(value, 1000, _SI)} /s",
    "ops": lambda value: f"{_scaled(value, 1000, _SI)} /s",
    "reqps": lambda value: f"{_scaled(value, 1000, _SI)} /s",
    "dateTimeAsSystem": _moment,
}
