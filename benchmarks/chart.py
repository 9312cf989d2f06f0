"""The results as a picture: a bar for every way of loading at one batch size."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

_COLORS = {"bound": "#b0b7bf", "feedline": "#1f6fb4", "other": "#d98c3f"}
_PREFERRED = "256"


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the chart; the lines on the bars span all rounds."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ways = [way for way in results["ways"] if way["kind"] in _COLORS and way["rowsPerSecond"]]
    sizes = {size for way in ways for size in way["rowsPerSecond"]}
    size = _PREFERRED if _PREFERRED in sizes else min(sizes, key=int, default=_PREFERRED)
    shown = [(way, way["rowsPerSecond"][size]) for way in ways if size in way["rowsPerSecond"]]
    medians = [rates["median"] / 1e3 for _, rates in shown]
    low = [(rates["median"] - min(rates["rounds"])) / 1e3 for _, rates in shown]
    high = [(max(rates["rounds"]) - rates["median"]) / 1e3 for _, rates in shown]
    figure, axes = plt.subplots(figsize=(9, 0.38 * len(shown) + 1.4))
    bars = axes.barh(
        [way["label"].replace("`", "") for way, _ in shown],
        medians,
        xerr=[low, high],
        color=[_COLORS[way["kind"]] for way, _ in shown],
        error_kw={"elinewidth": 1, "ecolor": "#333333"},
    )
    axes.bar_label(bars, [f"{median:,.0f}" if median >= 10 else f"{median:.1f}" for median in medians], padding=6)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"thousand rows of 2.5 kB a second, batch {size}; lines span all rounds")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)
