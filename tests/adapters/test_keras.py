"""A feed in Keras: which rows `fit` and `evaluate` see, on the backend of this process and on the other one."""

import os
import subprocess
import sys

import numpy as np
import pytest

import feedline
from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.order.permutation import permutation

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
keras = pytest.importorskip("keras")

from feedline.keras import dataset  # noqa: E402 - needs keras

BACKEND = keras.backend.backend()
OTHER = {"tensorflow": "torch", "torch": "tensorflow"}

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.skipif(BACKEND not in OTHER, reason=f"Keras runs on {BACKEND}"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras' own, on torch
]


@pytest.mark.skipif("FEEDLINE_TEST_KERAS" in os.environ, reason="this is the other backend")
def test_all_of_this_holds_on_the_other_backend():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "KERAS_BACKEND": OTHER[BACKEND], "FEEDLINE_TEST_KERAS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


class Watching(keras.Model):
    """A small dense network that notes the labels of every batch it is trained or tested on."""

    def __init__(self, seen):
        super().__init__()
        self.note = seen.append
        self.flatten = keras.layers.Flatten()
        self.dense = keras.layers.Dense(1)

    def build(self, input_shape):
        self.dense.build((None, int(np.prod(input_shape[1:]))))
        self.built = True

    def call(self, inputs):
        return self.dense(self.flatten(inputs))

    def noted(self, data):
        self.note(keras.ops.convert_to_numpy(data[1]).ravel().tolist())
        return data

    def train_step(self, data):
        return super().train_step(self.noted(data))

    def test_step(self, data):
        return super().test_step(self.noted(data))


@pytest.fixture
def watching():
    """Return a function that makes a compiled model and the list of the batches it sees."""

    def watching(*, built):
        seen = []
        model = Watching(seen)
        if built:
            model.build((None, 5, 5))
        # Eagerly, since a traced step would note once and for all.
        model.compile(keras.optimizers.SGD(1e-6), loss="mse", metrics=["mae"], run_eagerly=True)
        return model, seen

    return watching


def in_order(rows, batch_size, seed, *epochs):
    batches = []
    for epoch in epochs:
        drawn = permutation(rows, seed, epoch).tolist()
        batches += [drawn[start : start + batch_size] for start in range(0, rows, batch_size)]
    return batches


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffle", "no shuffle"])
def test_epoch_e_of_fit_is_epoch_e_of_the_feed(numbered, watching, steps, built, shuffle):
    model, seen = watching(built=built)
    with feedline.Feed(numbered(10 * steps), 10, seed=3) as feed:
        history = model.fit(dataset(feed, "features", "labels"), epochs=3, shuffle=shuffle, verbose=0)
        assert seen == in_order(10 * steps, 10, 3, 0, 1, 2)
        assert feed.state()["epoch"] == 3
        assert feed.stats().batches == 3 * steps
    assert len(history.history["loss"]) == 3


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_second_fit_goes_on_with_the_next_epoch(numbered, watching, steps):
    model, seen = watching(built=False)
    with feedline.Feed(numbered(10 * steps), 10) as feed:
        data = dataset(feed, "features", "labels")
        model.fit(data, epochs=2, verbose=0)
        model.fit(data, epochs=2, verbose=0)
    assert seen == in_order(10 * steps, 10, 0, 0, 1, 2, 3)


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
@pytest.mark.parametrize("steps", [1, 4])
def test_evaluate_sees_every_row_once(numbered, watching, built, steps):
    model, seen = watching(built=built)
    with feedline.Feed(numbered(10 * steps), 10, shuffle="none") as feed:
        data = dataset(feed, "features", "labels")
        for _ in range(2):
            seen.clear()
            model.evaluate(data, verbose=0)
            assert [label for batch in seen for label in batch] == list(range(10 * steps))


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
def test_validation_data_are_all_seen_after_every_epoch(numbered, watching, built):
    model, seen = watching(built=built)
    arrays = numbered(50)
    with feedline.Feed(arrays, 10) as train, feedline.Feed(arrays, 20, shuffle="none", last_batch="keep") as validation:
        model.fit(
            dataset(train, "features", "labels"),
            validation_data=dataset(validation, "features", "labels"),
            epochs=2,
            verbose=0,
        )
    whole = [list(range(20)), list(range(20, 40)), list(range(40, 50))]
    assert seen == [*in_order(50, 10, 0, 0), *whole, *in_order(50, 10, 0, 1), *whole]


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
def test_a_smaller_last_batch_is_trained_on(numbered, watching, built):
    model, seen = watching(built=built)
    with feedline.Feed(numbered(23), 10, last_batch="keep") as feed:
        model.fit(dataset(feed, "features", "labels"), epochs=2, verbose=0)
    assert seen == in_order(23, 10, 0, 0, 1)


