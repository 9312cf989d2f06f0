"""What Prometheus and the operator get from a run, over real HTTP, while it trains."""

import json
import math

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from promlint import lint

from feedline.contract import Report

# The training function asks its own endpoint, in the middle of its second epoch: 9 batches were taken.
SCRAPE = """
import json
import urllib.request

def train(run):
    pages = {}
    for epoch in run.epochs():
        for batch in run.train:
            if run.train.steps == 9:
                pages = {name: get(*page) for name, page in PAGES.items()}
        for batch in run.validation:
            pass
        run.report(loss=float("nan") if epoch else 0.5, accuracy=0.25)
    pages["end"] = get("/metrics")
    with open("pages.json", "w") as file:
        json.dump(pages, file)

PAGES = {
    "metrics": ["/metrics"],
    "openmetrics": ["/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"}],
    "feed": ["/feed?pretty"],
    "health": ["/healthz"],
    "else": ["/else"],
    "post": ["/feed", {}, b"x"],
}

def get(path, headers={}, body=None):
    request = urllib.request.Request(f"http://localhost:{PORT}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, "", error.reason
"""

# The port that the system chose is known to who opens the endpoint.
TELL_PORT = """
import contextlib
from unittest.mock import patch
from feedline.training import execution
endpoint = execution.endpoint

@contextlib.contextmanager
def telling(run, port):
    with endpoint(run, port) as chosen:
        import own
        own.PORT = chosen
        yield chosen

stack.enter_context(patch("feedline.training.execution.endpoint", telling))
"""


@pytest.fixture
def scraped(project):
    """Return what each page said, as (status, content type, body), and the run's report."""
    ended = project.run(code=SCRAPE, before=TELL_PORT, arguments=["--metrics-port", "0"])
    assert ended.code == 0, ended.errors
    return json.loads((project.folder / "pages.json").read_text()), ended.report


