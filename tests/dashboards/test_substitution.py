"""What Grafana does to a query before it sends it."""

import pytest
from substitution import MACROS, panels, queries, substitute


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("rate(x[$__rate_interval])", "rate(x[1m])"),
        ("x[$__range] >= $__range_s", "x[1h] >= 3600"),
        ("x offset $__interval", "x offset 1m"),
        ('{job_name="$pipeline"}', '{job_name="digits-1.5"}'),
        ('{job_name="${pipeline}"}', '{job_name="digits-1.5"}'),
        ('{job_name=~"${pipeline:regex}"}', r'{job_name=~"digits-1\.5"}'),
        ('{namespace=~"$namespace"}', '{namespace=~"(ml|vision)"}'),
        ('{namespace=~"${namespace:regex}"}', '{namespace=~"(ml|vision)"}'),
        (
            'label_replace(x, "pod", "$1", "exported_pod", "(.+)")',
            'label_replace(x, "pod", "$1", "exported_pod", "(.+)")',
        ),
    ],
)
def test_a_reference_becomes_what_was_chosen(text, sent):
    assert substitute(text, {"pipeline": "digits-1.5", "namespace": ["ml", "vision"]}) == sent


def test_a_macro_can_be_given_another_value():
    assert substitute("x[$__rate_interval]", {"__rate_interval": "2m"}) == "x[2m]"
    assert MACROS["__rate_interval"] == "1m"


@pytest.mark.parametrize("text", ["x{a='$nobody'}", "x{a='${nobody:regex}'}", "x[$__nothing]"])
def test_a_reference_to_nothing_is_an_error_and_never_an_empty_answer(text):
    with pytest.raises(KeyError):
        substitute(text, {})


def test_every_query_is_told_by_panel_and_letter_also_inside_a_collapsed_row():
    inner = {"type": "stat", "title": "In", "targets": [{"refId": "A", "expr": "b"}]}
    outer = {"type": "stat", "title": "Out", "targets": [{"refId": "A", "expr": "$x"}, {"refId": "B", "expr": "c"}]}
    dashboard = {"panels": [{"type": "row", "panels": []}, outer, {"type": "row", "panels": [inner]}]}
    assert [panel["title"] for panel in panels(dashboard)] == ["Out", "In"]
    assert queries(dashboard, {"x": "a"}) == [("Out", "A", "a"), ("Out", "B", "c"), ("In", "A", "b")]
