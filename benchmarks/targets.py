"""What the feed must reach, as ratios of two ways in the same round; pure arithmetic on what was measured."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Rates = Mapping[tuple[str, int], Sequence[float]]
"""Rows a second of every round, by way and batch size."""


@dataclass(frozen=True)
class Target:
    """`ours` is to be at least `factor` times as fast as the fastest of `others`, at `batch_size`."""

    ours: str
    others: tuple[str, ...]
    batch_size: int
    factor: float


@dataclass(frozen=True)
class Ratio:
    """Median and range over the rounds of the ratios within each round."""

    median: float
    low: float
    high: float


TARGETS = (
    Target("feed", ("take",), 32, 1.6),
    Target("feed", ("take",), 256, 1.6),
    Target("feed", ("take",), 1024, 1.5),
    Target("feed-pytorch", ("take",), 32, 1.0),
    Target("feed-pytorch", ("take",), 256, 1.4),
    Target("feed-pytorch", ("take",), 1024, 1.3),
    Target("feed-tensorflow", ("take",), 32, 0.6),
    Target("feed-tensorflow", ("take",), 256, 1.0),
    Target("feed-tensorflow", ("take",), 1024, 1.0),
    Target("feed-pytorch", ("feed",), 256, 0.9),
    Target("feed-tensorflow", ("feed",), 256, 0.85),
    Target("feed-keras", ("feed",), 256, 0.8),
    Target("feed-8-files", ("feed",), 256, 0.9),
    # Iterating by itself costs Keras next to nothing: what a ready batch bounds is `fit`.
    Target("fit-keras-feed", ("fit-keras-ready",), 256, 0.9),
    Target("fit-keras-feed", ("fit-keras-classic",), 256, 1.5),
    # Like is put against like: tensors against tensors, ndarrays against ndarrays.
    Target("feed-pytorch", ("dataloader-0", "dataloader-2"), 256, 15),
    Target("feed-pytorch", ("getitems-0", "getitems-2"), 256, 2),
    Target("feed-tensorflow", ("from-generator", "numpy-function"), 256, 5),
    Target("feed", ("grain-0", "grain-16"), 256, 50),
    Target("feed", ("spdl",), 256, 5),
    Target("feed", ("keras-generator",), 256, 1.5),
)

# Of interest, and nothing is demanded of them.
COMPARISONS = (
    Target("feed", ("two-threads",), 32, 0),
    Target("feed", ("two-threads",), 256, 0),
    Target("feed", ("two-threads",), 1024, 0),
    Target("feed-pytorch", ("tensordataset",), 256, 0),
    Target("feed-tensorflow", ("thread-runner",), 256, 0),
    Target("loop-pytorch-feed", ("loop-pytorch-classic",), 256, 0),
)


def ratio(rates: Rates, target: Target) -> Ratio | None:
    """Return how `ours` compares with the others; None where one of them was not measured."""
    ours = rates.get((target.ours, target.batch_size))
    others = [rates.get((name, target.batch_size)) for name in target.others]
    if not ours or not all(others):
        return None
    # The fastest of the others is sought in every round anew, which is to their advantage.
    best = [max(each) for each in zip(*(other for other in others if other), strict=True)]
    ratios = [mine / theirs for mine, theirs in zip(ours, best, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
