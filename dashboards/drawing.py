"""How `pictures.py` draws one panel's answers: each kind of panel onto an area of a figure.

It knows nothing of Prometheus: it gets series as they were answered, and the panel as it stands in the JSON.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from itertools import pairwise
from math import isnan, log2, nan
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import MultipleLocator
from wording import worded

Panel = dict[str, Any]
Row = dict[str, str | float]

COLORS: Final = {
    "green": "#56a64b",
    "orange": "#ff9830",
    "red": "#e02f44",
    "blue": "#3274d9",
    "yellow": "#f2cc0c",
    "purple": "#8f3bb8",
    "text": "#8e8e8e",
}
_PALETTE: Final = ("#3274d9", "#ff9830", "#56a64b", "#8f3bb8", "#e02f44", "#17a2b8", "#b8860b", "#8e8e8e")
_SMALL: Final = 6.5
_LETTER_INCHES: Final = 0.052
_MOST_LEGENDS: Final = 8
_MOST_ROWS: Final = 12


@dataclass(frozen=True)
class Series:
    """One series of an answer: its name by the legend, its labels, its points, and the query it answers."""

    name: str
    labels: dict[str, str]
    times: list[float]
    values: list[float]
    query: str

    @property
    def last(self) -> float:
        """The last value that is a number."""
        return next((value for value in reversed(self.values) if not isnan(value)), nan)


def draw(axes: Axes, panel: Panel, answers: Sequence[Series], span: tuple[float, float]) -> None:
    """Draw a panel's answers; where there are none, what the panel says then."""
    if not answers:
        axes.set_axis_off()
        text = panel["fieldConfig"]["defaults"]["noValue"]
        axes.text(0.5, 0.5, text, ha="center", va="center", color="#8e8e8e", fontsize=8, wrap=True)
        return
    _KINDS[panel["type"]](axes, panel, answers, span)


def _number(axes: Axes, panel: Panel, answers: Sequence[Series], _: tuple[float, float]) -> None:
    axes.set_axis_off()
    named = panel["options"]["textMode"] == "name"
    filled = panel["options"]["colorMode"] == "background"
    for index, series in enumerate(answers):
        color = _color(panel, series.name) or COLORS[_step(_defaults(panel), series.last)]
        left, width = index / len(answers), 1 / len(answers)
        if filled:
            axes.axvspan(left, left + width, color=color)
        text = series.name if named else worded(series.last, _defaults(panel)["unit"])
        size = min(22.0, 230.0 * width / max(len(text), 4))
        ink = "white" if filled else color
        axes.text(left + width / 2, 0.5, text, ha="center", va="center", fontsize=size, color=ink, weight="bold")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


def _curves(axes: Axes, panel: Panel, answers: Sequence[Series], span: tuple[float, float]) -> None:
    custom, unit = _defaults(panel)["custom"], _defaults(panel)["unit"]
    colors = [_color(panel, one.name) or _PALETTE[index % len(_PALETTE)] for index, one in enumerate(answers)]
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    if stacked:
        moments = sorted({time for one in answers for time in one.times})
        rows = [_along(one, moments) for one in answers]
        if custom.get("drawStyle") == "bars":
            width = min((b - a for a, b in pairwise(moments)), default=60.0) / 86400
            base = [0.0] * len(moments)
            for one, row, color in zip(answers, rows, colors, strict=True):
                axes.bar(_dates(moments), row, width, bottom=base, color=color, label=one.name)
                base = [below + value for below, value in zip(base, row, strict=True)]
        else:
            axes.stackplot(_dates(moments), *rows, colors=colors, alpha=0.6, labels=[one.name for one in answers])
    else:
        for one, color in zip(answers, colors, strict=True):
            times, values = _with_gaps(one)
            lone = len(values) == 1
            axes.plot(_dates(times), values, color=color, lw=1.1, label=one.name, marker="o" if lone else None)
    if "thresholdsStyle" in custom:
        for step in _defaults(panel)["thresholds"]["steps"][1:]:
            axes.axhline(step["value"], color=COLORS[step["color"]], lw=0.8, ls="--")
    if not any(value for one in answers for value in one.values):
        axes.set_ylim(0, 1)
    lowest, highest = axes.get_ylim()
    axes.set_ylim(min(0.0, lowest), min(highest, _defaults(panel).get("max", highest)))
    _time_axis(axes, span)
    if unit == "bytes" and axes.get_ylim()[1] > 1:
        axes.yaxis.set_major_locator(MultipleLocator(2.0 ** round(log2(axes.get_ylim()[1] / 4))))
    axes.yaxis.set_major_formatter(lambda value, _: worded(value, unit))
    axes.grid(axis="y", color="#e5e5e5", lw=0.6)
    _legend(axes, len(answers))