def samples(text):
    return {
        (sample.name.removeprefix("feedline_trainer_"), *sample.labels.values()): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_metrics_are_the_run_s_numbers(scraped):
    pages, _ = scraped
    status, content_type, text = pages["metrics"]
    assert (status, content_type.partition(";")[0]) == (200, "text/plain")
    now = samples(text)
    wanted = {
        ("steps_total", "train"): 9,
        ("steps_total", "validation"): 2,
        ("samples_total", "train"): 72,
        ("samples_total", "validation"): 12,
        ("read_bytes_total", "train"): 72 * 28,
        ("dataset_samples", "train"): 48,
        ("dataset_bytes", "validation"): 12 * 28,
        ("epoch",): 1,
        ("epochs",): 2,
        ("target_steps",): 12,
        ("loss",): 0.5,
        ("nonfinite_loss_total",): 0,
        ("state", "training"): 1,
        ("state", "done"): 0,
        # All but the first; the newest wait and its step are known when the next batch is asked for.
        ("batch_fetch_duration_seconds_count", "train"): 7,
        ("step_duration_seconds_count", "train"): 7,
        ("iteration_duration_seconds_count", "train"): 7,
        # Written a moment ago.
        ("dataset_resident_bytes", "train"): 48 * 28,
        ("disk_samples_total",): 0,
        ("loader_errors_total", "io"): 0,
        ("loader_errors_total", "shrank"): 0,
    }
    assert {name: now.get(name) for name in wanted} == wanted
    assert now[("prefetch_capacity_batches",)] > 0
    assert now[("loader_threads",)] >= 1
    assert now[("first_batch_duration_seconds",)] > 0
    assert now[("last_step_timestamp_seconds",)] > 1.7e9
    assert now[("process_resident_memory_bytes",)] > 0


def test_every_wait_and_step_but_the_first_is_observed(scraped):
    pages, _ = scraped
    end = samples(pages["end"][2])
    for split, count in (("train", 11), ("validation", 3)):
        assert end[("batch_fetch_duration_seconds_count", split)] == count
        assert end[("step_duration_seconds_count", split)] == count
        assert end[("iteration_duration_seconds_count", split)] == count
        parts = [end[(f"{part}_duration_seconds_sum", split)] for part in ("batch_fetch", "step")]
        assert end[("iteration_duration_seconds_sum", split)] == pytest.approx(sum(parts))


def test_a_loss_that_is_no_number_is_counted(scraped):
    pages, report = scraped
    end = samples(pages["end"][2])
    assert end[("nonfinite_loss_total",)] == 1
    assert math.isnan(end[("loss",)])
    assert report["values"] == {"loss": "NaN", "accuracy": "0.25"}


def test_the_endpoint_speaks_openmetrics_to_who_asks_for_it(scraped):
    pages, _ = scraped
    status, content_type, text = pages["openmetrics"]
    assert (status, content_type.partition(";")[0]) == (200, "application/openmetrics-text")
    parsed = list(parse_openmetrics(text))
    families = {family.name: family.type for family in parsed}
    assert families["feedline_trainer"] == "info"
    assert families["feedline_trainer_state"] == "stateset"
    assert families["feedline_trainer_steps"] == "counter"
    assert families["feedline_trainer_step_duration_seconds"] == "histogram"
    (info,) = next(family.samples for family in parsed if family.name == "feedline_trainer")
    assert (info.labels["backend"], info.labels["engine"], info.labels["device"]) == ("pytorch", "Feed", "cpu")


def test_feed_is_the_report_so_far(scraped):
    pages, report = scraped
    status, content_type, text = pages["feed"]
    assert (status, content_type) == (200, "application/json")
    feed = json.loads(text)
    assert set(feed) <= set(Report.__annotations__)
    assert (feed["pipeline"], feed["epochs"], feed["steps"], feed["targetSteps"]) == ("small", 1, 9, 12)
    assert (report["steps"], report["epochs"]) == (12, 2)
    small = "Taken as it lies in memory: it is small, and is read once, in order."
    assert feed["paging"] == f"features: {small} labels: {small} names: {small}"
    assert feed["diskSamples"] == 0
    assert "memcpyLimitPermille" in feed


def test_the_other_pages(scraped):
    pages, _ = scraped
    assert pages["health"][::2] == [200, "ok\n"]
    assert pages["else"][::2] == [404, "try /metrics, /feed or /healthz"]
    assert pages["post"][0] == 501


def test_nothing_is_served_unless_asked_for(project):
    code = """
        import threading

        def train(run):
            assert "feedline-metrics" not in [thread.name for thread in threading.enumerate()]
            for batch in run.train:
                pass
    """
    assert project.run(code=code).code == 0


def test_no_thread_of_the_endpoint_outlives_the_run(project):
    ended = project.run(arguments=["--metrics-port", "0"])
    assert ended.code == 0
    code = (
        "import threading\n" + LOOP_OVER + "    assert not [t for t in threading.enumerate() if 'metrics' in t.name]\n"
    )
    assert project.run(code=code).code == 0


LOOP_OVER = """
def train(run):
    for batch in run.train:
        pass
"""


# --- names -----------------------------------------------------------------------------------------------------------------


def test_names_and_help_are_as_promtool_wants_them(scraped):
    pages, _ = scraped
    assert list(lint(pages["end"][2])) == []


def test_series_bear_nothing_that_the_target_has(scraped):
    pages, _ = scraped
    info = {"backend", "engine", "backend_version", "feedline_version", "python_version", "device"}
    labels = {label for name, label in labelled(pages["end"][2]) if name != "feedline_trainer_info"}
    assert labels == {"le", "split", "kind", "stage", "reason", "feedline_trainer_state"}
    assert {label for name, label in labelled(pages["end"][2]) if name == "feedline_trainer_info"} == info


def labelled(text):
    return {(sample.name, label) for family in parse(text) for sample in family.samples for label in sample.labels}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("# HELP a_seconds x\n# TYPE a_seconds counter\na_seconds 1\n", "a counter without _total"),
        ("# TYPE a_bytes gauge\na_bytes 1\n", "no help"),
        ("# HELP a_milliseconds x\n# TYPE a_milliseconds gauge\na_milliseconds 1\n", "no base unit"),
        ('# HELP a_bytes x\n# TYPE a_bytes gauge\na_bytes{le="1"} 1\n', "only histograms have"),
    ],
    ids=["suffix", "help", "unit", "label"],
)
def test_the_lint_finds_what_it_looks_for(text, complaint):
    assert complaint in " ".join(lint(text))


def test_promtool_finds_nothing(scraped, promtool):
    pages, _ = scraped
    assert promtool("check", "metrics", input=pages["end"][2]) == ""
