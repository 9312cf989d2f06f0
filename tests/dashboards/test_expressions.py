"""What the dashboards ask: that it parses, is about series that there are, and says the same as rules and operator."""

import re

import expressions
import promql_parser
import pytest
import states
import yaml
from dashboards.queries import FOLDER, VARIABLES, loaded, queries, selectors, substitute
from promql_parser import BinaryExpr

from feedline.contract import FATAL_EXIT_CODES, REASONS
from feedline_operator.reconcile import attempts, outcome

ROOT = FOLDER.parent
# Series of others: NVIDIA's dcgm-exporter, the kubelet's cAdvisor, Prometheus itself.
FOREIGN = re.compile(r"DCGM_FI_\w+|container_\w+|up")
# What the monitors give every series of their targets.
TARGET_LABELS = {"namespace", "pod", "container", "job_name", "job", "backend"}


@pytest.fixture
def asked(dashboard):
    """Every query as (where it stands, expression)."""
    return [(f"{title} {ref}: {expr}", expr) for title, ref, expr in queries(dashboard, VARIABLES)]


@pytest.fixture(scope="module")
def documented():
    """What docs/reference/metrics.md says: the labels of each metric of feedline."""
    text = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:feedline|process)_\w+)` \| [^|]* \| ([^|]*) \|", text, re.MULTILINE)
    return {metric: set(re.findall(r"(?:^|; )`(\w+)`", cell)) for metric, cell in rows}


def test_prometheus_can_read_every_query(asked):
    for _, expr in asked:
        promql_parser.parse(expr)


def test_a_query_is_about_series_that_are_documented(asked, documented):
    for where, expr in asked:
        for selector in selectors(expr):
            assert selector.name, f"a selector without a metric's name reads everything: {where}"
            if not FOREIGN.fullmatch(selector.name):
                assert family(selector.name) in documented, where


def test_a_query_selects_by_labels_that_its_series_have(asked, documented):
    for where, expr in asked:
        for selector in selectors(expr):
            if not FOREIGN.fullmatch(selector.name):
                labels = {matcher.name for matcher in selector.matchers.matchers}
                assert labels <= documented[family(selector.name)] | TARGET_LABELS, where


def test_a_query_asks_for_the_namespaces_that_were_chosen(asked):
    """GPUs are joined to pods that are; and the operator's dashboard, which knows no namespaces, counts pipelines."""
    for where, expr in asked:
        for selector in selectors(expr):
            labels = {matcher.name for matcher in selector.matchers.matchers}
            exempt = selector.name == "feedline_pipelines" or selector.name.startswith("DCGM_")
            assert "namespace" in labels or exempt, where


def family(series):
    """Return the metric that a series of a histogram belongs to."""
    return re.sub(r"_(bucket|sum|count)$", "", series)


RULES = {
    "namespace_job_name:feedline_trainer_input_stall:ratio_rate5m": expressions.stall,
    "namespace_job_name:feedline_trainer_samples:rate5m": expressions.samples,
    "namespace_job_name:feedline_trainer_batch_fetch_duration_seconds:p99_5m": lambda matchers, window: (
        expressions.quantile(0.99, "batch_fetch", matchers, window)
    ),
    "namespace_job_name:feedline_trainer_step_duration_seconds:p99_5m": lambda matchers, window: expressions.quantile(
        0.99, "step", matchers, window
    ),
    "namespace_job_name:gpu_utilization:ratio": lambda matchers, _: expressions.gpu_utilization(matchers),
}


def recorded():
    groups = yaml.safe_load((ROOT / "charts" / "feedline" / "files" / "rules.yaml").read_text(encoding="utf-8"))[
        "groups"
    ]
    return {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}


def canonical(expr):
    """Return an expression as the parser writes it."""
    return promql_parser.parse(expr).prettify()


def test_the_dashboards_know_every_recording_rule():
    assert set(RULES) == set(recorded())


@pytest.mark.parametrize("rule", RULES)
def test_a_panel_computes_what_the_recording_rule_of_its_name_records(rule):
    assert canonical(RULES[rule]("", "5m")) == canonical(recorded()[rule])


@pytest.mark.parametrize("rule", RULES)
def test_some_panel_shows_what_a_recording_rule_records(rule):
    shown = canonical(substitute(RULES[rule](expressions.PIPELINE, expressions.RATE), VARIABLES))
    parts = []
    for _, _, expr in queries(loaded("pipeline"), VARIABLES):
        parsed = promql_parser.parse(expr)
        parts.append(parsed.prettify())
        # After the end of a pipeline its report stands in: the rule's expression `or` the report's.
        if isinstance(parsed, BinaryExpr):
            parts.append(parsed.lhs.prettify())
    assert shown in parts


def test_every_state_that_the_operator_writes_has_a_group_and_a_color():
    known = {reason for group in states.GROUPS for reason in group.reasons}
    fatal = {REASONS[code] for code in FATAL_EXIT_CODES}
    written = {value for key, value in vars(outcome).items() if key.isupper() and isinstance(value, str)}
    assert known == written | fatal | {attempts.OUT_OF_MEMORY}
