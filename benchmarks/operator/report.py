"""What both programs of this folder begin and end with: exit codes, the setting, results as JSON and as a page."""

import argparse
import json
import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import machine
from cluster.errors import ClusterError

Results = dict[str, Any]

RESULTS = Path(__file__).resolve().parents[1] / "results"


def program(measure: Callable[[], None], out: Path) -> int:
    """Call `measure`, which writes into the folder `out`; return the exit code, with a sentence on what went wrong."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        measure()
    except (ClusterError, AssertionError, OSError) as error:
        say(f"feedline: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nfeedline: interrupted; no results were written")
        return 130
    return 0


def whole(least: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number of at least `least`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least} (got {text})")
        return int(text)

    return parse


def setting(cluster_version: str, before: dict[str, Any]) -> Results:
    """Return on what and when something was measured; `before` is the machine as it was at the beginning."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": {**before, "loadAtEnd": machine.describe()["load"]},
        "versions": {
            "python": platform.python_version(),
            "Kubernetes": cluster_version,
            **{package: version(package) for package in ("feedline", "kopf", "kubernetes", "aiohttp")},
        },
    }


def sentence(results: Results) -> str:
    """Return the setting as one sentence."""
    on, versions = results["machine"], results["versions"]
    return (
        f"{results['date']}, {on['cpus']:g} CPUs of {on['cpu']} for etcd, API server, controllers, operator and "
        f"measurement together, {on['kernel']}, load {on['load']} at the beginning and {on['loadAtEnd']} at the end; "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + "."
    )


def write(name: str, results: Results, page: str, folder: Path) -> None:
    """Write NAME.json and NAME.md, and print the page."""
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (folder / f"{name}.md").write_text(page)
    print(page)
    say(f"written: {folder}/{name}.json, {name}.md")


def say(line: str) -> None:
    """Say how far it is, on stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
