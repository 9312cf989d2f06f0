"""What the dashboards share around their panels: variables, links to each other, time, and the numbers of panels.

They are in Grafana's classic schema: it is what a sidecar or a file can provision in every Grafana from 11 on. The
newer one (v2) is an API object of Grafana 12.
"""

from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model
from panels import DATASOURCE

_PIPELINE: Final = "/d/feedline-pipeline?${datasource:queryparam}&var-namespace=%s&var-pipeline=%s&${__url_time_range}"
OPEN_SERIES: Final = ("Open the pipeline", _PIPELINE % ("${__field.labels.namespace}", "${__field.labels.job_name}"))
"""The link from a series with these labels to the dashboard of its pipeline."""
OPEN_ROW: Final = ("Open the pipeline", _PIPELINE % ("${__data.fields.Namespace}", "${__data.fields.Pipeline}"))
"""The link from a row of a table with these columns."""
TAG: Final = "feedline"
_COLUMNS: Final = 24


class _Ready(Builder[model.Panel]):
    """A panel that is finished, for a dashboard that takes builders."""

    def __init__(self, panel: model.Panel) -> None:
        self._panel = panel

    def build(self) -> model.Panel:
        return self._panel


class Frame:
    """A dashboard that rows of panels are put on, from top to bottom."""

    def __init__(self, uid: str, title: str, description: str) -> None:
        self._next_id = 1
        self._dashboard = (
            build.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags([TAG])
            .readonly()
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .refresh("30s")
            .time("now-1h", "now")
            .timezone("browser")
            .with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
            .link(
                build.DashboardLink("feedline")
                .type(model.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .include_vars(True)
                .keep_time(True)
            )
        )

    def variable(self, name: str, label: str, query: str, *, pattern: str = "", many: bool = False) -> None:
        """Add a variable whose values Prometheus knows; `many` may all be chosen at once, and are from the start."""
        variable = (
            build.QueryVariable(name)
            .label(label)
            .query(query)
            .definition(query)
            .datasource(DATASOURCE)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
        )
        if pattern:
            variable.regex(pattern)
        if many:
            every = model.VariableOption(selected=True, text=["All"], value=["$__all"])
            variable.multi(True).include_all(True).all_value(".+").current(every)
        self._dashboard.with_variable(variable)

    def event(self, name: str, color: str, expr: str, title: str) -> None:
        """Mark a moment on every panel; the expression's value is the moment in Unix milliseconds."""
        event = (
            build.AnnotationQuery()
            .name(name)
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color(color)
            .expr(expr)
            .title_format(title)
            .use_value_for_time(True)
        )
        self._dashboard.annotation(event)

    def row(self, title: str) -> None:
        """Begin a row of panels under a title."""
        self._dashboard.with_row(build.Row(title).id(self._number()))

    def line(self, height: int, *panels: model.Panel) -> None:
        """Put panels side by side, all of the same width."""
        for panel in panels:
            panel.id_val = self._number()
            panel.grid_pos = model.GridPos(h=height, w=_COLUMNS // len(panels))
            self._dashboard.with_panel(_Ready(panel))

    def finish(self) -> model.Dashboard:
        """Return the dashboard."""
        dashboard = self._dashboard.build()
        # The builder's default would hide them in a menu.
        for link in dashboard.links or []:
            link.placement = None  # type: ignore[assignment]
        for event in dashboard.annotations.list_val or []:
            event.placement = None  # type: ignore[assignment]
        return dashboard

    def _number(self) -> int:
        self._next_id += 1
        return self._next_id - 1