def _ranking(axes: Axes, panel: Panel, answers: Sequence[Series], _: tuple[float, float]) -> None:
    ordered = list(reversed(answers))
    colors = [_color(panel, one.name) or COLORS[_step(_defaults(panel), one.last)] for one in ordered]
    bars = axes.barh(range(len(ordered)), [one.last for one in ordered], color=colors, height=0.7)
    texts = [worded(one.last, _defaults(panel)["unit"]) for one in ordered]
    axes.bar_label(bars, texts, padding=3, fontsize=_SMALL + 0.5)
    axes.set_yticks(range(len(ordered)), [one.name for one in ordered])
    axes.set_ylim(-0.6, max(len(ordered), 4) - 0.4)
    axes.margins(x=0.35)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(labelsize=_SMALL, length=0)


def _heat(axes: Axes, panel: Panel, answers: Sequence[Series], span: tuple[float, float]) -> None:
    ordered = sorted(answers, key=lambda one: float(one.labels["le"]))
    moments = sorted({time for one in ordered for time in one.times})
    counts = [_along(one, moments) for one in ordered]
    grown = [[max(a - b, 0.0) for a, b in zip(row, below, strict=True)] for below, row in pairwise(counts)]
    cells = [counts[0], *grown]
    while len(cells) > 1 and not any(cells[-1]):
        cells.pop()
    while len(cells) > 1 and not any(cells[0]):
        cells.pop(0)
        ordered = ordered[1:]
    edges = [one.labels["le"] for one in ordered[: len(cells)]]
    shown = [[value**0.5 if value else nan for value in row] for row in cells]
    axes.pcolormesh(_dates(moments), range(len(cells)), shown, cmap="Blues", shading="nearest", vmin=0)
    axes.set_yticks(range(len(edges)), [f"≤ {worded(float(edge), _defaults(panel)['unit'])}" for edge in edges])
    _time_axis(axes, span)


def _lanes(axes: Axes, panel: Panel, answers: Sequence[Series], span: tuple[float, float]) -> None:
    meanings = _defaults(panel)["mappings"][0]["options"]
    for lane, one in enumerate(reversed(answers)):
        gap = min((b - a for a, b in pairwise(one.times)), default=60.0)
        known = ((time, value) for time, value in zip(one.times, one.values, strict=True) if not isnan(value))
        for time, value in known:
            axes.barh(
                lane,
                1.05 * gap / 86400,
                left=_dates([time])[0],
                color=COLORS[meanings[f"{value:.0f}"]["color"]],
                height=0.8,
            )
    axes.set_yticks(range(len(answers)), [one.name for one in reversed(answers)])
    axes.set_ylim(-0.6, max(len(answers), 5) - 0.4)
    _time_axis(axes, span)
    for meaning in meanings.values():
        axes.barh(0, 0, color=COLORS[meaning["color"]], label=meaning["text"])
    _legend(axes, len(meanings))


