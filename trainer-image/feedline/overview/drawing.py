"""The pictures of the page, as SVG: curves, and each training as a line through its parameters."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from feedline.manifest import Parameter
from feedline.overview.entry import Entry, Overview

_WIDTH, _HEIGHT = 920, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 34
_AXES_TOP = 34
_TICKS = 4
_OUTLIERS = 0.05
"""The share of points, the worst ones, that need not be seen whole: one that diverged would make all others flat."""

_MOST, _LEAST = 1e150, 1e-150
_WHOLE_FROM, _WHOLE_TO = 1e4, 1e15
"""Between these, a number is written out and not in powers of ten."""
_LEAST_SHARE = 1e-9
"""Numbers that differ by less than this share of theirs are drawn as equal."""

Scale = Callable[[float], float]


def curves(overview: Overview) -> str:
    """Return the objective over the rows trained on, a line for each training; "" where none told anything."""
    points = [point for entry in overview.entries for point in _finite(entry)]
    if not points:
        return ""
    most = max(rows for rows, _ in points) or 1
    values = sorted((value for _, value in points), reverse=overview.is_maximized)
    kept = values[: max(1, math.ceil(len(values) * (1 - _OUTLIERS)))]
    low, high = _range(kept)
    across = _between(0, most, _LEFT, _WIDTH - _RIGHT)
    up = _between(low, high, _HEIGHT - _BOTTOM, _TOP)
    parts = [_axis(across, up, (0, most), (low, high), overview.value)]
    # The best are drawn last, over the others.
    for number in reversed(range(len(overview.entries))):
        entry = overview.entries[number]
        line = _path((across(rows), min(max(up(value), 0), _HEIGHT - _BOTTOM + 4)) for rows, value in _finite(entry))
        if line:
            parts.append(_line(overview, number, line))
    return _svg(_HEIGHT, "Curves", parts)


def parallel(overview: Overview) -> str:
    """Return an axis for each parameter and one for the objective, and each training as a line through its values."""
    names = overview.parameters
    shown = [(number, entry) for number, entry in enumerate(overview.entries) if entry.value is not None]
    shown = [(number, entry) for number, entry in shown if math.isfinite(entry.value or 0.0)]
    if not names or len(shown) < 2:
        return ""
    columns = len(names)
    across = [_LEFT + (_WIDTH - _LEFT - 3 * _RIGHT - 40) * column / columns for column in range(columns + 1)]
    axes = [_parameter_axis(overview, name, [entry for _, entry in shown]) for name in names]
    axes.append(_number_axis([entry.value or 0.0 for _, entry in shown], is_log=False))
    parts = []
    for number, entry in reversed(shown):
        given = [_known(entry, name) for name in names]
        line = _path(
            (x, place(value))
            for x, (place, _), value in zip(across, axes, [*given, entry.value], strict=True)
            if value is not None
        )
        parts.append(_line(overview, number, line))
    for x, (_, ticks), name in zip(across, axes, [*names, overview.value], strict=True):
        parts.append(f'<line class="axis" x1="{x:.0f}" x2="{x:.0f}" y1="{_AXES_TOP}" y2="{_HEIGHT - _TOP}"/>')
        parts.append(f'<text class="name" x="{x:.0f}" y="16" text-anchor="middle">{escape(_cut(name))}</text>')
        parts += [
            f'<text class="tick" x="{x + 5:.0f}" y="{y + 4:.0f}">{escape(_cut(text))}</text>' for y, text in ticks
        ]
    return _svg(_HEIGHT, "Parameters", parts)


def bars(shares: dict[str, float]) -> str:
    """Return a bar for each share."""
    rows = [
        f"<tr><th>{escape(name)}</th><td>{share:.0%}</td>"
        f'<td><svg width="320" height="12"><rect class="bar" width="{320 * share:.0f}" height="12"/></svg></td></tr>'
        for name, share in shares.items()
    ]
    return f'<table class="bars">{"".join(rows)}</table>'


def number(value: float | None) -> str:
    """Return a number for people."""
    if value is None:
        return ""
    return f"{value:,.0f}" if _WHOLE_FROM <= abs(value) < _WHOLE_TO else f"{value:.5g}"


def text(value: Parameter | None) -> str:
    """Return a parameter for people; "" where a training has none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return number(value) if isinstance(value, float) else str(value)


