"""Draw the dashboards from a running Prometheus, one PNG each: pictures for the docs, without a Grafana.

Each panel's queries are sent as Grafana would send them, over a time range that ends when you say. For instance:

    python dashboards/pictures.py --prometheus http://127.0.0.1:9090 --range 30m --variable pipeline=digits
"""

import argparse
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from drawing import COLORS, Panel, Series, draw
from substitution import panels, substitute

_ROOT = Path(__file__).resolve().parent.parent
_FOOTER = "Drawn from the panels' queries on real data; not a screenshot of Grafana"
_POINTS = 240
_WIDTH_INCHES, _UNIT_INCHES, _TOP_INCHES = 13.5, 0.3, 0.7
_PLAIN = {".+", "prometheus"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Source:
    """A Prometheus, and the stretch of time that is asked for."""

    url: str
    start: float
    end: float
    scrape_seconds: int
    variables: dict[str, str]

    def answers(self, panel: Panel) -> list[Series]:
        """Ask all queries of a panel."""
        return [series for target in panel["targets"] for series in self._answer(panel, target)]

    def moments(self, expr: str) -> list[float]:
        """Return the values of an annotation's query that lie in the time range, as Unix seconds."""
        step = self._step({})
        asked = {"query": substitute(expr, self._known(step)), "start": self.start, "end": self.end, "step": step}
        values = {float(point[1]) / 1000 for one in self._ask("query_range", asked) for point in one["values"]}
        return sorted(value for value in values if self.start <= value <= self.end)

    def _answer(self, panel: Panel, target: dict[str, Any]) -> list[Series]:
        step = self._step(panel)
        expr = substitute(target["expr"], self._known(step))
        if target.get("instant"):
            found = self._ask("query", {"query": expr, "time": self.end})
        else:
            start = self.start // step * step
            found = self._ask("query_range", {"query": expr, "start": start, "end": self.end, "step": step})
        series = []
        for one in found:
            points = one.get("values") or [one["value"]]
            name = _name(target["legendFormat"], one["metric"])
            times, values = [float(point[0]) for point in points], [float(point[1]) for point in points]
            series.append(Series(name, one["metric"], times, values, target["refId"]))
        return series

    def _step(self, panel: Panel) -> int:
        least = _seconds(panel["interval"]) if "interval" in panel else self.scrape_seconds
        return max(least, int((self.end - self.start) / _POINTS) // self.scrape_seconds * self.scrape_seconds)

    def _known(self, step: int) -> dict[str, str]:
        whole = int(self.end - self.start)
        rate = max(step + self.scrape_seconds, 4 * self.scrape_seconds)
        macros = {
            "__range": f"{whole}s",
            "__range_s": f"{whole}",
            "__interval": f"{step}s",
            "__rate_interval": f"{rate}s",
        }
        return self.variables | macros

    def _ask(self, kind: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        url = f"{self.url.rstrip('/')}/api/v1/{kind}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - _address lets only HTTP through
            return list(json.load(answer)["data"]["result"])


def main(arguments: list[str]) -> int:
    """Draw the dashboards; return the exit code."""
    options = _options(arguments)
    variables = {"datasource": "prometheus", "namespace": ".+", "operator_namespace": ".+"}
    variables |= dict(pair.split("=", 1) for pair in options.variable)
    end = options.end or time.time()
    source = Source(options.prometheus, end - options.range, end, options.scrape_seconds, variables)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.dashboard:
        dashboard = json.loads((_ROOT / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
        if missing := [name for name in _variables(dashboard) if name not in variables]:
            sys.stderr.write(f"feedline: {name} was not drawn: it needs --variable {missing[0]}=VALUE\n")
            return 64
        path = options.output / f"dashboard-{name}.png"
        try:
            empty = picture(dashboard, source, path)
        except urllib.error.URLError as error:
            sys.stderr.write(f"feedline: {name} was not drawn: {_reason(error)}\n")
            return 69
        sys.stdout.write(f"{path}" + (f": without data: {', '.join(empty)}\n" if empty else "\n"))
    return 0


def picture(dashboard: dict[str, Any], source: Source, path: Path) -> list[str]:
    """Draw one dashboard, its panels where they lie on Grafana's grid; return the titles of those without data."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    height = rows * _UNIT_INCHES + 2 * _TOP_INCHES
    figure = plt.figure(figsize=(_WIDTH_INCHES, height))
    events = [(event["iconColor"], source.moments(event["expr"])) for event in dashboard["annotations"].get("list", ())]
    figure.text(0.012, 1 - 0.35 / height, dashboard["title"], fontsize=15, weight="bold")
    chosen = {name: source.variables[name] for name in _variables(dashboard)}
    shown = ", ".join(f"{name} {value}" for name, value in chosen.items() if value not in _PLAIN)
    figure.text(0.988, 1 - 0.35 / height, shown, fontsize=10, ha="right", color="#555555")
    figure.text(0.012, 0.25 / height, f"{_FOOTER}. Times are UTC.", fontsize=9, color="#555555")

    def box(place: dict[str, int]) -> tuple[float, float, float, float]:
        top = _TOP_INCHES + place["y"] * _UNIT_INCHES
        left, wide = 0.01 + 0.98 * place["x"] / 24, 0.98 * place["w"] / 24
        return left, 1 - (top + place["h"] * _UNIT_INCHES) / height, wide, place["h"] * _UNIT_INCHES / height

    for row in (panel for panel in dashboard["panels"] if panel["type"] == "row"):
        left, bottom, _, tall = box(row["gridPos"])
        figure.text(left + 0.002, bottom + tall * 0.25, row["title"], fontsize=10.5, weight="bold", color="#333333")
    empty = []
    for panel in panels(dashboard):
        left, bottom, wide, tall = box(panel["gridPos"])
        frame = figure.add_axes((left + 0.002, bottom + 0.05 / height, wide - 0.004, tall - 0.1 / height))
        frame.set_xticks([])
        frame.set_yticks([])
        for side in frame.spines.values():
            side.set_color("#d9d9d9")
        figure.text(left + 0.006, bottom + tall - 0.22 / height, panel["title"], fontsize=8, weight="bold")
        inside = figure.add_axes(_inside(panel["type"], (left, bottom, wide, tall), height))
        answers = source.answers(panel)
        draw(inside, panel, answers, (source.start, source.end))
        if not answers:
            empty.append(panel["title"])
        elif panel["type"] in {"timeseries", "heatmap"}:
            for color, moments in events:
                for moment in moments:
                    inside.axvline(moment / 86400, color=COLORS[color], lw=0.9, ls=":")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return empty


def _variables(dashboard: dict[str, Any]) -> list[str]:
    return [variable["name"] for variable in dashboard["templating"]["list"]]


def _name(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), legend)


def _inside(kind: str, box: tuple[float, float, float, float], height: float) -> tuple[float, float, float, float]:
    """Return the area within a panel's frame that is left for its drawing: title above, axes and legend around."""
    left, bottom, wide, tall = box
    below = {"timeseries": 0.75, "heatmap": 0.35, "state-timeline": 0.75}.get(kind, 0.12)
    beside = {"stat": 0.004, "table": 0.006, "bargauge": 0.1, "state-timeline": 0.08}.get(kind, 0.055)
    after = min(beside, 0.01)
    return left + beside, bottom + below / height, wide - beside - after, tall - (below + 0.32) / height


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no time: write a number and s, m, h or d, such as 30m")
    return int(match[1]) * _SECONDS[match[2]]


def _address(text: str) -> str:
    if urllib.parse.urlsplit(text).scheme not in {"http", "https"}:
        raise argparse.ArgumentTypeError(f"{text} is no address: write http://HOST:PORT")
    return text


def _reason(error: urllib.error.URLError) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"Prometheus refused a query: {error.read().decode(errors='replace')}"
    return f"Prometheus does not answer: {error.reason}"


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw the dashboards from a running Prometheus.")
    parser.add_argument(
        "--prometheus", type=_address, required=True, metavar="URL", help="such as http://127.0.0.1:9090"
    )
    parser.add_argument(
        "--range", type=_seconds, default="1h", metavar="TIME", help="how far back to look, such as 30m (default 1h)"
    )
    parser.add_argument("--end", type=float, metavar="UNIX", help="the end of the range in Unix seconds (default now)")
    parser.add_argument("--scrape-seconds", type=int, default=15, help="how often Prometheus scrapes (default 15)")
    parser.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="such as pipeline=digits")
    parser.add_argument("--output", type=Path, default=_ROOT / "docs" / "img", help="the folder (default docs/img)")
    boards = ("pipeline", "fleet", "operator")
    parser.add_argument("--dashboard", action="append", choices=boards, help="only this one; may be given again")
    options = parser.parse_args(arguments)
    options.dashboard = options.dashboard or boards
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
