"""Measure what several processes cost, and how they come back: ``make bench-ranks``.

Two nodes of two processes each are played on this machine, and then are two pods of a real node: how soon all have
stopped when one is gone, how soon the training goes on, and how many steps are done again. Between them four ranks
gather rows in processes of their own, beside four threads of one feed. Rounds visit everything in turn. Nothing is
asserted: what is wanted is printed with the figure.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import data
import gangs_in_pods
import machine
from cluster import controllers, jobset
from cluster.errors import ClusterError
from gangs import BATCH, NODES, PROCESSES, SAVED_EVERY, WORLD, Disturbance, Feedline, Gang, Torchrun

import feedline
from feedline.contract import ExitCode
from feedline.errors import FeedlineError

_ROOT: Final = Path(__file__).resolve().parent.parent
_Make = Callable[[Path], Gang]
_DISTURBANCES: Final = (
    Disturbance("the last rank, by SIGKILL", signal.SIGKILL, is_whole_node=False),
    Disturbance("the first node, by SIGKILL", signal.SIGKILL, is_whole_node=True),
    Disturbance("the first node, by SIGTERM", signal.SIGTERM, is_whole_node=True),
)
_STEPS_BEFORE: Final = 40
_FEED_ROWS, _FEED_BATCH, _FEED_SECONDS = 200_000, 1024, 4.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results; return the exit code."""
    parser = argparse.ArgumentParser(description="Measure several processes that train together.")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (3)")
    parser.add_argument("--without-pods", action="store_true", help="leave out the real node, which takes root and Go")
    parser.add_argument("--gather", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=_ROOT / "benchmarks" / "results", help="folder of results")
    options = parser.parse_args(arguments)
    if options.gather:
        folder, rank, begin = options.gather
        print(gathered(Path(folder), int(rank), 1, float(begin)))
        return ExitCode.OK
    try:
        result = measured(options.rounds, has_pods=not options.without_pods)
    except (FeedlineError, ClusterError) as error:
        sys.stderr.write(f"feedline: {error}\n")
        return getattr(error, "exit_code", ExitCode.ENVIRONMENT)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ranks.json").write_text(json.dumps(result, indent=1) + "\n")
    text = table(result)
    (options.out / "ranks.md").write_text(text)
    print(text)
    return ExitCode.OK


def measured(rounds: int, *, has_pods: bool) -> dict[str, Any]:
    """Return all that is measured."""
    if has_pods:
        gangs_in_pods.build_all()
    before, versions = machine.describe(), machine.versions()
    found: dict[str, Any] = {"disturbed": {}, "feed": {"threads": [], "ranks": []}}
    with tempfile.TemporaryDirectory(prefix="feedline-bench-ranks-") as name:
        root = Path(name)
        root.chmod(0o755)  # for pods
        rows = data.prepare(root / "rows", _FEED_ROWS)
        for number in range(rounds):
            _disturb_each(found["disturbed"], (Feedline, Torchrun), root / f"played-{number}")
            # Alone on the machine: nothing of the gangs is left.
            found["feed"]["threads"].append(gathered(rows.folder, None, WORLD, time.time() + 1))
            found["feed"]["ranks"].append(sum(_gathered_by_ranks(rows.folder)))
        if has_pods:
            versions |= {"JobSet": controllers.version(jobset.TOOLS, jobset.MODULE)}
            with gangs_in_pods.node() as place:
                ways = [partial(way, cluster=place[0], image=place[1]) for way in gangs_in_pods.WAYS]
                for number in range(rounds):
                    _disturb_each(found["disturbed"], ways, root / f"pods-{number}")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": before,
        "versions": versions,
        "rounds": rounds,
        **found,
    }


def _disturb_each(found: dict[str, Any], ways: Sequence[_Make], root: Path) -> None:
    """Add what each disturbance took, each of a gang of its own."""
    for by in _DISTURBANCES:
        for way in ways:
            gang = way(root / f"gang-{len(list(root.glob('*')))}")
            found.setdefault(by.title, {}).setdefault(gang.title, []).append(_disturbed(gang, by))


