"""The pictures of the docs: drawn from whatever Prometheus answers, an empty answer included."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pictures
import pytest
from matplotlib import image
from wording import worded

LABELS = (
    "namespace",
    "job_name",
    "pod",
    "gpu",
    "split",
    "kind",
    "result",
    "verb",
    "resource",
    "code",
    "type",
    "version",
    "uid",
    "state",
    "sweep",
)
END = 1_800_000_000


class Answers(BaseHTTPRequestHandler):
    """A Prometheus that knows two series of everything."""

    asked = ()
    empty = False
    broken = False

    def do_GET(self):
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        type(self).asked += ((url.path, query),)
        series = [] if self.empty else [self.series(url.path, query, number) for number in (1, 2)]
        body = json.dumps({"status": "success", "data": {"result": series}}).encode()
        self.send_response(400 if self.broken else 200)
        self.end_headers()
        self.wfile.write(b"parse error" if self.broken else body)

    def series(self, path, query, number):
        labels = {label: f"{label}-{number}" for label in LABELS} | {"le": f"0.{number}", "reason": "Running"}
        if path.endswith("query"):
            return {"metric": labels, "value": [END, str(number)]}
        start, step = float(query["start"]), float(query["step"])
        return {
            "metric": labels,
            "values": [[start + index * step, "NaN" if index == 3 else str(number)] for index in range(9)],
        }

    def log_message(self, *_):
        pass


@pytest.fixture
def canned():
    answers = type("Fresh", (Answers,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    answers.url = f"http://127.0.0.1:{server.server_port}"
    yield answers
    server.shutdown()
    server.server_close()
    thread.join()


def draw(canned, folder, *more):
    chosen = ("--variable", "pipeline=digits", "--end", str(END), "--output", str(folder))
    return pictures.main(["--prometheus", canned.url, *chosen, *more])


@pytest.mark.parametrize("name", ["pipeline", "fleet", "operator"])
def test_a_dashboard_becomes_a_picture_with_an_answer_in_every_panel(canned, tmp_path, capsys, name):
    assert draw(canned, tmp_path, "--dashboard", name) == 0
    assert capsys.readouterr().out == f"{tmp_path / f'dashboard-{name}.png'}\n"
    height, width, _ = image.imread(tmp_path / f"dashboard-{name}.png").shape
    assert width > 1400
    assert height > 1200


def test_panels_without_data_are_named(canned, tmp_path, capsys):
    canned.empty = True
    assert draw(canned, tmp_path, "--dashboard", "operator") == 0
    assert "without data: Replicas up, Leader" in capsys.readouterr().out


def test_queries_are_sent_as_grafana_sends_them(canned, tmp_path):
    draw(canned, tmp_path, "--dashboard", "fleet", "--range", "2h", "--scrape-seconds", "30")
    by_kind = {
        kind: [query for path, query in canned.asked if path == f"/api/v1/{kind}"] for kind in ("query", "query_range")
    }
    assert {query["time"] for query in by_kind["query"]} == {str(float(END))}
    assert {query["step"] for query in by_kind["query_range"]} == {"30", "60"}, "bars are no finer than a minute"
    asked = " ".join(query["query"] for query in by_kind["query"] + by_kind["query_range"])
    assert "$" not in asked
    assert "[7200s]" in asked
    assert "[120s]" in asked


def test_a_refused_query_is_told_in_prometheus_own_words(canned, tmp_path, capsys):
    canned.broken = True
    assert draw(canned, tmp_path) == 69
    assert "pipeline was not drawn: Prometheus refused a query: parse error" in capsys.readouterr().err


def test_a_variable_without_a_value_is_named(canned, tmp_path, capsys):
    assert pictures.main(["--prometheus", canned.url, "--output", str(tmp_path)]) == 64
    assert "pipeline was not drawn: it needs --variable pipeline=VALUE" in capsys.readouterr().err


def test_a_prometheus_that_is_not_there_is_told(tmp_path, capsys):
    assert (
        pictures.main(["--prometheus", "http://127.0.0.1:1", "--variable", "pipeline=x", "--output", str(tmp_path)])
        == 69
    )
    assert "Prometheus does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--prometheus", "localhost:9090"], "localhost:9090 is no address: write http://HOST:PORT"),
        (["--prometheus", "file:///etc/passwd"], "file:///etc/passwd is no address"),
        (["--prometheus", "http://x", "--range", "soon"], "soon is no time: write a number and s, m, h or d"),
    ],
)
def test_a_wrong_option_is_told_in_a_sentence(capsys, options, sentence):
    with pytest.raises(SystemExit):
        pictures.main(options)
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.312, "percentunit", "31.2 %"),
        (0.00025, "s", "250 µs"),
        (0.031, "s", "31 ms"),
        (90.0, "s", "1.5 min"),
        (0.0, "s", "0 s"),
        (2 * 1024**3, "bytes", "2 GiB"),
        (1000.0, "bytes", "1000 B"),
        (118_000.0, "rowsps", "118 K rows/s"),
        (1.7e12, "dateTimeAsSystem", "2023-11-14 22:13:20"),
        (float("nan"), "short", "NaN"),
    ],
)
def test_a_value_is_worded_by_its_unit(value, unit, text):
    assert worded(value, unit) == text
