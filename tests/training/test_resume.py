"""A run that is killed again and again ends as one that never was: its model, its numbers, the rows of every step."""

import hashlib
import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from feedline.checkpoints import checkpoints

KILLS = 13  # for each of the four ways

# Notes which rows every step has, then lets the built-in model train; a step takes some milliseconds.
NOTED = """
import json
import time
import numpy as np
import feedline.models

def train(run):
    log, epoch_of = open("noted", "a"), run.train.epoch

    def epoch(*, limited):
        for batch in epoch_of(limited=limited):
            log.write(json.dumps([run.train.steps, np.asarray(batch["ids"]).tolist()]) + "\\n")
            log.flush()
            time.sleep(0.002)
            yield batch

    run.train.epoch = epoch
    feedline.models.train(run)
"""

WAYS = {
    "pytorch": ("apart", "pytorch", {"mode": "Full", "seed": 5}, "Keep"),
    "keras-on-torch": ("apart", "keras", {"mode": "None"}, "Drop"),
    "tensorflow": (
        "apart_on_tensorflow",
        "tensorflow",
        {"mode": "Block", "seed": 5, "blockRows": 8, "window": 4},
        "Keep",
    ),
    "keras": ("apart_on_tensorflow", "keras", {"mode": "Full", "seed": 5}, "Drop"),
}


class Attempts:
    """Runs of one pipeline in an output, each in a process of its own."""

    def __init__(self, process, folder, document, output):
        self._process, self.folder, self.output = process, folder / output, output
        self.folder.mkdir()
        (self.folder / "own.py").write_text(NOTED)
        (self.folder / "pipeline.yaml").write_text(json.dumps(document))
        self._volume = f"data={folder / 'data'}"

    @property
    def noted(self):
        """The rows of every step, as each attempt has noted them."""
        path = self.folder / "noted"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("]]")]

    def run(self, kill_after=None, number=signal.SIGKILL):
        """Run an attempt; a number of steps after which it gets a signal; return its exit code."""
        before = len(self.noted)
        command = ["run", "pipeline.yaml", "--volume", self._volume, "--output", "kept", "--resume"]
        process = self._process.ask("apart", folder=str(self.folder), arguments=command)
        while kill_after is not None and len(self.noted) < before + kill_after and is_running(process):
            time.sleep(0.001)
        if kill_after is not None:
            os.kill(process, number)
        return self._process.ask("wait", process=process)

    def result(self):
        """Return all that has to be equal."""
        kept = self.folder / "kept"
        (newest, *_) = checkpoints(kept / "checkpoints")
        history = [line.split(",") for line in (kept / "history.csv").read_text().splitlines()]
        report = json.loads((kept / "report.json").read_text())
        same = ("steps", "epochs", "samples", "bytes", "targetSteps", "values", "objective", "reason", "message")
        return {
            "files": {path.name: digest(path) for path in newest.path.glob("*.safetensors")},
            "published": {path.name: digest(path) for path in kept.glob("*.safetensors")},
            "history": [line[:2] + line[3:] for line in history],
            "report": {name: report[name] for name in same},
        }

    def rows(self):
        """Return the rows of every step; whoever did a step again did it with the same ones."""
        found = {}
        for step, rows in self.noted:
            assert found.setdefault(step, rows) == rows
        return found


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pipeline(backend, shuffle, last_batch):
    arrays = [
        {"name": "features", "path": "data/features.npy", "role": "Input"},
        {"name": "labels", "path": "data/labels.npy", "role": "Target"},
        {"name": "ids", "path": "data/ids.npy", "role": "Extra"},
    ]
    return {
        "apiVersion": "feedline.dev/v1alpha1",
        "kind": "TrainingPipeline",
        "metadata": {"name": "small"},
        "spec": {
            "backend": backend,
            "data": {
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
                "train": {"arrays": arrays, "rows": {"start": 0, "stop": 163}},
                "validation": {"arrays": arrays, "rows": {"start": 163}},
            },
            "loader": {"batchSize": 10, "lastBatch": last_batch, "shuffle": shuffle, "threads": 2},
            "output": {"persistentVolumeClaim": {"claimName": "runs"}},
            "objective": {"value": "val_loss", "goal": "Minimize"},
            "train": {
                "entrypoint": "own:train",
                "seed": 3,
                "epochs": 4,
                "checkpoint": {"everySeconds": 0, "everySteps": 5},
            },
        },
    }


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data/features.npy", rng.standard_normal((203, 6)).astype(np.float32))
    np.save(tmp_path / "data/labels.npy", rng.integers(0, 3, 203))
    np.save(tmp_path / "data/ids.npy", np.arange(203))
    return tmp_path


@pytest.mark.trainer
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(way, data, request):
    process, backend, shuffle, last_batch = WAYS[way]
    document = pipeline(backend, shuffle, last_batch)
    server = request.getfixturevalue(process)
    whole = Attempts(server, data, document, "whole")
    assert whole.run() == 0
    wanted = whole.result()
    steps = wanted["report"]["steps"]
    assert len(whole.rows()) == steps
    choose, kills, round_ = random.Random(way), 0, 0
    while kills < KILLS:
        round_ += 1
        killed = Attempts(server, data, document, f"killed-{round_}")
        code = -signal.SIGKILL
        for _ in range(5):
            # SIGTERM saves itself and ends; SIGKILL does neither.
            number = choose.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            code = killed.run(choose.randint(1, steps // 3), number)
            kills += code != 0
            if code == 0:
                break
            assert code in (-signal.SIGKILL, 128 + signal.SIGTERM), killed.folder
        if code != 0:
            assert killed.run() == 0
        assert killed.rows() == whole.rows()
        assert killed.result() == wanted