def _disturbed(gang: Gang, by: Disturbance) -> dict[str, float]:
    """Return what a disturbance took; nothing where the training did not come back."""
    try:
        gang.start()
        gang.wait_for_steps(_STEPS_BEFORE)
        took = gang.disturbed(by)
    except TimeoutError as error:
        took = {}
        sys.stderr.write(f"{error}\n")
    finally:
        gang.close()
    sys.stderr.write(f"{gang.title}, {by.title}: {took or 'does not come back'}\n")
    return took


def gathered(folder: Path, rank: int | None, threads: int, begin: float) -> float:
    """Return the rows per second that a feed gathers from some moment on, all of it or one rank's share."""
    arrays = feedline.open_arrays({path.stem: path for path in sorted(folder.glob("*.npy"))})
    place = {} if rank is None else {"rank": rank, "world": WORLD}
    rows = 0
    with feedline.Feed(arrays, batch_size=_FEED_BATCH, threads=threads, seed=1, **place) as feed:
        batches = (batch for _ in iter(int, 1) for batch in feed)
        next(batches)
        time.sleep(max(0.0, begin - time.time()))
        began = time.perf_counter()
        while time.perf_counter() - began < _FEED_SECONDS:
            rows += len(next(iter(next(batches).values())))
        return rows / (time.perf_counter() - began)


def _gathered_by_ranks(folder: Path) -> list[float]:
    begin = time.time() + 3
    command = [sys.executable, __file__, "--gather", str(folder)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(begin)], stdout=subprocess.PIPE, text=True) for rank in range(WORLD)
    ]
    return [float(rank.communicate()[0]) for rank in ranks]


def table(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    here = result["machine"]
    described = (
        f"{NODES} nodes of {PROCESSES} processes each on one machine: PyTorch's DDP over gloo, batches of {BATCH}, a "
        f"step of 20 ms and more, saved every {SAVED_EVERY} steps. Where nothing is said they are played, and what is "
        "around them does its part at once; in pods of a real node with Kubernetes' own controllers, feedline waits "
        "for the ten seconds of the Job controller's back-off. "
        f"Rounds: {result['rounds']}, medians (least to most); {result['date']}, {here['cpus']:g} CPUs of "
        f"{here['cpu']}, {here['kernel']}, load {here['load']}; "
        f"{', '.join(f'{name} {number}' for name, number in result['versions'].items())}."
    )
    lines = [
        "# What several processes cost, and how they come back",
        "",
        described,
        "",
        "| what is ended | way | all others have stopped, s | the first new step, s | steps done again |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for title, ways in result["disturbed"].items():
        for way, rounds in ways.items():
            back = [each for each in rounds if each]
            cells = [_cell([each[key] for each in back]) for key in ("stopped", "goesOn", "stepsLost")]
            lost = f", not back in {len(rounds) - len(back)} of {len(rounds)}" if len(back) < len(rounds) else ""
            lines.append(f"| {title} | {way}{lost} | {' | '.join(cells)} |")
    feed = result["feed"]
    ratios = [ranks / threads for ranks, threads in zip(feed["ranks"], feed["threads"], strict=True)]
    told = (
        f"Rows per second of {WORLD} ranks in processes of their own, with a thread each, by those of one feed with "
        f"{WORLD} threads, from the page cache: **{_cell(ratios)}** (wanted: at least 0.9; the feed: "
        f"{_cell([rate / 1e6 for rate in feed['threads']])} million rows/s)."
    )
    lines += ["", told]
    return "\n".join(lines) + "\n"


def _cell(found: Sequence[float]) -> str:
    if not found:
        return "-"
    return f"{statistics.median(found):.3g} ({min(found):.3g} to {max(found):.3g})"


if __name__ == "__main__":
    sys.exit(main())
