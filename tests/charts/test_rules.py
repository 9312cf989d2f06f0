"""The alerts: each is proven to fire and to keep quiet, rests on series that exist, and leads to a page that helps."""

import re
from pathlib import Path

import promql_parser
import pytest
import yaml

from feedline.manifest.yamlread import read_yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts" / "feedline" / "files" / "rules.yaml"
CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
METRICS = ROOT / "docs" / "reference" / "metrics.md"
CRD = ROOT / "crds" / "trainingpipelines.feedline.dev.yaml"

ALL = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDS = {rule["record"]: rule for rule in ALL if "record" in rule}
TESTS = [test for path in CASES for test in yaml.safe_load(path.read_text())["tests"]]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in RUNBOOKS.glob("*.md")}
SECTIONS = ["What it means", "What it costs", "What to look at", "What to do", "When it is a false alarm"]

# Whose series they are: NVIDIA's dcgm-exporter, Kueue, and Prometheus itself.
FOREIGN = re.compile(r"DCGM_FI_\w+|kueue_\w+|up|ALERTS")


def test_prometheus_takes_the_rules(promtool):
    assert f"{len(ALL)} rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_rules_do_what_their_cases_say(promtool, path):
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_proven_to_fire_and_to_keep_quiet(alert):
    cases = [case for test in TESTS for case in test.get("alert_rule_test", ()) if case["alertname"] == alert]
    assert any(case.get("exp_alerts") for case in cases)
    assert any(not case.get("exp_alerts") for case in cases)


def test_cases_are_about_alerts_that_exist():
    # promtool takes an alert that nobody knows for one that does not fire.
    assert {case["alertname"] for test in TESTS for case in test.get("alert_rule_test", ())} == set(ALERTS)


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_proven_to_have_its_value(record):
    cases = [case for test in TESTS for case in test.get("promql_expr_test", ())]
    assert any(record in metrics(case["expr"]) and case.get("exp_samples") for case in cases)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert):
    rule = ALERTS[alert]
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert told["runbook_url"] == f"https://feedline.dev/docs/runbooks/{alert}"
    assert told["summary"].endswith(".")
    assert "`" in told["description"], "the first command to run"
    if alert.startswith("FeedlineOperator"):
        return
    for field in ("$labels.namespace", "$labels.job_name", "$value | humanize"):
        assert field in told["description"]


@pytest.mark.parametrize("alert", ALERTS)
def test_a_runbook_has_the_sections_in_which_one_looks(alert):
    page = PAGES[alert]
    assert page.startswith(f"# {alert}\n")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == SECTIONS
    for body in re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]:
        assert len(body.split()) >= 10
    assert f"\n{alert}\n" in PAGES["index"], "the page is in the table of contents"


def test_each_runbook_is_of_an_alert():
    assert set(PAGES) == {*ALERTS, "index"}


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_rests_on_series_that_are_exported(rule):
    assert metrics(rule["expr"]) <= exported() | set(RECORDS)


@pytest.mark.parametrize("name", PAGES)
def test_the_queries_of_a_runbook_are_of_series_that_are_exported(name):
    queries = re.findall(r"^```promql\n(.*?)^```$", PAGES[name], re.MULTILINE | re.DOTALL)
    for query in queries:
        assert metrics(query) <= exported() | set(RECORDS)


def test_the_alerts_know_every_reason_of_a_pipeline():
    """A reason that is added to the API has to be put into one of these, too."""
    unknown, true, false = reasons()
    waits, others = matched("FeedlinePipelinePendingTooLong")
    assert waits == others, "what is waiting, and what ends it"
    assert waits | {"Running", "Queued", "Suspended"} == unknown
    assert matched("FeedlinePipelineFailed") == [false]
    assert true == {"Completed", "Stopped"}


def matched(alert):
    """Return the sets of reasons that the selectors of an alert name, in order."""
    found = []
    for selector in selectors(ALERTS[alert]["expr"]):
        found += [set(each.value.split("|")) for each in selector.matchers.matchers if each.name == "reason"]
    return found


def reasons():
    """Return the reasons of the condition Succeeded by its status Unknown, True and False, as the API describes them."""
    (crd,) = read_yaml(CRD.read_text(encoding="utf-8"), CRD.name)
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    text = status["conditions"]["items"]["properties"]["reason"]["description"]
    return [set(re.search(rf"{word}: ([\w, ]+)\.", text)[1].split(", ")) for word in ("Unknown", "True", "False")]


def metrics(expression):
    """Return the names of the metrics that an expression asks for, those of others left out."""
    names = {selector.name for selector in selectors(expression)}
    assert names, expression
    return {name for name in names if not FOREIGN.fullmatch(name)}


def selectors(expression):
    """Return the selectors of an expression, in order."""
    found = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def exported():
    """Return the names of all series that operator and trainer export, as their reference page has them from the code."""
    names = set(re.findall(r"`((?:feedline|process)_\w+)", METRICS.read_text(encoding="utf-8")))
    assert names, f"{METRICS} names no metrics"
    return names | {f"{name}_{part}" for name in names for part in ("bucket", "sum", "count")}
