"""Which trials are ended early: compared after as many rows, whatever their batches and however fast they are. Pure.

The rules are those of Google's Vizier (Golovin and others, 2017) and of asynchronous successive halving (Li and others,
2018), where a trial stops and never waits. Compared are the values of all trials that have come as far, the pruned ones
too: of survivors alone the bar would rise with each that is ended.
"""

import math
import statistics
from collections.abc import Sequence

from feedline.manifest import Objective, Pruning
from feedline.sweeps.trials import State, Trial, is_reckoned


def pruned(trial: Trial, others: Sequence[Trial], objective: Objective, pruning: Pruning) -> str:
    """Return why a trial is to be ended now; "" where it is not.

    Parameters
    ----------
    trial
        That is running.
    others
        All other trials, whatever their state.
    """
    if pruning.rule == "None" or not trial.curve:
        return ""
    border = _last_border(trial.curve[-1][0], trial.rows_of_epoch, pruning)
    if border is None:
        return ""
    rows, epochs = border
    there = [each for each in others if each.state != State.FAILED and each.curve and each.curve[-1][0] >= rows]
    there = [each for each in there if each.until(rows)]
    if len(there) < pruning.min_trials:
        return ""
    own = max((_merit(value, objective) for value in trial.until(rows)), default=-math.inf)
    merits = [_merit(each.until(rows)[-1], objective) for each in there]
    why = _below_median(own, merits, objective) if pruning.rule == "Median" else _not_among_best(own, merits, pruning)
    return f"{_shown(own, objective)} after {'1 epoch' if epochs == 1 else f'{epochs} epochs'}; {why}" if why else ""


def _merit(value: float, objective: Objective) -> float:
    """Return how good a value is; one that cannot be reckoned with is worse than all others."""
    return objective.merit(value) if is_reckoned(value) else -math.inf


def _below_median(own: float, merits: Sequence[float], objective: Objective) -> str:
    median = statistics.median(merits)
    return "" if own >= median else f"the median of {len(merits)} trials there is {_shown(median, objective)}"


def _not_among_best(own: float, merits: Sequence[float], pruning: Pruning) -> str:
    places = math.ceil((len(merits) + 1) / pruning.reduction_factor)
    if sum(merit > own for merit in merits) < places:
        return ""
    return f"the best {places} of {len(merits) + 1} trials there go on"


def _last_border(reached: int, rows_of_epoch: int, pruning: Pruning) -> tuple[int, int] | None:
    """Return the last border at or before some rows, in rows and in epochs; None before the first."""
    epochs = reached // rows_of_epoch if rows_of_epoch else 0
    if epochs < pruning.warmup:
        return None
    if pruning.rule == "Median":
        border = epochs - (epochs - pruning.warmup) % pruning.interval
    else:
        border = pruning.warmup
        while border * pruning.reduction_factor <= epochs:
            border *= pruning.reduction_factor
    return border * rows_of_epoch, border


def _shown(merit: float, objective: Objective) -> str:
    return "nothing" if merit == -math.inf else f"{objective.value_of(merit):.4g}"
