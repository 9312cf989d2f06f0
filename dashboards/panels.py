"""The kinds of panels that the dashboards are made of, with the look that all of them share.

A helper returns a finished panel; `frame.py` puts panels on a dashboard and numbers them. What a panel says is always
asked for: title, description, unit, and what to show where there is nothing.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict, Unpack

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as query
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from states import GROUPS

DATASOURCE: Final = look.DataSourceRef(type_val="prometheus", uid="${datasource}")
STALL: Final = ((None, "green"), (0.1, "orange"), (0.3, "red"))
"""From 10 % on a pipeline is input bound, at 30 % the alert fires."""
TROUBLE: Final = ((None, "green"), (1.0, "red"))
PLAIN: Final = ((None, "blue"),)

Steps = Sequence[tuple[float | None, str]]


@dataclass(frozen=True)
class Query:
    """What to ask, and how to name what comes back; `now` asks for the end of the time range only."""

    expr: str
    legend: str
    now: bool = False


class Says(TypedDict):
    """What every panel says: what it means, the unit of its values, and what to show where there are none."""

    description: str
    unit: str
    no_value: str


def number(
    title: str, *queries: Query, steps: Steps = PLAIN, filled: bool = False, **says: Unpack[Says]
) -> model.Panel:
    """Return a panel with one large number: the last one in the time range."""
    builder = (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(look.BigValueColorMode.BACKGROUND if filled else look.BigValueColorMode.VALUE)
        .graph_mode(look.BigValueGraphMode.NONE if queries[0].now else look.BigValueGraphMode.AREA)
        .thresholds(_thresholds(steps))
    )
    return _finish(builder.build(), title, queries, says)


def name(title: str, *queries: Query, colors: Mapping[str, str], **says: Unpack[Says]) -> model.Panel:
    """Return a panel with the name of a series in large letters, and its color where the name matches a pattern."""
    builder = (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .text_mode(look.BigValueTextMode.NAME)
        .color_mode(look.BigValueColorMode.BACKGROUND)
        .graph_mode(look.BigValueGraphMode.NONE)
        .thresholds(_thresholds(PLAIN))
    )
    for pattern, color in colors.items():
        builder.override_by_regexp(f"/^({pattern})$/", [_fixed(color)])
    return _finish(builder.build(), title, queries, says)


def lines(
    title: str,
    *queries: Query,
    stacked: bool = False,
    steps: Steps = (),
    top: float | None = None,
    colors: Mapping[str, str] | None = None,
    **says: Unpack[Says],
) -> model.Panel:
    """Return a panel of curves over time; `steps` draws thresholds behind them."""
    builder = _over_time().fill_opacity(40 if stacked else 8).line_width(1)
    if stacked:
        builder.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL))
    if steps:
        builder.thresholds(_thresholds(steps))
        builder.thresholds_style(common.GraphThresholdsStyleConfig().mode(look.GraphThresholdsStyleMode.LINE))
    if top is not None:
        builder.max(top)
    _color(builder, colors)
    return _finish(builder.build(), title, queries, says)


def bars(title: str, *queries: Query, colors: Mapping[str, str] | None = None, **says: Unpack[Says]) -> model.Panel:
    """Return a panel of stacked bars over time, none finer than a minute: how often something happened."""
    builder = (
        _over_time()
        .draw_style(look.GraphDrawStyle.BARS)
        .fill_opacity(80)
        .line_width(0)
        .stacking(common.StackingConfig().mode(look.StackingMode.NORMAL))
        .interval("1m")
        .decimals(0)
    )
    _color(builder, colors)
    return _finish(builder.build(), title, queries, says)


def ranking(
    title: str, *queries: Query, steps: Steps = PLAIN, colors: Mapping[str, str] | None = None, **says: Unpack[Says]
) -> model.Panel:
    """Return a panel of horizontal bars, one for each series."""
    builder = (
        bargauge.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(look.VizOrientation.HORIZONTAL)
        .display_mode(look.BarGaugeDisplayMode.BASIC)
        .thresholds(_thresholds(steps))
        .min(0)
    )
    for pattern, color in (colors or {}).items():
        builder.override_by_regexp(f"/^({pattern})$/", [_fixed(color)])
    return _finish(builder.build(), title, queries, says)


def buckets(title: str, asked: Query, **says: Unpack[Says]) -> model.Panel:
    """Return a heat map of a histogram's buckets over time."""
    builder = (
        heatmap.Panel()
        .calculate(False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").exponent(0.5).steps(64))
        .y_axis(heatmap.YAxisConfig().unit(says["unit"]))
        .cell_values(heatmap.CellValues().unit("short"))
        .tooltip(heatmap.HeatmapTooltip().mode(look.TooltipDisplayMode.SINGLE).y_histogram(True))
        .show_value(look.VisibilityMode.NEVER)
    )
    return _finish(builder.build(), title, [asked], says, query.PromQueryFormat.HEATMAP)


def timeline(title: str, *queries: Query, **says: Unpack[Says]) -> model.Panel:
    """Return a panel with a lane for each series, colored by the group of states that its value stands for."""
    meaning = {
        str(group.code): model.ValueMappingResult(text=group.name, color=group.color, index=index)
        for index, group in enumerate(GROUPS)
    }
    builder = (
        statetimeline.Panel()
        .mappings([model.ValueMap(options=meaning)])
        .merge_values(True)
        .show_value(look.VisibilityMode.NEVER)
        .legend(_legend())
    )
    return _finish(builder.build(), title, queries, says)


@dataclass(frozen=True)
class Column:
    """A column of a table: the label or the query that fills it, and how it looks."""

    title: str
    source: str | Query
    unit: str | None = None
    steps: Steps = ()
    link: tuple[str, str] | None = None


def grid(
    title: str, columns: Sequence[Column], *, newest_by: str, hidden: Sequence[str] = (), **says: Unpack[Says]
) -> model.Panel:
    """Return a table: queries are joined by the labels that all of them have, and columns come in the order given."""
    asked = [(column, column.source) for column in columns if isinstance(column.source, Query)]
    fields = {
        id(column): f"Value #{letter}" for (column, _), letter in zip(asked, string.ascii_uppercase, strict=False)
    }
    fields |= {id(column): column.source for column in columns if isinstance(column.source, str)}
    names = {fields[id(column)]: column.title for column in columns}
    gone = ["Time", *hidden, *(fields[id(column)] for column in columns if not column.title)]
    builder = table.Panel().with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    builder.sort_by([common.TableSortByFieldState().display_name(newest_by).desc(True)])
    builder.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(gone, True),
                "indexByName": {field: index for index, field in enumerate(names)},
                "renameByName": {field: text for field, text in names.items() if text},
            },
        )
    )
    for column in columns:
        if properties := _properties(column):
            builder.override_by_name(column.title, properties)
    return _finish(builder.build(), title, [source for _, source in asked], says, query.PromQueryFormat.TABLE)


