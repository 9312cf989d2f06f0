"""Honest time: a slow feed and a slow model are told apart, in every backend, by how they are slow and not where.

Sleeping is the subject here: for every batch, on one side or the other.
"""

import pytest

SECONDS = 0.05
# A step that does not sleep took up to half of the above on a loaded machine: of both, this is well over 0.7.
FEED_SECONDS = 0.15

# A slot holds one batch, and one thread fills it.
SLOW_FEED = f"""
import time
from unittest.mock import patch
from feedline.files.array import Array
take = Array.take

def slow(array, *arguments):
    if array.name == "features":
        time.sleep({FEED_SECONDS})
    return take(array, *arguments)

stack.enter_context(patch("feedline.files.array.Array.take", slow))
stack.enter_context(patch("feedline.feed.gather.SLOT_BYTES", 1))
"""

LOOP = """
import time

def train(run):
    for epoch in run.epochs():
        for batch in run.train:
            time.sleep(SECONDS)
"""

FIT = """
import time
import keras

class Slow(keras.layers.Layer):
    def call(self, inputs):
        time.sleep(SECONDS)
        return inputs

def train(run):
    model = keras.Sequential([keras.Input((4,)), Slow(), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=SECONDS > 0)
    model.fit(run.dataset, epochs=run.max_epochs, steps_per_epoch=run.steps_per_epoch, callbacks=run.callbacks, verbose=0)
"""

ONE_THREAD = ("spec.loader.threads=1", "spec.loader.prefetchBatches=1", "spec.train.steps=30")


def trained(project, way, *, seconds_a_step, before=""):
    code = (FIT if way.startswith("keras") else LOOP).replace("SECONDS", str(seconds_a_step))
    ended = project.run(*ONE_THREAD, way=way, code=code, before=before)
    assert ended.code == 0, ended.errors
    return ended


@pytest.mark.parametrize("way", ["pytorch", "tensorflow", "keras", "keras-on-torch"])
def test_a_slow_feed_and_a_slow_model_are_told_apart(project, way):
    slow_feed = trained(project, way, seconds_a_step=0, before=SLOW_FEED)
    report = slow_feed.report
    assert report["waitPermille"] > 700
    assert report["verdict"]["inputBound"]
    assert report["verdict"]["cause"] == "Cpu"
    assert "Cause: the CPU." in slow_feed.output
    assert 8 / FEED_SECONDS * 0.5 < report["feedSamplesPerSecond"] < 8 / FEED_SECONDS
    assert report["modelSamplesPerSecond"] > report["feedSamplesPerSecond"]

    slow_model = trained(project, way, seconds_a_step=SECONDS)
    report = slow_model.report
    assert report["waitPermille"] < 300
    assert not report["verdict"]["inputBound"]
    assert report["verdict"]["cause"] == "None"
    assert "The model is the bottleneck" in slow_model.output
    assert report["modelSamplesPerSecond"] < 8 / SECONDS
    assert report["stepMicros"]["p50"] > 1e6 * SECONDS


@pytest.mark.parametrize(
    ("engine", "compiled"),
    [
        pytest.param("Classic", "", id="a generator behind Keras' own queue"),
        pytest.param("Feed", ", steps_per_execution=2", id="several steps in one call"),
    ],
)
def test_time_that_cannot_be_seen_is_called_unknown(project, engine, compiled):
    code = FIT.replace(", run_eagerly=SECONDS > 0", compiled).replace("SECONDS", "0")
    ended = project.run(f"spec.loader.engine={engine}", way="keras", code=code)
    assert ended.code == 0, ended.errors
    assert "waitPermille" not in ended.report
    assert ended.report["verdict"]["cause"] == "Unknown"
    assert not ended.report["verdict"]["inputBound"]
    assert "cannot be seen" in ended.output
    assert ended.report["samplesPerSecond"] > 0


def test_validation_and_the_ends_of_epochs_are_neither_waiting_nor_stepping(project):
    code = f"""
        import time

        def train(run):
            for epoch in run.epochs():
                for batch in run.train:
                    pass
                time.sleep({SECONDS})
                for batch in run.validation:
                    time.sleep({SECONDS})
    """
    ended = project.run("spec.train.epochs=5", code=code)
    assert ended.code == 0, ended.errors
    assert ended.report["stepMicros"]["p50"] < 1e6 * SECONDS
    assert ended.report["milliseconds"] > 4 * 3e3 * SECONDS