def _known(entry: Entry, name: str) -> Parameter | None:
    """Return a parameter; None where it has none, or what is no number."""
    value = entry.parameters.get(name)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _finite(entry: Entry) -> list[tuple[int, float]]:
    return [(rows, _drawable(value)) for rows, value in entry.curve if math.isfinite(value)]


def _line(overview: Overview, place: int, path: str) -> str:
    entry = overview.entries[place]
    value = f": {overview.value} {number(entry.value)}" if entry.value is not None else ""
    told = escape(f"{entry.name}{value} ({entry.state.lower()})")
    kind = "best" if entry is overview.best else escape(entry.state.lower())
    return f'<path class="line {kind}" data-row="{place}" d="{path}"><title>{told}</title></path>'


def _path(points: Iterable[tuple[float, float]]) -> str:
    found = [f"{x:.0f} {y:.1f}" for x, y in points]
    return f"M{'L'.join(found if len(found) > 1 else [*found, *found])}" if found else ""


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _axis(across: Scale, up: Scale, rows: tuple[float, float], values: tuple[float, float], name: str) -> str:
    parts = [f'<text class="name" x="2" y="10">{escape(_cut(name))}</text>']
    for value in _ticks(*values):
        y = up(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{number(value)}</text>')
    for value in _ticks(*rows, least=1):
        told = f"{value:,.0f}"
        parts.append(
            f'<text class="tick" x="{across(value):.0f}" y="{_HEIGHT - 18}" text-anchor="middle">{told}</text>'
        )
    parts.append(f'<text class="name" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 3}" text-anchor="end">rows trained on</text>')
    return "".join(parts)


def _parameter_axis(
    overview: Overview, name: str, entries: Sequence[Entry]
) -> tuple[Callable[[Parameter], float], list[tuple[float, str]]]:
    given = [value for entry in entries if (value := _known(entry, name)) is not None]
    if given and all(isinstance(value, int | float) and not isinstance(value, bool) for value in given):
        return _number_axis([_drawable(value) for value in given], is_log=name in overview.logarithmic)
    # By what it is besides, since true and "true" are two.
    kinds = {(type(value), value): text(value) for value in given}
    each = (_HEIGHT - _TOP - _AXES_TOP) / max(len(kinds), 1)
    places = {kind: _AXES_TOP + each * (n + 0.5) for n, kind in enumerate(kinds)}
    return (lambda value: places[type(value), value]), [(places[kind], told) for kind, told in kinds.items()]


def _number_axis(
    values: Sequence[float], *, is_log: bool
) -> tuple[Callable[[Parameter], float], list[tuple[float, str]]]:
    drawable = [_drawable(value) for value in values]
    is_log = is_log and min(drawable) > _LEAST
    to_axis, from_axis = (math.log, math.exp) if is_log else (float, float)
    low, high = _range([to_axis(value) for value in drawable])
    place = _between(low, high, _HEIGHT - _TOP, _AXES_TOP)
    ticks = [(place(tick), number(from_axis(tick))) for tick in (low, (low + high) / 2, high)]
    return (lambda value: place(to_axis(_drawable(value)))), ticks


def _between(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _drawable(value: Parameter) -> float:
    """Return a number that can be reckoned with: of larger ones a difference would be infinite."""
    return float(min(max(value, -_MOST), _MOST))


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return from where to where an axis goes that has these values on it."""
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if high - low <= size * _LEAST_SHARE or high - low < _LEAST:
        return low - size * 0.1 - _LEAST, high + size * 0.1 + _LEAST
    return low, high


def _ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    step = max(10 ** math.floor(math.log10((high - low) / _TICKS)), least)
    step *= next(each for each in (1, 2, 5, 10) if each * step * (_TICKS + 1) >= high - low)
    return [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _cut(name: str) -> str:
    most = 18
    return name if len(name) <= most else name[: most - 1] + "…"
