"""Sweeps on this machine: the trials are processes, and their folders are all that is remembered of them."""

from feedline.local.sweep import SWEEP, LocalSweep, read_trials, sweep_in

__all__ = ["SWEEP", "LocalSweep", "read_trials", "sweep_in"]