def test_fit_ends_where_the_epochs_of_the_feed_end(numbered, watching):
    model, seen = watching(built=True)
    with feedline.Feed(numbered(30), 10, epochs=2) as feed:
        model.fit(dataset(feed, "features", "labels"), epochs=2, verbose=0)
    assert seen == in_order(30, 10, 0, 0, 1)


def test_epochs_of_fewer_steps_go_on_where_the_last_one_stopped(numbered, watching):
    model, seen = watching(built=True)
    with feedline.Feed(numbered(60), 10) as feed:
        model.fit(dataset(feed, "features", "labels"), epochs=3, steps_per_epoch=2, verbose=0)
    assert seen == in_order(60, 10, 0, 0)


def test_a_loop_of_ones_own_that_breaks_starts_the_next_epoch(numbered):
    with feedline.Feed(numbered(50), 10) as feed:
        data = dataset(feed, "features", "labels")
        for _ in data:
            break
        assert [keras.ops.convert_to_numpy(labels).tolist() for _, labels in data] == in_order(50, 10, 0, 1)


def test_a_callback_that_stops_training_leaves_the_rest(numbered, watching):
    model, seen = watching(built=True)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    with feedline.Feed(numbered(50), 10) as feed:
        data = dataset(feed, "features", "labels")
        model.fit(data, epochs=3, callbacks=[Stop()], verbose=0)
        assert seen == in_order(50, 10, 0, 0)[:2]
        seen.clear()
        model.fit(data, epochs=1, verbose=0)
        assert seen == in_order(50, 10, 0, 1)


def test_a_compiled_model_learns_from_all_rows(save):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(512, 4)).astype(np.float32)
    targets = inputs @ np.array([[1.0], [-2.0], [3.0], [0.5]], np.float32)
    arrays = feedline.open_arrays({"x": save("x", inputs), "y": save("y", targets)})
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    with feedline.Feed(arrays, 32) as feed:
        losses = model.fit(dataset(feed, "x", "y"), epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 1e-3 * losses[0]
    assert np.allclose(model.get_weights()[0].ravel(), [1, -2, 3, 0.5], atol=1e-2)


def test_inputs_and_targets_may_be_dicts(save):
    left = np.arange(40, dtype=np.float32).reshape(40, 1)
    paths = {"left": left, "right": 2 * left, "sum": 3 * left, "difference": -left}
    arrays = feedline.open_arrays({name: save(name, rows) for name, rows in paths.items()})
    inputs = {name: keras.Input((1,), name=name) for name in ("left", "right")}
    outputs = {
        "sum": keras.layers.Add(name="sum")([inputs["left"], inputs["right"]]),
        "difference": keras.layers.Subtract(name="difference")([inputs["left"], inputs["right"]]),
    }
    model = keras.Model(inputs, outputs)
    model.compile(loss={"sum": "mae", "difference": "mae"})
    with feedline.Feed(arrays, 10) as feed:
        data = dataset(feed, ["left", "right"], ["sum", "difference"])
        assert model.evaluate(data, verbose=0, return_dict=True)["loss"] == 0


def test_weights_are_the_weights_of_samples(save):
    labels = np.arange(40, dtype=np.float32).reshape(40, 1)
    weights = (labels.ravel() < 20).astype(np.float32)
    arrays = feedline.open_arrays({name: save(name, rows) for name, rows in {"y": labels, "w": weights}.items()})
    model = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(0.0)])
    model.compile(loss="mae")
    with feedline.Feed(arrays, 40) as feed:
        unweighted = model.evaluate(dataset(feed, "y", "y"), verbose=0)
        weighted = model.evaluate(dataset(feed, "y", "y", "w"), verbose=0)
    # Keras' sum_over_batch_size divides by the rows or by the weights, as its version has it.
    assert unweighted == pytest.approx(labels.mean())
    assert weighted in (pytest.approx(labels[:20].sum() / 40), pytest.approx(labels[:20].mean()))


