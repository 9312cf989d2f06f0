"""Ctrl-C and SIGTERM: the step at hand is finished, the report is written, and a second Ctrl-C ends at once."""

import json
import os
import signal
import sys
import time

import psutil
import pytest

# Says when it trains, and would do so for a minute; a step is short.
LOOP = """
import pathlib
import time

def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            run.report(loss=0.5)
            time.sleep(0.001)
            if run.train.steps == 3:
                pathlib.Path("training").touch()
"""

# Works on one batch for ever.
STUCK = """
import pathlib
import time

def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            pathlib.Path("training").touch()
            while True:
                time.sleep(0.01)
"""

PROGRAM = """
import feedline
import own

own.train(feedline.Run.from_environment())
"""

BY_KERAS = """
import pathlib
import keras

class Tell(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        pathlib.Path("training").touch()

def train(run):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    steps = {"epochs": run.max_epochs, "steps_per_epoch": run.steps_per_epoch}
    model.fit(run.dataset, **steps, callbacks=[*run.callbacks, Tell()], verbose=0)
"""


class Started:
    """A `feedline run` in a session of its own."""

    def __init__(self, process, project, code, *changes, backend="pytorch"):
        self._process = process
        self.folder = project.folder
        (self.folder / "own.py").write_text(code)
        (self.folder / "program.py").write_text(PROGRAM)
        sets = [part for change in ("spec.train.seconds=60", *changes) for part in ("--set", change)]
        volume = ("--volume", f"data={project.data}")
        command = ["run", "pipeline.yaml", "--backend", backend, *volume, "--report", "report.json", *sets]
        self.number = process.ask("apart", folder=str(self.folder), arguments=command)
        self._ended = False

    @property
    def errors(self):
        path = self.folder / "errors"
        return path.read_text() if path.exists() else ""

    def until(self, condition):
        deadline = time.monotonic() + 300
        while not condition():
            assert psutil.Process(self.number).status() != psutil.STATUS_ZOMBIE, self.errors
            assert time.monotonic() < deadline, "it does not come to that"
            time.sleep(0.01)

    def until_training(self):
        self.until((self.folder / "training").exists)

    def ctrl_c(self):
        """Do what a terminal does: every process in the foreground gets it."""
        os.killpg(self.number, signal.SIGINT)

    def ended(self):
        """Return the exit code, what it said, and its report."""
        self.until_ended()
        code = self._process.ask("wait", process=self.number)
        self._ended = True
        report = self.folder / "report.json"
        return code, self.errors, json.loads(report.read_text()) if report.exists() else None

    def until_ended(self):
        deadline = time.monotonic() + 300
        while psutil.Process(self.number).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.01)

    def kill(self):
        if not self._ended:
            os.killpg(self.number, signal.SIGKILL)
            self._process.ask("wait", process=self.number)


@pytest.fixture
def start(project, apart):
    started = []

    def start(code, *changes, **options):
        started.append(Started(apart, project, code, *changes, **options))
        return started[0]

    yield start
    for each in started:
        each.kill()


def a_program():
    return f"spec.train.command={json.dumps([sys.executable, '-m', 'program'])}"


@pytest.mark.parametrize(
    ("code", "changes", "backend"),
    [
        pytest.param(LOOP, [], "pytorch", id="a loop over the feed"),
        pytest.param(LOOP, ["spec.loader.engine=Classic"], "pytorch", id="a loop over worker processes"),
        pytest.param(LOOP, [a_program()], "pytorch", id="a program of one's own"),
        pytest.param(BY_KERAS, [], "keras", id="fit over the feed"),
    ],
)
def test_ctrl_c_finishes_the_step_and_writes_the_report(start, code, changes, backend):
    run = start(code, *changes, backend=backend)
    run.until_training()
    run.ctrl_c()
    exit_code, errors, report = run.ended()
    assert exit_code == 130, errors
    assert (report["reason"], report["exitCode"]) == ("Interrupted", 130)
    assert report["message"].startswith("interrupted after ")
    assert report["steps"] >= 3
    assert "Traceback" not in errors
    assert errors.count("stopping after this step; Ctrl-C again to stop at once") == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([], id="a loop over the feed"),
        pytest.param(["spec.loader.engine=Classic"], id="a loop over worker processes"),
        pytest.param([a_program()], id="a program of one's own"),
    ],
)
def test_sigterm_finishes_the_step_and_writes_the_report(start, changes):
    run = start(LOOP, *changes)
    run.until_training()
    os.kill(run.number, signal.SIGTERM)
    exit_code, errors, report = run.ended()
    assert exit_code == 143, errors
    assert (report["reason"], report["exitCode"]) == ("Terminated", 143)
    assert report["message"].startswith("terminated after ")
    assert "Traceback" not in errors


def test_a_second_ctrl_c_ends_a_step_that_does_not_end(start):
    run = start(STUCK)
    run.until_training()
    run.ctrl_c()
    run.until(lambda: "Ctrl-C again" in run.errors)
    run.ctrl_c()
    exit_code, errors, report = run.ended()
    assert (exit_code, report) == (130, None)
    assert "Traceback" not in errors


def test_ctrl_c_before_the_first_batch_is_130_too(start):
    run = start("import pathlib, time\npathlib.Path('training').touch()\ntime.sleep(60)\n")
    run.until_training()
    run.ctrl_c()
    exit_code, errors, report = run.ended()
    assert exit_code == 130, errors
    assert report["message"] == "interrupted before the first batch"
    assert "Traceback" not in errors
