"""A sweep on this machine: its trials are processes, and whatever ends it, it goes on where it was."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from mergepatch import merge
from projects import environment

from feedline import manifest
from feedline.local import LocalSweep
from feedline.local.sweep import write_down

from .conftest import DOCUMENT

pytestmark = pytest.mark.trainer

# Reports after each epoch what the parameters are worth, and may be told to fail, or to take its time.
TRAIN = """
import os, time

def train(run):
    worth = (run.parameters["learningRate"] - 0.01) ** 2 + run.parameters.get("bad", 0)
    for epoch in run.epochs():
        for batch in run.train:
            pass
        time.sleep(float(os.environ.get("SECONDS", "0")))
        if run.parameters.get("bad") == 3:
            raise ValueError("three is too many")
        if run.parameters.get("bad") == 9:
            os.kill(os.getpid(), 9)
        run.report(step=0.5, **{run.parameters.get("called", "val_loss"): worth + 1 / (epoch + 1)})
"""
SLOW = {"spec": {"train": {"epochs": 12, "parameters": {"learningRate": 0.1}}}}


@pytest.fixture
def sweep_in(tmp_path):
    """Return a function that runs `feedline sweep …` in a folder with data, a module and a sweep."""
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "x.npy", np.zeros((256, 4), np.float32))
    (tmp_path / "digits.py").write_text(TRAIN)

    class Folder:
        path = tmp_path
        output = tmp_path / "sweeps" / "lr-search"

        def write(self, **spec):
            defaults = {
                "parameters": [{"name": "learningRate", "float": {"min": "1e-4", "max": "1e-1", "scale": "Log"}}],
                "trials": 4,
                "parallel": 2,
                "template": {"spec": {"loader": {"batchSize": 32}, "train": {"epochs": 3}}},
            }
            document = merge(merge(DOCUMENT, {"spec": defaults}), {"spec": spec})
            (tmp_path / "sweep.yaml").write_text(manifest.to_yaml(document))

        def command(self, *arguments):
            return [sys.executable, "-c", "from feedline.cli import main; main()", "sweep", *map(str, arguments)]

        def run(self, *arguments, **variables):
            return subprocess.run(
                self.command("run", "sweep.yaml", "--volume=digits=data", *arguments),
                cwd=tmp_path,
                env=environment(**variables),
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )

        def begin(self, *arguments, **variables):
            return subprocess.Popen(
                self.command("run", "sweep.yaml", "--volume=digits=data", *arguments),
                cwd=tmp_path,
                env=environment(**variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        def show(self):
            done = subprocess.run(
                self.command("show", self.output, "--json"),
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return {each["trial"]: each for each in json.loads(done.stdout)}

    return Folder()


def test_trials_run_and_the_best_is_named(sweep_in):
    sweep_in.write()
    done = sweep_in.run()
    assert done.returncode == 0, done.stderr
    trials = sweep_in.show()
    assert sorted(trials) == [0, 1, 2, 3]
    assert {each["state"] for each in trials.values()} == {"Complete"}
    worth = {index: (each["parameters"]["learningRate"] - 0.01) ** 2 + 1 / 3 for index, each in trials.items()}
    assert {index: float(each["best"]) for index, each in trials.items()} == pytest.approx(worth)
    assert next(iter(trials)) == min(worth, key=worth.get)
    assert f"best: lr-search-{next(iter(trials))}  complete  val_loss" in done.stdout
    assert [rows for rows, _ in trials[0]["curve"]] == [256, 512, 768]
    assert done.stderr.count("complete") == 4

    file = sweep_in.path / "trials.csv"
    exported = subprocess.run(
        sweep_in.command("export", sweep_in.output, "--csv", file), env=environment(), capture_output=True, check=False
    )
    assert exported.returncode == 0
    with file.open(newline="") as lines:
        told = list(csv.DictReader(lines))
    assert [float(line["best"]) for line in told] == [float(trials[index]["best"]) for index in range(4)]
    assert [float(line["learningRate"]) for line in told] == [
        trials[index]["parameters"]["learningRate"] for index in range(4)
    ]


def test_a_sweep_that_lies_there_is_gone_on_with_or_left_alone(sweep_in):
    sweep_in.write(trials=1)
    assert sweep_in.run().returncode == 0
    again = sweep_in.run()
    assert again.returncode == 64
    assert "there is a sweep: go on with it by --resume, or name another folder" in again.stderr
    sweep_in.write(trials=2, parallel=1)
    more = sweep_in.run("--resume")
    assert more.returncode == 0, more.stderr
    assert sorted(sweep_in.show()) == [0, 1]
    sweep_in.write(trials=2, algorithm={"seed": 9})
    other = sweep_in.run("--resume")
    assert other.returncode == 64
    assert "there is another sweep: what is swept, how and over which template cannot change" in other.stderr


def test_users_faults_are_told_apart_from_bad_parameters(sweep_in):
    bad = {"name": "bad", "choice": {"values": [0, 3]}}
    rate = {"name": "learningRate", "choice": {"values": [0.1, 0.2]}}
    sweep_in.write(parameters=[bad, rate], algorithm={"type": "Grid"}, maxFailed=2)
    done = sweep_in.run()
    assert done.returncode == 0, done.stderr
    trials = sweep_in.show()
    failed = {index: each["message"] for index, each in trials.items() if each["state"] == "Failed"}
    assert failed == {2: "ValueError: three is too many", 3: "ValueError: three is too many"}

    sweep_in.output.rename(sweep_in.output.with_name("before"))
    rates = [{"name": "learningRate", "choice": {"values": [0.1, 0.2, 0.3, 0.4]}}]
    template = {"spec": {"train": {"parameters": {"bad": 3}}}}
    sweep_in.write(parameters=rates, algorithm={"type": "Grid"}, template=template)
    done = sweep_in.run("--parallel", "1")
    assert done.returncode == 70
    assert "feedline: the first 3 trials failed alike: ValueError: three is too many" in done.stderr
    assert "lr-search-NUMBER.yaml is deleted runs again with --resume" in done.stderr
    assert sorted(sweep_in.show()) == [0, 1, 2]


def test_an_objective_that_nobody_reports_is_told_with_what_is(sweep_in):
    called = {"name": "called", "choice": {"values": ["loss", "accuracy"]}}
    rate = {"name": "learningRate", "choice": {"values": [0.1, 0.2]}}
    sweep_in.write(parameters=[rate, called], algorithm={"type": "Grid"})
    done = sweep_in.run("--parallel", "1")
    trials = sweep_in.show()
    assert trials[0]["message"] == "val_loss was never reported; reported was loss, step"
    assert trials[1]["message"] == "val_loss was never reported; reported was accuracy, step"
    assert done.returncode == 70


def test_a_trial_that_cannot_be_has_failed_and_the_others_go_on(sweep_in):
    sweep_in.write(trials=2, parallel=1)
    assert sweep_in.run().returncode == 0
    shutil.rmtree(sweep_in.output / "lr-search-1")
    file = sweep_in.output / "lr-search-1.yaml"
    file.write_text(file.read_text().replace("batchSize: 32", "batchSize: 1.5"))
    done = sweep_in.run("--resume", "--set", "spec.trials=3", "--set", "spec.maxFailed=1")
    assert done.returncode == 0, done.stderr
    trials = sweep_in.show()
    assert [trials[index]["state"] for index in range(3)] == ["Complete", "Failed", "Complete"]
    assert "spec.loader.batchSize: must be an integer" in trials[1]["message"]


def test_a_combination_that_cannot_be_does_not_begin(tmp_path, monkeypatch):
    sweep = manifest.parse_sweep(DOCUMENT)
    local = LocalSweep(tmp_path, sweep, lambda _: 256, (), tmp_path)
    values = {"learningRate": 0.01, "batch": 1.5, "optimizer": "sgd"}
    monkeypatch.setattr("feedline.local.sweep.suggest", lambda *_: values)
    begun = []
    local._starter = SimpleNamespace(start=lambda arguments, _: begun.append(arguments))
    local._begin(0, [])
    (trial,) = local.trials()
    assert begun == []
    assert (trial.state, trial.parameters) == ("Failed", values)
    assert trial.message == "spec.loader.batchSize: must be an integer (got 1.5)"


class EnoughError(Exception):
    """It was looked often enough."""


def test_a_trial_that_is_ended_before_it_goes_on_does_not(tmp_path):
    pruning = {"rule": "Median", "warmup": 1, "minTrials": 2}
    sweep = manifest.parse_sweep(merge(DOCUMENT, {"spec": {"trials": 4, "parallel": 4, "pruning": pruning}}))
    local = LocalSweep(tmp_path / "s", sweep, lambda _: 256, (), tmp_path)
    local.folder.mkdir()
    write_down(local.folder, sweep, resumes=False)
    for index in range(4):
        values = {"learningRate": 0.01, "batch": 32, "optimizer": "sgd"}
        (local.folder / f"lr-search-{index}.yaml").write_text(manifest.to_yaml(sweep.pipeline_of(index, values)))
        output = local.folder / f"lr-search-{index}"
        (output / "checkpoints" / "step-8").mkdir(parents=True)
        (output / "run.json").write_text(json.dumps({"run": str(index)}))
        (output / "history.csv").write_text(f"step,epoch,seconds,val_loss\n8,0,1,{9 if index == 3 else 0.1}\n")
        if index < 3:
            (output / "report.json").write_text(json.dumps({"exitCode": 0, "values": {"val_loss": "0.1"}}))
    begun, looks = [], []
    local._starter = SimpleNamespace(start=lambda arguments, _: begun.append(arguments))

    def watch(trials):
        looks.append([trial.state for trial in trials])
        if len(looks) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        local.run(watch, resumes=True)
    assert begun == []
    assert [states[3] for states in looks] == ["Running", "Pruned"]
    assert not (local.folder / "lr-search-3" / "checkpoints").exists()
    assert (local.folder / "lr-search-0" / "checkpoints").exists()


def test_what_a_sweep_that_fails_has_begun_goes_on_when_more_may_fail(sweep_in):
    bad = {"name": "bad", "choice": {"values": [3, 0, 1]}}
    sweep_in.write(parameters=[bad], algorithm={"type": "Grid"}, maxFailed=0, template=SLOW)
    done = sweep_in.run("--parallel", "3", SECONDS="0.3")
    assert done.returncode == 70
    assert "1 trials failed, and spec.maxFailed is 0" in done.stderr
    assert {each["state"] for each in sweep_in.show().values()} == {"Failed", "Running"}
    done = sweep_in.run("--resume", "--set", "spec.maxFailed=1", "--parallel", "1")
    assert done.returncode == 0, done.stderr
    trials = sweep_in.show()
    assert [trials[index]["state"] for index in range(3)] == ["Failed", "Complete", "Complete"]
    # What was deleted by half is begun anew, with nothing of what it was.
    (sweep_in.output / "lr-search-1.yaml").unlink()
    before = (sweep_in.output / "lr-search-1" / "run.json").read_text()
    done = sweep_in.run("--resume", "--set", "spec.maxFailed=1")
    assert done.returncode == 0, done.stderr
    assert (sweep_in.output / "lr-search-1" / "run.json").read_text() != before


def test_a_trial_that_is_killed_gets_more_attempts_and_its_end_is_told(sweep_in):
    template = {"spec": {"train": {"parameters": {"learningRate": 0.1}}}}
    bad = {"name": "bad", "choice": {"values": [9, 0]}}
    sweep_in.write(parameters=[bad], algorithm={"type": "Grid"}, template=template)
    done = sweep_in.run()
    assert done.returncode == 0, done.stderr
    trials = sweep_in.show()
    assert trials[0]["message"] == "its process was killed by SIGKILL, 3 times"
    assert trials[1]["state"] == "Complete"


def test_a_trial_that_goes_badly_is_ended(sweep_in):
    rate = {"name": "learningRate", "choice": {"values": [0.01, 0.02, 0.03, 9.0]}}
    sweep_in.write(
        parameters=[rate],
        algorithm={"type": "Grid"},
        parallel=1,
        pruning={"rule": "Median", "warmup": 1, "minTrials": 3},
        template={"spec": {"train": {"epochs": 30}}},
    )
    saves = "    import torch\n    run.checkpoint(model=torch.nn.Linear(1, 1))\n    for epoch"
    (sweep_in.path / "digits.py").write_text(TRAIN.replace("    for epoch", saves, 1))
    done = sweep_in.run(SECONDS="0.1")
    assert done.returncode == 0, done.stderr
    trials = sweep_in.show()
    assert [trials[index]["state"] for index in range(4)] == ["Complete", "Complete", "Complete", "Pruned"]
    weighs = [bool(list((sweep_in.output / f"lr-search-{index}").rglob("*.safetensors"))) for index in range(4)]
    assert weighs == [True, True, True, False], "nobody goes on with what was ended"
    assert "the median of 3 trials there is" in trials[3]["message"]
    assert len(trials[3]["curve"]) < 30


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_sweep_that_is_ended_goes_on_with_the_same_trials(sweep_in, how):
    sweep_in.write(trials=3, template={"spec": {"train": {"epochs": 12}}})
    running = sweep_in.begin(SECONDS="0.3")
    history = sweep_in.output / "lr-search-0" / "history.csv"
    wait_for(lambda: history.exists() and len(history.read_text().splitlines()) > 3)
    before = {path.name: path.read_text() for path in sweep_in.output.glob("lr-search-*.yaml")}
    running.send_signal(getattr(signal, how))
    running.wait(60)
    assert running.returncode == {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}[how]
    done = sweep_in.run("--resume")
    assert done.returncode == 0, done.stderr
    trials = sweep_in.show()
    assert [trials[index]["state"] for index in range(3)] == ["Complete"] * 3
    for name, text in before.items():
        assert (sweep_in.output / name).read_text() == text, "a trial keeps its parameters"
    for each in trials.values():
        assert [rows for rows, _ in each["curve"]] == [256 * epoch for epoch in range(1, 13)], "nothing twice or lost"


def test_two_sweeps_in_one_folder_are_refused(sweep_in):
    sweep_in.write(trials=1, template={"spec": {"train": {"epochs": 12}}})
    running = sweep_in.begin(SECONDS="0.3")
    wait_for((sweep_in.output / "lr-search-0.yaml").exists)
    other = sweep_in.run("--resume")
    assert other.returncode == 64
    assert "another sweep is running there: wait for it" in other.stderr
    running.send_signal(signal.SIGTERM)
    running.wait(60)
