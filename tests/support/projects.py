"""A small project on disk, and the processes in which its commands, or other programs, run."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

FOLDERS = [str(Path(__file__).parents[2] / name) for name in ("trainer-image", "operator")]

# Which backend runs in which process: both of Keras' own are there, and each framework is imported once.
PROCESSES = {
    "pytorch": "torch",
    "keras-on-torch": "torch",
    "tensorflow": "tensorflow",
    "keras": "tensorflow",
}
PACKAGES = {"pytorch": ["torch"], "tensorflow": ["tensorflow"], "keras": ["keras", "tensorflow"]}
PACKAGES["keras-on-torch"] = ["keras", "torch"]


def environment(**changed):
    """Return the environment of a child process that imports feedline from this repository."""
    quiet = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "COLUMNS": "200"}
    # For programs that the tests' pipelines start as `python`.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(FOLDERS), **quiet, **changed}


@dataclass
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str
    report: dict = field(default_factory=dict)


@pytest.fixture
def python(tmp_path):
    """Return a function that runs a program in a fresh interpreter, in the test's folder."""

    def python(program, *arguments, **environment):
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(FOLDERS), **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return python


class Process:
    """Answers commands until it is closed; see serve_commands.py."""

    def __init__(self, framework, *imported):
        ours, theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("serve_commands.py"), str(theirs), *imported],
            env=environment(KERAS_BACKEND=framework),
            stdin=subprocess.PIPE,
            text=True,
            pass_fds=[theirs],
        )
        os.close(theirs)
        self._answers = os.fdopen(ours)

    def __call__(self, *arguments, folder, before=""):
        return Ended(**self.ask("here", folder=str(folder), arguments=list(map(str, arguments)), before=before))

    def ask(self, kind, **request):
        self._process.stdin.write(json.dumps({"kind": kind, **request}) + "\n")
        self._process.stdin.flush()
        answer = self._answers.readline()
        assert answer, f"the process ended with {self._process.wait()}"
        return json.loads(answer)

    def close(self):
        self._process.stdin.close()
        self._process.wait(timeout=300)
        self._answers.close()


@pytest.fixture(scope="session")
def apart():
    """Return a process that has imported torch and Keras on it, and done nothing: to start commands apart from it."""
    skip_without("keras-on-torch")
    # The first optimizer of torch imports its compiler, and Keras, when it saves a model, TensorFlow, where it is.
    slow = ("torch", "torch._dynamo", "keras", "tensorflow")
    process = Process("torch", *slow, "feedline.launch", "feedline.keras", "feedline.pytorch")
    yield process
    process.close()


@pytest.fixture(scope="session")
def apart_on_tensorflow():
    """Return a process that has imported TensorFlow and Keras on it, and done nothing: to start commands apart from it."""
    skip_without("keras")
    process = Process("tensorflow", "tensorflow", "keras", "feedline.launch", "feedline.keras", "feedline.tensorflow")
    yield process
    process.close()


@pytest.fixture(scope="session")
def processes():
    """Return a function that gives the process of a framework, started when it is first asked for."""
    started = {}

    def process(framework):
        if framework not in started:
            started[framework] = Process(framework)
        return started[framework]

    yield process
    for each in started.values():
        each.close()


def skip_without(way):
    """Skip the test where a package of `way` is not installed."""
    for package in PACKAGES[way]:
        if find_spec(package) is None:
            assert not os.environ.get("CI"), f"{package} is not installed"
            pytest.skip(f"{package} is not installed")


def manifest(arrays, rows=48):
    """Return a TrainingPipeline over the arrays of `Project`: 48 rows to train with, 6 batches of 8, and 12 more."""
    listed = [{"name": name, "path": f"data/{name}.npy", "role": role} for name, role in arrays.items()]
    return {
        "apiVersion": "feedline.dev/v1alpha1",
        "kind": "TrainingPipeline",
        "metadata": {"name": "small"},
        "spec": {
            "backend": "pytorch",
            "data": {
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
                "train": {"arrays": listed, "rows": {"start": 0, "stop": rows}},
                "validation": {"arrays": listed, "rows": {"start": rows}},
            },
            "loader": {"batchSize": 8, "shuffle": {"mode": "Full", "seed": 7}},
            "train": {"entrypoint": "own:train", "epochs": 2},
        },
    }


LOOP = """
def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            pass
        for batch in run.validation:
            pass
"""

FIT = """
import keras

def train(run):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(
        run.dataset,
        epochs=run.max_epochs,
        steps_per_epoch=run.steps_per_epoch,
        validation_data=run.validation_dataset,
        callbacks=run.callbacks,
        verbose=0,
    )
"""


class Project:
    """A folder with data, a pipeline and a training function, as a user has it."""

    def __init__(self, folder, processes):
        self.folder = folder
        self.data = folder / "data"
        self._processes = processes
        self.data.mkdir()
        random = np.random.default_rng(1)
        labels = np.arange(60, dtype=np.int32) % 3
        self.save("features", (random.normal(size=(60, 4)) + labels[:, None]).astype(np.float32))
        self.save("labels", labels)
        self.save("names", np.array([f"row {row}" for row in range(60)], "S8"))
        self.describe({"features": "Input", "labels": "Target", "names": "Extra"})

    def save(self, name, array):
        """Save an array of the volume `data`."""
        path = self.data / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, array)
        return path

    def describe(self, arrays):
        """Write the pipeline over arrays of a role each."""
        (self.folder / "pipeline.yaml").write_text(json.dumps(manifest(arrays)))

    def command(self, *arguments, way="pytorch", before=""):
        """Run `feedline` with arguments as they are, in the folder of the project."""
        skip_without(way)
        return self._processes(PROCESSES[way])(*arguments, folder=self.folder, before=before)

    def run(self, *changes, way="pytorch", code=None, before="", arguments=()):
        """Run the pipeline, with `changes` by --set, and read its report."""
        loop = FIT if way.startswith("keras") else LOOP
        (self.folder / "own.py").write_text(loop if code is None else dedent(code))
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        changes = (f"spec.backend={way.partition('-')[0]}", *changes)
        sets = [part for change in changes for part in ("--set", change)]
        given = ["--volume", f"data={self.data}", "--report", report]
        ended = self.command("run", "pipeline.yaml", *given, *sets, *arguments, way=way, before=before)
        if report.exists():
            ended.report = json.loads(report.read_text())
        return ended


@pytest.fixture
def project(tmp_path, processes):
    """Return a small project on disk."""
    return Project(tmp_path, processes)
