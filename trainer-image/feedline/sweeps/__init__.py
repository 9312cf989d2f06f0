"""Sweeps: which parameters the next trial of a sweep gets, which trial is ended early, and when the sweep is done.

What happens is decided by what the trials are now, and all of that is pure; `local` runs them as processes of one
machine. Others take `decide` with what it says, `suggest`, and `LocalSweep`.
"""

from feedline.sweeps.decide import Decision, Stop, decide
from feedline.sweeps.local import SWEEP, LocalSweep, read_trials, sweep_in
from feedline.sweeps.suggest import suggest
from feedline.sweeps.trials import State, Trial, best_of, ranked

__all__ = [
    "SWEEP",
    "Decision",
    "LocalSweep",
    "State",
    "Stop",
    "Trial",
    "best_of",
    "decide",
    "ranked",
    "read_trials",
    "suggest",
    "sweep_in",
]
