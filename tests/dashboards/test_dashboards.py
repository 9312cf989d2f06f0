"""The dashboards' JSON: made from the code, by the conventions of good dashboards, about metrics that there are."""

import json
import re
import subprocess
import sys

import promql_parser
import pytest
from dashboards.queries import FOLDER, NAMES, VARIABLES, loaded, panels, queries, selectors, substitute
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

CHART = FOLDER.parent / "charts" / "feedline" / "files" / "dashboards"
KINDS = {"timeseries", "stat", "table", "heatmap", "state-timeline", "bargauge"}
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
MOST_BYTES = 150_000


# --- where they come from --------------------------------------------------------------------------------------------


def test_the_json_is_what_the_generator_writes_and_the_chart_has_the_same_bytes(tmp_path):
    subprocess.run(
        [sys.executable, FOLDER / "generate.py", "--output", tmp_path],
        check=True,
        env={"PYTHONHASHSEED": "5"},
    )
    for name in NAMES:
        made = (tmp_path / f"{name}.json").read_bytes()
        assert (FOLDER / f"{name}.json").read_bytes() == made, f"{name}.json is old: make generate"
        assert (CHART / f"{name}.json").read_bytes() == made, f"the chart's {name}.json is old"


def test_nothing_else_lies_in_the_charts_folder():
    assert sorted(path.name for path in CHART.iterdir()) == sorted(f"{name}.json" for name in NAMES)


def test_a_dashboard_fits_many_times_into_a_config_map(name):
    text = (FOLDER / f"{name}.json").read_bytes()
    assert len(text) < MOST_BYTES
    assert text.endswith(b"}\n")


@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
def test_grafanas_own_model_reads_a_dashboard_and_loses_nothing(dashboard):
    again = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    assert_within(dashboard, again, "$")


