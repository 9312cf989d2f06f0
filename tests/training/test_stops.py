"""SIGTERM wherever it comes: what was trained is kept, and the run ends as one that was never stopped."""

import json
import re
import shutil

import pytest
from safetensors.numpy import load_file

# A schedule steps once an epoch behind the loop, and the last loss is wanted there.
OWN = """
import os
import pathlib
import signal
import torch

def stop(where, step=-1, only=-1):
    flag = pathlib.Path("stopped")
    if where == {where!r} and step == only and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGTERM)

class Schedule:
    epochs = 0
    def state_dict(self):
        stop("save", self.epochs, 1)
        return {{"epochs": self.epochs}}
    def load_state_dict(self, state):
        self.epochs = state["epochs"]

def train(run):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = Schedule()
    run.checkpoint(model=model, optimizer=optimizer, schedule=schedule)
    stop("start")
    for epoch in run.epochs():
        model.train()
        for batch in run.train:
            loss = torch.nn.functional.cross_entropy(model(batch["features"]), batch["labels"].long())
            stop("step", run.train.steps, 9)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            stop("last step", run.train.steps, 12)
            stop("first step", run.train.steps, 1)
        schedule.epochs += 1
        stop("behind the loop", epoch, 1)
        model.eval()
        for batch in run.validation:
            model(batch["features"])
            stop("validation", epoch, 1)
            stop("first validation", epoch, 0)
        run.report(loss=loss, epochs=schedule.epochs)
        stop("end of an epoch", epoch, 1)
    stop("end", 0, 0)
"""
SEEDED = ("spec.train.seed=1", "spec.train.epochs=3")
# On a busy machine, too, a copy is cheap enough to be taken before the last step of an epoch.
CHEAP = (
    "import feedline.training.saver as saver\n"
    "stack.callback(setattr, saver, '_COPY_SECONDS', saver._COPY_SECONDS); saver._COPY_SECONDS = 3600\n"
)
KEPT = ("--output", "kept")


def by_number(name):
    # sequential_9/dense_9/kernel comes before sequential_9/dense_10/kernel.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def result(folder):
    report = json.loads((folder / "report.json").read_text())
    lines = (folder / "history.csv").read_text().splitlines()
    history = [line.split(",")[:2] + line.split(",")[3:] for line in lines]
    same = ("steps", "epochs", "samples", "values", "message")
    # Keras numbers layers by how many there were before in the process.
    tensors = load_file(folder / "model.safetensors")
    weights = [tensors[name].tobytes() for name in sorted(tensors, key=by_number)]
    return weights, history, [report[name] for name in same]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("first step", 1),
        ("step", 9),
        # The last step of an epoch and what is behind it are done again together.
        ("last step", 11),
        ("behind the loop", 11),
        ("validation", 11),
        ("first validation", 5),
        ("end of an epoch", 12),
        ("save", None),
    ],
)
def test_a_stop_anywhere_keeps_what_was_trained_and_goes_on_to_the_same_end(where, kept, project):
    whole = project.run(*SEEDED, code=OWN.format(where=""), arguments=KEPT, before=CHEAP)
    assert whole.code == 0, whole.errors
    shutil.move(project.folder / "kept", project.folder / "whole")
    stopped = project.run(*SEEDED, code=OWN.format(where=where), arguments=KEPT, before=CHEAP)
    assert stopped.code == 143, stopped.errors
    if kept is not None:
        assert stopped.report["checkpoint"]["step"] == kept
        assert stopped.report["steps"] - kept in (0, 1)
    assert (project.folder / "kept/model.safetensors").exists()
    went_on = project.run(*SEEDED, code=OWN.format(where=where), arguments=(*KEPT, "--resume"))
    assert went_on.code == 0, went_on.errors
    assert went_on.report["fromStep"] == stopped.report["checkpoint"]["step"]
    assert result(project.folder / "kept") == result(project.folder / "whole")


def test_a_stop_before_the_first_batch_keeps_nothing_and_the_run_begins_anew(project):
    stopped = project.run(*SEEDED, code=OWN.format(where="start"), arguments=KEPT, before=CHEAP)
    assert stopped.code == 143, stopped.errors
    assert "step" not in stopped.report["checkpoint"]
    went_on = project.run(*SEEDED, code=OWN.format(where="start"), arguments=(*KEPT, "--resume"))
    assert went_on.code == 0, went_on.errors
    assert "fromStep" not in went_on.report


@pytest.mark.parametrize("way", ["tensorflow", "keras", "keras-on-torch"])
def test_the_built_in_models_are_stopped_in_the_validation_and_go_on_to_the_same_end(way, project):
    code = """
        import os, pathlib, signal
        import feedline.models

        def train(run):
            look, flag = run.validation.epoch, pathlib.Path("stopped")

            def epoch(**how):
                for batch in look(**how):
                    if run.train.steps == 12 and pathlib.Path("stop").exists() and not flag.exists():
                        flag.touch()
                        os.kill(os.getpid(), signal.SIGTERM)
                    yield batch

            run.validation.epoch = epoch
            feedline.models.train(run)
        """
    whole = project.run(*SEEDED, way=way, code=code, arguments=KEPT, before=CHEAP)
    assert whole.code == 0, whole.errors
    shutil.move(project.folder / "kept", project.folder / "whole")
    (project.folder / "stop").touch()
    stopped = project.run(*SEEDED, way=way, code=code, arguments=KEPT, before=CHEAP)
    assert stopped.code == 143, stopped.errors
    assert stopped.report["checkpoint"]["step"] == 11
    went_on = project.run(*SEEDED, way=way, code=code, arguments=(*KEPT, "--resume"))
    assert went_on.code == 0, went_on.errors
    assert result(project.folder / "kept") == result(project.folder / "whole")
