"""Measure the feed against what people use today: ``python benchmarks/run.py``.

Rounds visit every batch size and every way in turn, so that a slow moment of the machine hits all of them, and
ratios are taken within a round. Nothing is asserted: what the feed must reach is printed with the figure, as met or
not met.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import chart
import data
import footprint
import machine
import tables
import targets
import workers
from ways import WAYS, Way

from feedline.contract import ExitCode
from feedline.errors import FeedlineError, StorageError, UsageError

_ROOT = Path(__file__).resolve().parent.parent
_CACHE = _ROOT / ".cache" / "bench"

Rates = dict[tuple[str, int], list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results, print what was reached; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except FeedlineError as error:
        sys.stderr.write(f"feedline: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nfeedline: interrupted; no results were written\n")
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the feed against what people use today.")
    parser.add_argument("--rounds", type=_whole, default=5, help="how often everything is measured (5)")
    parser.add_argument("--seconds", type=_seconds, default=1.0, help="of one measurement (1.0)")
    parser.add_argument("--rows", type=_whole, default=800_000, help="rows of 2.5 kB to read from (800000)")
    parser.add_argument("--batch", type=_whole, nargs="+", default=[32, 256, 1024], help="batch sizes (32 256 1024)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help=f"measure only these: {', '.join(way.name for way in WAYS)}"
    )
    parser.add_argument(
        "--out", type=Path, default=_ROOT / "benchmarks" / "results", help="folder of results (benchmarks/results)"
    )
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1 (got {text})")
    return int(text)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < 3600:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be more than 0 and below 3600 (got {text})")


def _run(options: argparse.Namespace) -> None:
    sizes = sorted(set(options.batch))
    if sizes[-1] > options.rows:
        raise UsageError(f"--batch: {sizes[-1]} is larger than --rows, which is {options.rows}")
    chosen = _chosen(options.only)
    ways, failed = _installed(chosen)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{options.out}: cannot be made ({error.strerror}): choose another --out") from error
    before = machine.describe()
    _say(f"preparing {options.rows:,} rows in {_CACHE.relative_to(_ROOT)}")
    prepared = data.prepare(_CACHE, options.rows)
    cost = footprint.measure(prepared)
    rates = _measure(ways, sizes, options, prepared, failed)
    results = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": before,
        "versions": machine.versions(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "rows": options.rows,
        "bytes": options.rows * data.ROW_BYTES,
        "batchSizes": sizes,
        "ways": [_way(way, rates) for way in ways],
        "targets": [
            _target(target, rates)
            for target in (*targets.TARGETS, *targets.COMPARISONS)
            if target.batch_size in sizes and {way.name for way in chosen}.issuperset((target.ours, *target.others))
        ],
        "footprint": {
            **cost,
            "memoryVerdict": _verdict(cost["anonymousBytes"] <= cost["allowedBytes"]),
            "importVerdict": _verdict(cost["importOverNumpyMillis"] <= cost["importAllowedMillis"]),
        },
        "failed": failed,
    }
    _write(results, options.out)


def _chosen(only: Sequence[str] | None) -> list[Way]:
    known = {way.name for way in WAYS}
    unknown = [name for name in only or [] if name not in known]
    if unknown:
        raise UsageError(f"--only: there is no way {unknown[0]!r}, only {', '.join(way.name for way in WAYS)}")
    return [way for way in WAYS if only is None or way.name in only]


def _installed(ways: Sequence[Way]) -> tuple[list[Way], dict[str, str]]:
    """Return the ways whose packages are here, and a message for each of the others."""
    missing = {}
    for way in ways:
        for package in way.needs:
            if find_spec(package.partition(".")[0]) is None:
                missing[way.name] = f"{package} is not installed"
                _say(f"{way.name} is left out: {missing[way.name]}")
    return [way for way in ways if way.name not in missing], missing


def _measure(
    ways: Sequence[Way], sizes: Sequence[int], options: argparse.Namespace, prepared: data.Data, failed: dict[str, str]
) -> Rates:
    rates: Rates = {}
    with workers.started(dict.fromkeys(way.process for way in ways), prepared) as processes:
        for number in range(options.rounds):
            due = [(way, size) for size in sizes for way in ways if way.is_measured_at(size) and way.name not in failed]
            for count, (way, size) in enumerate(due):
                if way.name in failed:
                    continue
                _progress(f"round {number + 1} of {options.rounds}, {count + 1} of {len(due)}: {way.name} at {size}")
                try:
                    rate = processes[way.process].rows_per_second(way, size, options.seconds)
                except workers.WayFailedError as error:
                    failed[way.name] = f"failed at batch {size}: {error}"
                    _say(f"{way.name} {failed[way.name]}")
                else:
                    rates.setdefault((way.name, size), []).append(rate)
            _say(f"round {number + 1} of {options.rounds} is done")
    # A way that failed in a later round has fewer figures than the others, and no ratio within each round.
    return {key: each for key, each in rates.items() if key[0] not in failed}


def _way(way: Way, rates: Rates) -> dict[str, Any]:
    measured = {size: each for (name, size), each in rates.items() if name == way.name}
    return {
        "name": way.name,
        "label": way.label,
        "kind": way.kind,
        "rowsPerSecond": {
            str(size): {"median": round(statistics.median(each)), "rounds": [round(rate) for rate in each]}
            for size, each in measured.items()
        },
    }


def _target(target: targets.Target, rates: Rates) -> dict[str, Any]:
    ratio = targets.ratio(rates, target)
    labels = {way.name: way.label for way in WAYS}
    return {
        "ours": labels[target.ours],
        "others": ", ".join(labels[name] for name in target.others),
        "batchSize": target.batch_size,
        "factor": target.factor,
        "ratio": vars(ratio) if ratio else None,
        "verdict": _verdict(ratio.median >= target.factor) if ratio and target.factor else "",
    }


def _verdict(met: bool) -> str:  # noqa: FBT001
    return "met" if met else "NOT MET"


def _write(results: dict[str, Any], folder: Path) -> None:
    page = tables.document(results)
    try:
        (folder / "feed.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        (folder / "feed.md").write_text(page)
        chart.draw(results, folder / "feed.png")
    except OSError as error:
        raise StorageError(f"{folder}: the results cannot be written ({error.strerror})") from error
    with suppress(BrokenPipeError):
        print(page)
    _say(f"written: {folder}/feed.json, feed.md, feed.png")


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{line}")
        sys.stderr.flush()


def _say(line: str) -> None:
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    sys.stderr.write(f"{clear}{line}\n")


if __name__ == "__main__":
    sys.exit(main())