def test_predict_gives_a_row_for_every_row(numbered):
    model = keras.Sequential([keras.Input((5, 5)), keras.layers.Rescaling(2.0)])
    with feedline.Feed(numbered(23), 10, shuffle="none", last_batch="keep") as feed:
        predicted = model.predict(dataset(feed, "features", "labels"), verbose=0)
    assert predicted[:, 0, 0].tolist() == [2.0 * row for row in range(23)]


def test_batches_are_tensors_of_the_backend_that_never_change(numbered):
    with feedline.Feed(numbered(200), 10, threads=2, prefetch=1) as feed:
        data = dataset(feed, "features", "labels")
        kept = [element for _ in range(3) for element in data]
    assert all(keras.ops.is_tensor(features) and keras.ops.is_tensor(labels) for features, labels in kept)
    rows = [keras.ops.convert_to_numpy(labels).tolist() for _, labels in kept]
    assert rows == in_order(200, 10, 0, 0, 1, 2)
    assert all(
        (keras.ops.convert_to_numpy(features)[:, 1, 1] == row).all()
        for (features, _), row in zip(kept, rows, strict=True)
    )


def test_the_progress_bar_knows_the_steps(numbered, watching, capsys):
    model, _ = watching(built=False)
    with feedline.Feed(numbered(50), 10) as feed:
        model.fit(dataset(feed, "features", "labels"), epochs=1, verbose=1)
    assert "5/5" in capsys.readouterr().out


def test_an_error_of_the_feed_ends_fit(save, watching):
    path = save("features", np.zeros((50, 5, 5), np.float32))
    arrays = feedline.open_arrays({"features": path, "labels": save("labels", np.zeros(50, np.float32))})
    model, _ = watching(built=True)
    with feedline.Feed(arrays, 10) as feed:
        os.utime(path, ns=(1, 1))
        with pytest.raises(feedline.FeedlineError, match="was written to"):
            model.fit(dataset(feed, "features", "labels"), verbose=0)


def test_an_unknown_name_is_refused(numbered):
    with feedline.Feed(numbered(20), 10) as feed, pytest.raises(UsageError, match="there is no array 'label'"):
        dataset(feed, "features", "label")


def test_another_backend_is_refused(numbered, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with (
        feedline.Feed(numbered(20), 10) as feed,
        pytest.raises(EnvironmentInvalidError, match=r"KERAS_BACKEND: must be tensorflow or torch .* \(it is jax\)"),
    ):
        dataset(feed, "features", "labels")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only Keras on TensorFlow has it")
def test_several_steps_an_execution_see_the_same_rows(numbered, watching):
    model, seen = watching(built=True)
    model.compile(keras.optimizers.SGD(1e-6), loss="mse", run_eagerly=True, steps_per_execution=2)
    with feedline.Feed(numbered(50), 10) as feed:
        model.fit(dataset(feed, "features", "labels"), epochs=2, verbose=0)
    assert seen == in_order(50, 10, 0, 0, 1)