def _table(axes: Axes, panel: Panel, answers: Sequence[Series], span: tuple[float, float]) -> None:
    axes.set_axis_off()
    layout = panel["transformations"][1]["options"]
    fields = [field for field in layout["indexByName"] if not layout["excludeByName"].get(field)]
    titles = {field: layout["renameByName"].get(field, field) for field in fields}
    overrides = panel["fieldConfig"]["overrides"]
    looks = {one["matcher"]["options"]: {p["id"]: p["value"] for p in one["properties"]} for one in overrides}
    newest = next(field for field in fields if titles[field] == panel["options"]["sortBy"][0]["displayName"])
    rows = sorted(_merged(answers), key=lambda row: float(row.get(newest, 0)), reverse=True)[:_MOST_ROWS]

    def text(row: Row, field: str) -> str:
        value, unit = row.get(field, ""), looks.get(titles[field], {}).get("unit", "none")
        return worded(value, unit, span[1]) if isinstance(value, float) else value

    def ink(row: Row, field: str) -> str:
        value, look = row.get(field, ""), looks.get(titles[field], {})
        return COLORS[_step(look, value)] if isinstance(value, float) and "thresholds" in look else "black"

    texts = [[text(row, field) for field in fields] for row in rows]
    letters = [2 + max(map(len, column)) for column in zip(titles.values(), *texts, strict=True)]
    widths = [count / sum(letters) for count in letters]
    table = axes.table(
        texts, colLabels=list(titles.values()), colWidths=widths, loc="upper center", cellLoc="left", edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(_SMALL + 0.5)
    for line, row in enumerate(rows, 1):
        for column, field in enumerate(fields):
            table[line, column].get_text().set_color(ink(row, field))
    for column in range(len(titles)):
        table[0, column].get_text().set_fontweight("bold")


def _merged(answers: Sequence[Series]) -> list[Row]:
    """Join answers into rows by the labels that all of them have, as Grafana's transformation `merge` does."""
    shared = sorted(set.intersection(*(set(one.labels) for one in answers)))
    rows: dict[tuple[str, ...], Row] = {}
    for one in answers:
        row = rows.setdefault(tuple(one.labels[label] for label in shared), {})
        row |= one.labels | {f"Value #{one.query}": one.last}
    return [rows[key] for key in sorted(rows)]


def _along(series: Series, moments: Sequence[float]) -> list[float]:
    known = dict(zip(series.times, series.values, strict=True))
    return [0.0 if isnan(value := known.get(moment, 0.0)) else value for moment in moments]


def _with_gaps(series: Series) -> tuple[list[float], list[float]]:
    """Return times and values with a NaN where points are missing, so that no line is drawn across."""
    step = min((b - a for a, b in pairwise(series.times)), default=0.0)
    times, values = series.times[:1], series.values[:1]
    for (before, now), value in zip(pairwise(series.times), series.values[1:], strict=True):
        if now - before > 1.5 * step:
            times.append(before + step)
            values.append(nan)
        times.append(now)
        values.append(value)
    return times, values


def _dates(times: Sequence[float]) -> list[float]:
    return [time / 86400 for time in times]


def _time_axis(axes: Axes, span: tuple[float, float]) -> None:
    axes.set_xlim(*_dates(span))
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC, show_offset=False))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=_SMALL, length=2)


def _legend(axes: Axes, number: int) -> None:
    handles, names = axes.get_legend_handles_labels()
    more = f" (+{number - _MOST_LEGENDS})" if number > _MOST_LEGENDS else ""
    names = [name + (more if index == _MOST_LEGENDS - 1 else "") for index, name in enumerate(names[:_MOST_LEGENDS])]
    inches = axes.get_window_extent().width / axes.figure.dpi
    columns = max(1, min(4, int(inches / (_LETTER_INCHES * max(map(len, names)) + 0.35))))
    axes.legend(
        handles[:_MOST_LEGENDS],
        names,
        fontsize=_SMALL,
        loc="upper left",
        bbox_to_anchor=(-0.08, -0.12),
        ncols=columns,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.0,
        labelspacing=0.3,
    )


def _defaults(panel: Panel) -> dict[str, Any]:
    return dict(panel["fieldConfig"]["defaults"])


def _color(panel: Panel, name: str) -> str | None:
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["id"] == "byRegexp" and re.search(override["matcher"]["options"].strip("/"), name):
            return COLORS[override["properties"][0]["value"]["fixedColor"]]
    return None


def _step(look: dict[str, Any], value: float) -> str:
    passed = [
        step["color"] for step in look["thresholds"]["steps"] if step.get("value") is None or value >= step["value"]
    ]
    return str(passed[-1])


_KINDS: Final[dict[str, Callable[[Axes, Panel, Sequence[Series], tuple[float, float]], None]]] = {
    "stat": _number,
    "timeseries": _curves,
    "bargauge": _ranking,
    "heatmap": _heat,
    "state-timeline": _lanes,
    "table": _table,
}
