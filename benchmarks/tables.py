"""The results as Markdown. Standard library only: the README is made from them wherever the repository is.

Reads the JSON that `run.py` writes, and measures, decides and draws nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any

Results = dict[str, Any]

_HEADINGS = {"bound": "What the machine can do", "feedline": "feedline", "other": "What people use today"}


def document(results: Results) -> str:
    """Return the whole page."""
    return "\n\n".join(
        [
            "# Benchmark",
            f"{_setting(results)}\n\n{_machine(results)}",
            "![Rows a second at each way](feed.png)",
            "## Loading",
            loading(results),
            *_training(results),
            *_targets(results),
            "## Memory and import",
            _footprint(results),
            *_failures(results),
            "",
        ]
    )


def loading(results: Results) -> str:
    """Return the table of all ways of loading: thousands of rows a second, median and range of the rounds."""
    sizes = results["batchSizes"]
    rows = []
    for kind, heading in _HEADINGS.items():
        ways = [way for way in results["ways"] if way["kind"] == kind]
        if ways:
            rows.append([f"**{heading}**", *("" for _ in sizes)])
            rows += [[way["label"], *(_cell(way["rowsPerSecond"].get(str(size))) for size in sizes)] for way in ways]
    return _table(["thousand rows/s", *(f"batch {size}" for size in sizes)], rows)


def readme(results: Results) -> str:
    """Return what the README shows: the chart, the medians, and what they were measured on."""
    sizes = results["batchSizes"]
    rows = [
        [way["label"], *(_median(way["rowsPerSecond"].get(str(size))) for size in sizes)]
        for way in results["ways"]
        if way["rowsPerSecond"]
    ]
    chart = "![Rows a second at each way](benchmarks/results/feed.png)"
    table = _table(["thousand rows/s, median", *(f"batch {size}" for size in sizes)], rows)
    more = "With their spread: [benchmarks/results/feed.md](benchmarks/results/feed.md); `make bench` measures anew."
    return f"{chart}\n\n{table}\n\n{_setting(results)} {_machine(results)} {more}"


def _training(results: Results) -> Iterable[str]:
    ways = [way for way in results["ways"] if way["kind"] == "training" and way["rowsPerSecond"]]
    if ways:
        sizes = sorted({size for way in ways for size in way["rowsPerSecond"]}, key=int)
        rows = [[way["label"], *(_cell(way["rowsPerSecond"].get(size)) for size in sizes)] for way in ways]
        yield "## Training behind it"
        yield "The built-in model with 8 hidden units, so that loading is the bottleneck."
        yield _table(["thousand rows/s", *(f"batch {size}" for size in sizes)], rows)


def _targets(results: Results) -> Iterable[str]:
    rows = []
    for target in results["targets"]:
        wanted = f"≥ {target['factor']:g}" if target["factor"] else "-"
        ratio = target["ratio"]
        figure = f"{ratio['median']:.2f} ({ratio['low']:.2f} - {ratio['high']:.2f})" if ratio else "not measured"
        rows.append(
            [target["ours"], f"against {target['others']}", str(target["batchSize"]), wanted, figure, target["verdict"]]
        )
    if rows:
        yield "## What must be reached"
        yield "Ratios are taken within each round; the table shows their median and range."
        yield _table(["", "", "batch", "wanted", "measured", ""], rows)


def _footprint(results: Results) -> str:
    cost = results["footprint"]
    rows = [
        [
            "anonymous memory after an epoch, no framework imported",
            f"≤ {cost['allowedBytes'] / 1e6:.0f} MB (100 MB + slots + two orders)",
            f"{cost['anonymousBytes'] / 1e6:.0f} MB",
            cost["memoryVerdict"],
        ],
        [
            "`import feedline` over `import numpy`",
            f"≤ {cost['importAllowedMillis']} ms",
            f"{cost['importOverNumpyMillis']:.0f} ms",
            cost["importVerdict"],
        ],
    ]
    return _table(["", "wanted", "measured", ""], rows)


def _failures(results: Results) -> Iterable[str]:
    if results["failed"]:
        lines = [f"- {name}: {message}" for name, message in results["failed"].items()]
        yield "## Not measured"
        yield "\n".join(lines)


def _setting(results: Results) -> str:
    return (
        f"`[{results['rows']:,}, 25, 25]` float32 features and int32 labels ({results['bytes'] / 1e9:.1f} GB), mapped, "
        f"in the page cache, rows in random order; interleaved rounds: {results['rounds']}, {results['seconds']:g} s "
        f"for each way, {results['date']}."
    )


def _machine(results: Results) -> str:
    machine, versions = results["machine"], results["versions"]
    packages = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"{machine['cpus']:g} CPUs of {machine['cpu']}, {machine['memoryBytes'] / 1e9:.0f} GB, {machine['kernel']}; "
        f"{packages}."
    )


def _cell(rates: dict[str, Any] | None) -> str:
    if rates is None:
        return ""
    return f"{_thousands(rates['median'])} ({_thousands(min(rates['rounds']))} - {_thousands(max(rates['rounds']))})"


def _median(rates: dict[str, Any] | None) -> str:
    return "" if rates is None else _thousands(rates["median"])


def _thousands(rate: float) -> str:
    return f"{rate / 1e3:,.0f}" if rate >= 1e4 else f"{rate / 1e3:.1f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a column whose heading is empty holds text and is on the left, as is the first."""
    lines = [headings, ["---", *("---:" if heading else "---" for heading in headings[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rows_document(results: Results) -> str:
    """Return the page of rows of many kinds."""
    setting = f"{_rows_setting(results)} {_machine(results)}"
    return "\n\n".join(["# Rows of many kinds", rows_found(results), setting, ""])


def rows_found(results: Results) -> str:
    """Return what was found of rows of many kinds."""
    return "\n\n".join([rows_table(results), "\n".join(_first_batch(each) for each in results["first"])])


def _first_batch(found: dict[str, Any]) -> str:
    """Return how soon the first batch is there."""
    is_met = found["ms"] <= found["wantedMs"] and (found["wantedMb"] is None or found["mb"] <= found["wantedMb"])
    memory = "" if found["wantedMb"] is None else f" and {found['mb']} MB of memory (at most {found['wantedMb']})"
    return (
        f"- The first batch after `Feed(…)` of {found['rows']:,} rows: {found['ms']:g} ms (at most "
        f"{found['wantedMs']}){memory}; {'met' if is_met else 'NOT MET'}."
    )


def rows_table(results: Results) -> str:
    """Return the table of pairs: ours, theirs, and the ratio."""
    rows = []
    for pair in results["pairs"]:
        wanted = f"≥ {pair['wanted']:g}" if pair["wanted"] else "-"
        met = "" if not pair["wanted"] else "met" if pair["ratio"] >= pair["wanted"] else "NOT MET"
        ratio = f"{pair['ratio']:.2f} ({pair['low']:.2f} - {pair['high']:.2f})"
        ours, theirs = (_thousands(pair[each]) for each in ("ours", "others"))
        rows.append([pair["label"], ours, pair["theirs"], theirs, wanted, ratio, met])
    return _table(["feedline", "thousand rows/s", "beside", "thousand rows/s", "wanted", "ratio", ""], rows)


def _thousands(rate: float) -> str:
    return f"{rate / 1e3:,.3g}" if rate < 1e6 else f"{rate / 1e3:,.0f}"


def _rows_setting(results: Results) -> str:
    return (
        f"{results['rounds']} rounds of {results['seconds']:g} s in turn, {results['date']}, medians; ratios are taken "
        f"within a round. Files of {results['bytes'] / 1e9:.1f} GB, in the page cache; rows are copied by "
        f"{results['gather']} code."
    )
