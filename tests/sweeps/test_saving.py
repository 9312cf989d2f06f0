"""What ending trials early saves, on curves of the digits that were recorded once.

`curves.json` holds 60 trials of examples/sweep, their parameters chosen by chance, and the accuracy after each of 20
epochs: `feedline sweep run examples/sweep/sweep.yaml --set spec.algorithm.type=Random --set spec.trials=60 --set
spec.pruning.rule=None --set spec.template.spec.train.epochs=20`, and `feedline sweep show --json`.
"""

import json
import random
import statistics
from pathlib import Path

import pytest

from feedline.sweeps import State, Trial, best_of, decide

RECORDED = json.loads((Path(__file__).parent / "curves.json").read_text())
EPOCHS, ROWS, TRIALS = 20, 1500, 30


def run(sweep, curves):
    """Let a sweep run over recorded curves, each running trial an epoch a turn; return its best and the epochs spent."""
    done, states, messages = [0] * TRIALS, {}, {}

    def known():
        return [
            Trial(
                index, {}, state, tuple((ROWS * (n + 1), v) for n, v in enumerate(curves[index][: done[index]])), ROWS
            )
            for index, state in sorted(states.items())
        ]

    while True:
        decision = decide(sweep, known())
        assert decision.failure == ""
        if decision.is_finished:
            return best_of(known(), sweep.objective).best(sweep.objective), sum(done)
        for stop in decision.stop:
            states[stop.index], messages[stop.index] = State.PRUNED, stop.message
        for index in decision.start:
            states[index] = State.RUNNING
        for index, state in states.items():
            if state == State.RUNNING:
                done[index] += 1
                if done[index] == EPOCHS:
                    states[index] = State.COMPLETE


@pytest.mark.parametrize(
    "pruning",
    [
        {"rule": "Median", "warmup": 3, "interval": 1, "minTrials": 5},
        {"rule": "SuccessiveHalving", "warmup": 2, "reductionFactor": 3, "minTrials": 5},
    ],
    ids=lambda pruning: pruning["rule"],
)
def test_pruning_saves_a_third_of_the_epochs_and_finds_as_good_a_trial(sweep, pruning):
    spec = {
        "objective": {"value": "val_accuracy", "goal": "Maximize"},
        "trials": TRIALS,
        "parallel": 4,
        "template": {"spec": {"train": {"epochs": EPOCHS}}},
    }
    patient, hasty = sweep(**spec), sweep(**spec, pruning=pruning)
    saved, worse = [], []
    for seed in range(20):
        curves = random.Random(seed).sample([each["curve"] for each in RECORDED], TRIALS)
        (best, every), (found, spent) = run(patient, curves), run(hasty, curves)
        assert every == TRIALS * EPOCHS
        saved.append(1 - spent / every)
        worse.append(best - found)
    assert statistics.fmean(saved) >= 0.3
    # The accuracy of 297 digits: one more or less is 0.0034.
    assert statistics.median(worse) == 0
    assert statistics.fmean(worse) < 0.0034
