"""Measure what a sweep does: trials until a value is reached, beside a plain study of Optuna.

Writes results/sweeps.md and .json. Nothing here is timed but the question for the next parameters.
"""

import json
import math
import multiprocessing
import statistics
import time
from pathlib import Path

import optuna

from feedline.manifest import parse_sweep
from feedline.sweeps import State, Trial, suggest

HERE = Path(__file__).parent
SEEDS = 100
"""The mean of twenty is still off by a fifth of itself now and then: one run had 56 beside 40 where both have 47."""
MOST_TRIALS = 150


def sphere(x, y):
    return (x - 2) ** 2 + (y + 3) ** 2


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def branin(x, y):
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


def ackley(x, y):
    a = -20 * math.exp(-0.2 * math.sqrt((x**2 + y**2) / 2))
    return a - math.exp((math.cos(2 * math.pi * x) + math.cos(2 * math.pi * y)) / 2) + math.e + 20


def six_hump_camel(x, y):
    return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2


# Bounds of both parameters, and the value to be reached, which chance alone takes some hundred trials for.
FUNCTIONS = {
    "sphere": (sphere, (-5, 5), (-5, 5), 0.1),
    "Rosenbrock": (rosenbrock, (-2, 2), (-1, 3), 0.5),
    "Branin": (branin, (-5, 10), (0, 15), 0.6),
    "Ackley": (ackley, (-5, 5), (-5, 5), 1.5),
    "six-hump camel": (six_hump_camel, (-3, 3), (-2, 2), -0.95),
}


TEMPLATE = {
    "backend": "pytorch",
    "data": {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "train": {"arrays": [{"name": "x", "path": "data/x.npy", "role": "Input"}]},
    },
    "train": {"entrypoint": "own:train", "epochs": 1},
}


def sweep_of(bounds, seed, algorithm="TPE"):
    parameters = [
        {"name": name, "float": {"min": str(low), "max": str(high)}}
        for name, (low, high) in zip("xy", bounds, strict=True)
    ]
    spec = {
        "objective": {"value": "value", "goal": "Minimize"},
        "parameters": parameters,
        "algorithm": {"type": algorithm, "seed": seed},
        "trials": 1000,
        "template": {"spec": TEMPLATE},
    }
    return parse_sweep({"metadata": {"name": "bench"}, "spec": spec})


def ours(function, bounds, target, seed):
    """Return after how many trials the target is reached; each asks anew, by what is known of the others."""
    sweep, trials = sweep_of(bounds, seed), []
    for index in range(MOST_TRIALS):
        values = suggest(sweep, index, trials)
        value = function(values["x"], values["y"])
        if value <= target:
            return index + 1
        trials.append(Trial(index, values, State.COMPLETE, ((100, value),), 100))
    return MOST_TRIALS


def plain(function, bounds, target, seed):
    """Return the same of a study that Optuna keeps."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    for index in range(MOST_TRIALS):
        trial = study.ask()
        value = function(*(trial.suggest_float(name, *each) for name, each in zip("xy", bounds, strict=True)))
        if value <= target:
            return index + 1
        study.tell(trial, value)
    return MOST_TRIALS


def searched(name, seed):
    """Return the trials of both."""
    function, *bounds, target = FUNCTIONS[name]
    return ours(function, bounds, target, seed), plain(function, bounds, target, seed)


def mean(counts):
    """Return the mean and its standard error."""
    return f"{statistics.fmean(counts):.1f} ± {statistics.stdev(counts) / math.sqrt(len(counts)):.1f}"


def asked_at(count):
    """Return the milliseconds that one question takes where so many trials are known, the median of nine."""
    sweep = sweep_of(((-5, 5), (-5, 5)), 0)
    chance = sweep_of(((-5, 5), (-5, 5)), 0, "Random")
    trials = [
        Trial(
            index,
            suggest(chance, index, []),
            State.COMPLETE,
            tuple((100 * n, 1 / (n + index)) for n in range(1, 65)),
            100,
        )
        for index in range(count)
    ]
    taken = []
    for index in range(count, count + 9):
        began = time.perf_counter()
        suggest(sweep, index, trials)
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


def main():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asks = {count: asked_at(count) for count in (50, 500)}
    rows = {}
    with multiprocessing.Pool() as pool:
        for name in FUNCTIONS:
            both = pool.starmap(searched, [(name, seed) for seed in range(SEEDS)])
            rows[name] = dict(zip(("ours", "plain"), zip(*both, strict=True), strict=True))
            print(name, {who: statistics.fmean(counts) for who, counts in rows[name].items()}, flush=True)
    total = {who: statistics.fmean(count for row in rows.values() for count in row[who]) for who in ("ours", "plain")}
    lines = [
        "# Sweeps",
        "",
        "Generated by `make bench-sweeps`.",
        "",
        f"## Trials until a value is reached, the mean of {SEEDS} seeds and its error, at most {MOST_TRIALS}",
        "",
        "| function | feedline, asked anew each time | a study that Optuna keeps |",
        "|---|---:|---:|",
        *(f"| {name} | {mean(row['ours'])} | {mean(row['plain'])} |" for name, row in rows.items()),
        f"| all | {total['ours']:.1f} | {total['plain']:.1f} |",
        "",
        "## A question for the next parameters",
        "",
        "| trials known | TPE |",
        "|---:|---:|",
        *(f"| {count} | {taken:.0f} ms |" for count, taken in asks.items()),
    ]
    (HERE / "results" / "sweeps.md").write_text("\n".join(lines) + "\n")
    (HERE / "results" / "sweeps.json").write_text(json.dumps({"functions": rows, "asks": asks}) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
