"""What to do about a sweep: a pure function of it, its trials and the time, as `reconcile` is for a pipeline.

Which parameters come next, which trial ends early and when all is done, `feedline.sweeps` decides, here as on a laptop.
What this room knows is how a trial's TrainingPipeline tells how the trial does, and what is to be done about it.
"""

from feedline_operator.sweeps.children import build, sweep_of, trials_of
from feedline_operator.sweeps.engine import reconcile_sweep, sweep_in
from feedline_operator.sweeps.plan import ChangeTrial, ObservedSweep, SweepPlan
from feedline_operator.sweeps.status import name_taken

__all__ = [
    "ChangeTrial",
    "ObservedSweep",
    "SweepPlan",
    "build",
    "name_taken",
    "reconcile_sweep",
    "sweep_in",
    "sweep_of",
    "trials_of",
]
