"""The report of a run of several ranks: what the chief says, with the sums of all, and with whoever holds all back."""

from collections.abc import Mapping
from typing import Any, Final, cast

from feedline.contract import Report

_OF_THE_SLOWEST: Final = ("fetchMicros", "stepMicros", "paging", "majorFaults", "minorFaults", "diskSamples", "verdict")
_OF_ALL: Final = ("samples", "bytes", "samplesPerSecond", "feedSamplesPerSecond", "modelSamplesPerSecond")


def together(own: Report, told: Mapping[int, Report], world: int, nodes: Mapping[int, str]) -> Report:
    """Return the report of all ranks.

    In a training that keeps in step the wait of one rank is everybody's: the share of time that is waited is that of
    the rank that waits most, and so is the verdict, which names it.

    Parameters
    ----------
    own
        Of rank 0.
    told
        Of the others, as they said last; they may be a moment older.
    world
        How many ranks there are.
    nodes
        On which node each is, "" where that is not known.
    """
    every = {0: own, **told}
    report: dict[str, Any] = {**own}
    report |= {field: report[field] * world for field in _OF_ALL if field in own}
    waits = {rank: each["waitPermille"] for rank, each in every.items() if "waitPermille" in each}
    if not waits:
        return cast("Report", report)
    slowest = max(waits, key=lambda rank: (waits[rank], -rank))
    others = max((wait for rank, wait in waits.items() if rank != slowest), default=0)
    report["ranks"] = {"world": world, "slowest": slowest, "waitPermille": waits[slowest], "othersPermille": others}
    node = nodes.get(slowest, "")
    if node:
        report["ranks"]["node"] = node
    report["waitPermille"] = waits[slowest]
    theirs: dict[str, Any] = {**every[slowest]}
    report |= {field: theirs[field] for field in _OF_THE_SLOWEST if field in theirs}
    if report["verdict"]["inputBound"]:
        where = f" on node {node}" if node else ""
        told_first = (
            f"rank {slowest}{where} waits {waits[slowest] / 10:.0f} %, the others at most {others / 10:.0f} %: "
        )
        report["verdict"] = {**report["verdict"], "advice": told_first + report["verdict"]["advice"]}
    return cast("Report", report)
