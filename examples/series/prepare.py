"""Makes a series to forecast: two years of hours, with days, weeks, a slow drift, and noise that lasts some hours.

Called with a folder. The first column is what is forecast, the others are what is known of an hour: its place in the
day and in the week.
"""

import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Write ``hours.npy``, ``[17520, 3]`` float32."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    hours = np.arange(2 * 365 * 24)
    random = np.random.default_rng(7)
    noise = np.convolve(random.normal(size=len(hours)), 0.8 ** np.arange(24))[: len(hours)]
    day, week = 2 * np.pi * hours / 24, 2 * np.pi * hours / 168
    load = 500 + 120 * np.sin(day) + 60 * np.sin(2 * day + 1) + 80 * np.cos(week) + hours / 200 + 12 * noise
    np.save(folder / "hours.npy", np.column_stack([load, hours % 24, hours // 24 % 7]).astype(np.float32))


if __name__ == "__main__":
    main()
