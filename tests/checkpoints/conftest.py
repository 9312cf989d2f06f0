"""A run's checkpoints made without a framework: an array whose every element is the step."""

import numpy as np
import pytest

from feedline.checkpoints import Opened, Record, Writer, checkpoints, read_state, state_of
from feedline.checkpoints.folder import commit


class Numbers:
    """Something that can be saved."""

    def __init__(self, step=0):
        self.step = step

    def state_dict(self):
        return {"numbers": np.full(1000, self.step), "step": self.step}

    def load_state_dict(self, state):
        assert (state["numbers"] == state["step"]).all()
        self.step = state["step"]


def record(step, run="me", **more):
    told = {"epoch": 0, "time": "2026-11-28T12:00:00Z", "reason": "Periodic", "objective": None, "facts": {}}
    return Record(run=run, step=step, progress={}, **told | more)


class Kept:
    """The checkpoints of a folder, which are saved one after the other in the test's own thread."""

    def __init__(self, path):
        self.path = path

    def save(self, step, keep=2, best=None, run="me"):
        """Save as the writer does, but let whatever happens come out."""
        from feedline.checkpoints.folder import clear

        writer = Writer(self.path, run, keep)
        writer.copy({"model": state_of("model", Numbers(step))}, lambda: record(step, run))
        whole = commit(self.path, writer.copied, writer.files())
        clear(self.path, keep, best, run)
        return self.path / f"step-{step:012d}", whole

    def newest(self, run="me"):
        """Return the step with which a run would go on, None for none."""
        for found in checkpoints(self.path, run):
            if found.record is not None:
                opened, numbers = Opened(found), Numbers()
                numbers.load_state_dict(read_state(opened, "model"))
                opened.close()
                return numbers.step
        return None

    @property
    def steps(self):
        """The steps of those that are whole, the newest first."""
        return [found.step for found in checkpoints(self.path) if found.record is not None]


@pytest.fixture
def kept(tmp_path):
    return Kept(tmp_path / "checkpoints")
