"""`run.strategy`: TensorFlow over several devices of one process, tried with logical CPUs."""

import csv
import json
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
from projects import environment, skip_without
from safetensors.numpy import load_file

DEVICES = """
import os
import tensorflow as tf

each = [tf.config.LogicalDeviceConfiguration()] * int(os.environ["DEVICES"])
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], each)
"""
FIT = (
    DEVICES
    + """
import keras

class Killed(keras.callbacks.Callback):
    def __init__(self, run):
        self.run = run

    def on_train_batch_end(self, batch, logs=None):
        if self.run.train.steps == int(os.environ.get("KILLED_AT", "0")):
            os.kill(os.getpid(), 9)

def train(run):
    print("replicas:", run.strategy.num_replicas_in_sync)
    with run.strategy.scope():
        layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    model.fit(
        run.dataset,
        epochs=run.max_epochs,
        steps_per_epoch=run.steps_per_epoch,
        validation_data=run.validation_dataset,
        callbacks=[*run.callbacks, Killed(run)],
        verbose=0,
    )
    print("predicted:", model.predict(run.validation_dataset, verbose=0).shape)
"""
)
LOOP = (
    DEVICES
    + """
import feedline.tensorflow

def train(run):
    strategy = run.strategy
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(3)])
        optimizer = tf.keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)

    def of_replica(batch):
        with tf.GradientTape() as tape:
            outputs = model(batch["features"])
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(batch["labels"], tf.int64), outputs)
            loss = tf.reduce_sum(losses) / run.manifest.loader.batch_size
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
        return loss

    @tf.function
    def step(parts):
        return strategy.reduce("SUM", strategy.run(of_replica, args=(parts,)), axis=None)

    run.checkpoint(model=model, optimizer=optimizer)
    for epoch in run.epochs():
        for batch in run.train:
            batch.pop("names", None)
            run.sums.add(loss=step(feedline.tensorflow.parts(batch, strategy)))
        run.report(loss=float(run.sums["loss"]) / len(run.train))
"""
)
COMMAND = "from feedline.cli import main; main()"


@dataclass
class Ended:
    code: int
    output: str
    errors: str
    report: dict
    history: list
    weights: dict


@pytest.fixture
def train(project):
    """Return a function that trains by some code on so many devices."""
    skip_without("tensorflow")

    def train(code, devices, *changes, output="kept", backend="tensorflow", arguments=("--fresh",), **variables):
        (project.folder / "own.py").write_text(code)
        given = ["run", "pipeline.yaml", "--volume", f"data={project.data}", "--output", output, *arguments]
        for change in (f"spec.backend={backend}", "spec.train.seed=3", *changes):
            given += ["--set", change]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *given],
            cwd=project.folder,
            env=environment(DEVICES=str(devices), KERAS_BACKEND="tensorflow", **variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        kept = project.folder / output
        report, history, weights = kept / "report.json", kept / "history.csv", kept / "model.safetensors"
        return Ended(
            done.returncode,
            done.stdout,
            done.stderr,
            json.loads(report.read_text()) if report.exists() else {},
            list(csv.DictReader(history.open())) if history.exists() else [],
            load_file(weights) if weights.exists() else {},
        )

    return train


def is_same(one, other):
    assert one.weights.keys() == other.weights.keys()
    assert one.weights
    for name, weights in one.weights.items():
        assert weights == pytest.approx(other.weights[name], abs=1e-5), name
    assert len(one.history) == len(other.history) > 1
    for before, after in zip(one.history, other.history, strict=True):
        assert {name for name in before if before[name]} == {name for name in after if after[name]}
        for name in {name for name in before if before[name]} - {"seconds"}:
            assert float(before[name]) == pytest.approx(float(after[name]), abs=1e-5), name


OFTEN = ("spec.output={persistentVolumeClaim: {claimName: runs}}", "spec.train.checkpoint={everySteps: 2}")


@pytest.mark.parametrize("backend", ["tensorflow", "keras"])
def test_the_built_in_model_trains_on_all_devices_as_on_one(train, backend):
    code, rows = DEVICES + "\nfrom feedline.models import train\n", ("spec.loader.batchSize=6",)
    one, three = (train(code, devices, *rows, backend=backend, output=f"on-{devices}") for devices in (1, 3))
    assert (one.code, three.code) == (0, 0), one.errors + three.errors
    is_same(one, three)


def test_fit_on_several_devices_is_that_on_one_and_goes_on_where_it_was_killed(train):
    # 11 rows to validate, which are 6 and then 5 for three devices.
    rows = ("spec.loader.batchSize=6", "spec.data.validation.rows={start: 48, stop: 59}")
    one = train(FIT, 1, *rows, backend="keras", output="on-1")
    three = train(FIT, 3, *rows, output="on-3")
    assert (one.code, three.code) == (0, 0), one.errors + three.errors
    assert "replicas: 1" in one.output
    assert "replicas: 3" in three.output
    assert "predicted: (11, 3)" in three.output
    is_same(one, three)
    assert three.report["samples"] == one.report["samples"]
    assert three.report["waitPermille"] is not None

    killed = train(FIT, 3, *rows, *OFTEN, KILLED_AT=str(three.report["steps"] - 1))
    assert killed.code == -signal.SIGKILL
    resumed = train(FIT, 3, *rows, *OFTEN, arguments=("--resume",))
    assert resumed.code == 0, resumed.errors
    assert resumed.report["fromStep"] > 0
    is_same(three, resumed)


def test_a_loop_of_ones_own_on_several_devices_is_that_on_one(train):
    one, four = (train(LOOP, devices, output=f"on-{devices}") for devices in (1, 4))
    assert (one.code, four.code) == (0, 0), one.errors + four.errors
    is_same(one, four)


UNEVEN = {
    "a batch": (
        LOOP,
        5,
        "spec.loader.batchSize=8",
        "a batch of 8 rows cannot be divided among 5 replicas: take a batchSize that is a multiple of 5",
    ),
    "the last rows to validate": (
        FIT,
        4,
        "spec.data.validation.rows={start: 48, stop: 59}",
        "a batch of 3 rows has none for some of 4 replicas",
    ),
}


@pytest.mark.parametrize(("code", "devices", "change", "told"), UNEVEN.values(), ids=UNEVEN)
def test_rows_that_cannot_be_divided_are_one_sentence(train, code, devices, change, told):
    done = train(code, devices, change)
    assert done.code == 64, done.errors
    assert told in done.report["message"]
    assert "Traceback" not in done.errors


def test_a_strategy_for_torch_is_one_sentence(project):
    skip_without("pytorch")
    done = project.run(code="def train(run):\n    run.strategy\n")
    assert done.code == 64
    assert done.report["message"].startswith("run.strategy: is for TensorFlow: set resources.processes")