def assert_within(part, whole, place):
    """Hold everything in `part` to be in `whole`; a link of a value gets the fields of a dashboard's link added."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert key in whole, f"{place}.{key} is lost"
            assert_within(value, whole[key], f"{place}.{key}")
    elif isinstance(part, list):
        assert len(part) == len(whole), place
        for index, value in enumerate(part):
            assert_within(value, whole[index], f"{place}[{index}]")
    else:
        assert part == whole, place


# --- a dashboard -----------------------------------------------------------------------------------------------------


def test_a_dashboard_can_be_provisioned_anywhere(name):
    dashboard = loaded(name)
    assert dashboard["uid"] == f"feedline-{name}"
    assert dashboard["title"] == f"feedline / {name.capitalize()}"
    assert dashboard["schemaVersion"] in {41, 42}
    assert dashboard["editable"] is False
    assert dashboard.get("id") is None
    assert "__inputs" not in dashboard


def test_all_dashboards_share_their_conduct(dashboard):
    assert dashboard["tags"] == ["feedline"]
    assert dashboard["graphTooltip"] == 1
    assert dashboard["refresh"] == "30s"
    assert dashboard["time"] == {"from": "now-1h", "to": "now"}


def test_dashboards_lead_to_each_other_and_take_variables_and_time_along(dashboard):
    [link] = dashboard["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["feedline"])
    assert link["includeVars"] is True
    assert link["keepTime"] is True
    assert "placement" not in link


def test_the_first_variable_is_the_data_source_and_the_rest_are_asked_of_it_when_the_time_changes(dashboard):
    source, *others = dashboard["templating"]["list"]
    assert (source["name"], source["label"]) == ("datasource", "Data source")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    for variable in others:
        assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert variable["refresh"] == 2
        assert variable["label"]


def test_every_variable_is_used_and_every_reference_has_one(dashboard):
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    asked = queries(dashboard, {name: f"<{name}>" for name in names})
    for name in names - {"datasource"}:
        assert any(f"<{name}>" in expr for _, _, expr in asked), f"${name} is used by no query"


def test_pipelines_that_are_gone_can_still_be_chosen():
    pipeline = next(one for one in loaded("pipeline")["templating"]["list"] if one["name"] == "pipeline")
    inner = re.fullmatch(r"query_result\((.*)\)", pipeline["query"])[1]
    promql_parser.parse(substitute(inner, VARIABLES))
    assert "last_over_time" in inner
    assert re.search(pipeline["regex"].strip("/"), '{job_name="digits"} 1 1700000000000')[1] == "digits"


def test_the_start_and_the_end_of_the_pipeline_are_marked():
    events = loaded("pipeline")["annotations"]["list"]
    moments = [selectors(substitute(event["expr"], VARIABLES))[0].name for event in events]
    assert moments == [f"feedline_pipeline_{moment}_timestamp_seconds" for moment in ("start", "completion")]
    for event in events:
        assert event["useValueForTime"] is True
        assert event["expr"].endswith("* 1000")
        assert event["datasource"]["uid"] == "${datasource}"


def test_panels_have_ids_and_titles_of_their_own(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(ids)) == len(ids)
    assert 0 not in ids
    assert len(set(titles)) == len(titles)


def test_no_two_panels_lie_on_the_same_place_and_no_line_has_a_hole(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert taken == {(x, y) for x in range(24) for y in range(height)}


# --- a panel ---------------------------------------------------------------------------------------------------------


def test_a_panel_says_what_it_shows_in_which_unit_and_what_it_means_when_it_is_empty(dashboard):
    for panel in panels(dashboard):
        defaults, title = panel["fieldConfig"]["defaults"], panel["title"]
        assert panel["type"] in KINDS, title
        assert panel["description"].endswith("."), title
        assert defaults["unit"] in UNITS, title
        assert defaults["noValue"], title


def test_a_panels_queries_have_a_letter_a_legend_and_the_chosen_data_source(dashboard):
    for panel in panels(dashboard):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == [chr(ord("A") + index) for index in range(len(letters))], panel["title"]
        for asking in (panel, *panel["targets"]):
            assert asking["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        for target in panel["targets"]:
            assert target["legendFormat"], panel["title"]
            assert target["instant"] is not target["range"], panel["title"]


def test_what_is_drawn_over_time_takes_its_rates_over_grafanas_interval(dashboard):
    seen = 0
    for target in (target for panel in panels(dashboard) for target in panel["targets"]):
        for function, window in re.findall(r"\b(rate|increase|irate)\([^\[\]]*\[([^\]]+)\]", target["expr"]):
            assert function != "irate", target["expr"]
            assert window == "$__rate_interval" or (target["instant"] and window == "$__range"), target["expr"]
            seen += 1
    assert seen > 10


def test_a_legend_shows_labels_that_its_query_keeps(dashboard):
    for panel in panels(dashboard):
        for target in panel["targets"]:
            kept = {
                label
                for labels in re.findall(r"\b(?:by|group_left) \(([^)]*)\)", target["expr"])
                for label in labels.split(", ")
            }
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_links_lead_to_dashboards_with_the_data_source_and_the_time(dashboard):
    for panel in panels(dashboard):
        settings = [p for override in panel["fieldConfig"]["overrides"] for p in override["properties"]]
        links = [link for setting in settings if setting["id"] == "links" for link in setting["value"]]
        for link in (*panel["fieldConfig"]["defaults"].get("links", ()), *links):
            assert link["url"].startswith("/d/"), panel["title"]
            assert "${datasource:queryparam}" in link["url"], panel["title"]
            assert "${__url_time_range}" in link["url"], panel["title"]


def test_the_fleet_leads_to_its_pipelines_by_labels_that_are_there():
    linked = [panel for panel in panels(loaded("fleet")) if panel["fieldConfig"]["defaults"].get("links")]
    assert len(linked) >= 3
    for panel in linked:
        [link] = panel["fieldConfig"]["defaults"]["links"]
        assert link["url"].startswith("/d/feedline-pipeline?")
        for label in re.findall(r"__field\.labels\.(\w+)", link["url"]):
            assert all(f"{{{{{label}}}}}" in target["legendFormat"] for target in panel["targets"])


def test_a_link_in_a_table_names_columns_of_the_table():
    for dashboard in map(loaded, NAMES):
        for panel in (one for one in panels(dashboard) if one["type"] == "table"):
            columns = panel["transformations"][1]["options"]["renameByName"].values()
            text = json.dumps(panel["fieldConfig"]["overrides"])
            assert set(re.findall(r"__data\.fields\.(\w+)", text)) <= set(columns)
            assert panel["options"]["sortBy"][0]["displayName"] in columns


def test_the_headline_turns_orange_at_10_and_red_at_30_percent():
    panel = next(one for one in panels(loaded("pipeline")) if one["title"] == "Waiting for data")
    steps = [(step["value"], step["color"]) for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
    assert steps == [(None, "green"), (0.1, "orange"), (0.3, "red")]
