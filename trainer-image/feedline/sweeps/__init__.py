"""Sweeps: which parameters the next trial of a sweep gets, which trial is ended early, and when the sweep is done.

What happens is decided by what the trials are now, on a laptop as in a cluster, and all of it is pure. Others take
`decide` with what it says, and `suggest`.
"""

from feedline.sweeps.decisions import Decision, Stop, decide
from feedline.sweeps.pipelines import is_lost, trial_of
from feedline.sweeps.study import write_study
from feedline.sweeps.suggestions import suggest
from feedline.sweeps.trials import Confirmed, State, Trial, best_of, confirmed, flaw, is_confirmation, ranked

__all__ = [
    "Confirmed",
    "Decision",
    "State",
    "Stop",
    "Trial",
    "best_of",
    "confirmed",
    "decide",
    "flaw",
    "is_confirmation",
    "is_lost",
    "ranked",
    "suggest",
    "trial_of",
    "write_study",
]