def linked(panel: model.Panel, title: str, url: str) -> model.Panel:
    """Give every value of a panel a link."""
    assert panel.field_config is not None
    assert panel.field_config.defaults is not None
    panel.field_config.defaults.links = [_Link(title, url)]  # type: ignore[list-item]
    return panel


class _Link:
    """A link of a value; the builder's own would write a dozen fields that Grafana does not know there."""

    def __init__(self, title: str, url: str) -> None:
        self._fields = {"title": title, "url": url}

    def to_json(self) -> dict[str, object]:
        return dict(self._fields)


def _properties(column: Column) -> list[model.DynamicConfigValue]:
    properties = []
    if column.unit:
        properties.append(model.DynamicConfigValue("unit", column.unit))
    if column.steps:
        properties.append(model.DynamicConfigValue("thresholds", _thresholds(column.steps).build()))
        properties.append(model.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    if column.link:
        properties.append(model.DynamicConfigValue("links", [_Link(*column.link)]))
    return properties


def _over_time() -> timeseries.Panel:
    tooltip = common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING)
    return timeseries.Panel().legend(_legend()).tooltip(tooltip).show_points(look.VisibilityMode.AUTO).axis_soft_min(0)


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).placement(look.LegendPlacement.BOTTOM)
    return legend.display_mode(look.LegendDisplayMode.LIST)


def _color(builder: timeseries.Panel, colors: Mapping[str, str] | None) -> None:
    for pattern, color in (colors or {}).items():
        builder.override_by_regexp(f"/^({pattern})$/", [_fixed(color)])


def _fixed(color: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})


def _thresholds(steps: Steps) -> build.ThresholdsConfig:
    marks = [model.Threshold(value=value, color=color) for value, color in steps]
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(marks)


def _finish(
    panel: model.Panel,
    title: str,
    queries: Sequence[Query],
    says: Says,
    form: query.PromQueryFormat = query.PromQueryFormat.TIME_SERIES,
) -> model.Panel:
    panel.title = title
    panel.description = says["description"]
    panel.datasource = DATASOURCE
    panel.targets = []
    for letter, asked in zip(string.ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().expr(asked.expr).legend_format(asked.legend).ref_id(letter).format(form)
        target.datasource(DATASOURCE)
        panel.targets.append((target.instant() if asked.now else target.range()).build())
    assert panel.field_config is not None
    assert panel.field_config.defaults is not None
    panel.field_config.defaults.unit = says["unit"]
    panel.field_config.defaults.no_value = says["no_value"]
    return panel
