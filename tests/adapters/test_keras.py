"""A feed in Keras: which rows `fit` and `evaluate` see, on the backend of this process and on the other one."""

import os
import subprocess
import sys

import numpy as np
import pytest
from projects import manifest

import feedline
from feedline.errors import EnvironmentInvalidError, UsageError
from feedline.manifest import parse
from feedline.order.permutation import permutation

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
keras = pytest.importorskip("keras")

from feedline.keras import ClassWeights, dataset, native_batches  # noqa: E402 - needs keras

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


# --- what stands beside the dataset ----------------------------------------------------------------------------------------


def trained_weights(**beside):
    """Return the weights of a linear model after an epoch over 20 rows of 2 classes."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(**beside, epochs=2, verbose=0, shuffle=False)
    return [weight.tolist() for weight in model.get_weights()]


def test_class_weights_are_applied_as_keras_applies_them_to_arrays(tmp_path):
    inputs, labels = np.linspace(0, 1, 20, dtype=np.float32).reshape(-1, 1), np.arange(20, dtype=np.int32) % 2
    np.save(tmp_path / "inputs.npy", inputs)
    np.save(tmp_path / "labels.npy", labels)
    weights = {0: 1.0, 1: 5.0}
    with feedline.Feed(feedline.open_arrays(tmp_path), 5, shuffle="none") as feed:
        data = dataset(feed, "inputs", "labels")
        weighted = trained_weights(x=data, class_weight=weights)
        plain = trained_weights(x=data)
    expected = trained_weights(x=inputs, y=labels, batch_size=5, class_weight=weights)
    np.testing.assert_allclose(weighted[0], expected[0], rtol=1e-5)
    assert not np.allclose(weighted[0], plain[0])


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize("beside", ["y", "sample_weight"])
def test_what_keras_would_drop_beside_a_dataset_is_refused(numbered, watching, method, beside):
    model, seen = watching(built=True)
    with (
        feedline.Feed(numbered(40), 10) as feed,
        pytest.raises(ValueError, match=f"{method}: {beside} stands beside a feed"),
    ):
        getattr(model, method)(dataset(feed, "features", "labels"), **{beside: np.ones(40)}, verbose=0)
    assert seen == []


def test_what_stands_beside_validation_data_is_refused(numbered, watching):
    model, _ = watching(built=True)
    with feedline.Feed(numbered(40), 10) as feed, feedline.Feed(numbered(20), 10) as held_out:
        validation = (dataset(held_out, "features", "labels"), np.ones(20))
        with pytest.raises(ValueError, match="y stands beside a feed"):
            model.fit(dataset(feed, "features", "labels"), validation_data=validation, verbose=0)


@pytest.mark.parametrize("options", [{}, {"shuffle": "none"}, {"last_batch": "keep"}], ids=str)
def test_predict_over_a_feed_that_shuffles_or_drops_rows_is_refused(numbered, watching, options):
    model, _ = watching(built=True)
    with (
        feedline.Feed(numbered(23), 5, **options) as feed,
        pytest.raises(UsageError, match="predict: the feed shuffles"),
    ):
        model.predict(dataset(feed, "features", "labels"), verbose=0)


def test_predict_over_a_feed_in_order_has_every_row_in_its_place(numbered, watching):
    model, _ = watching(built=True)
    arrays = numbered(23)
    with feedline.Feed(arrays, 5, shuffle="none", last_batch="keep") as feed:
        predicted = model.predict(dataset(feed, "features", "labels"), verbose=0)
    rows = arrays["features"].read(0, 23)
    np.testing.assert_allclose(predicted, model.predict(rows, verbose=0), rtol=1e-5)


def test_a_fit_that_was_interrupted_can_be_called_again(numbered, watching):
    model, seen = watching(built=True)

    class Fail(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    with feedline.Feed(numbered(40), 10, seed=3) as feed:
        data = dataset(feed, "features", "labels")
        with pytest.raises(KeyboardInterrupt):
            model.fit(data, verbose=0, callbacks=[Fail()])
        seen.clear()
        model.fit(data, verbose=0)
    assert seen == in_order(40, 10, 3, 1)


def test_the_section_of_the_page_trains_and_predicts(run_section):
    names = run_section("Keras")
    assert names["scores"].shape == (70, 3)
    assert names["train"].state()["epoch"] == 2


class Weighing(Watching):
    """Notes the weights of the rows as well, None where there are none."""

    def __init__(self, seen, weights):
        super().__init__(seen)
        self.weigh = weights.append

    def train_step(self, data):
        self.weigh(keras.ops.convert_to_numpy(data[2]).tolist() if len(data) > 2 else None)
        return super().train_step(data)


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
def test_class_weights_are_those_of_the_fit_that_was_given_them(numbered, built):
    seen, weights, arrays = [], [], numbered(50)
    model = Weighing(seen, weights)
    if built:
        model.build((None, 5, 5))
    model.compile(keras.optimizers.SGD(1e-6), loss="mse", run_eagerly=True)
    given = {0: 2.0, 7: 0.5, 40: 3.0}  # 40 is the largest, and there are rows without a weight on both sides of it
    with feedline.Feed(arrays, 10) as feed, feedline.Feed(arrays, 50, shuffle="none") as held_out:
        data, validation = (dataset(each, "features", "labels") for each in (feed, held_out))
        model.fit(data, epochs=2, class_weight=given, validation_data=validation, verbose=0)
        trained = [batch for batch in seen if len(batch) == 10]
        assert trained == in_order(50, 10, 0, 0, 1)
        assert weights == [[given.get(label, 1.0) for label in batch] for batch in trained]
        weights.clear()
        model.fit(data, verbose=0)
    assert weights == [None] * 5


TARGETS = {
    "a column": (lambda labels: labels.reshape(-1, 1), None),
    "floats": (lambda labels: labels.astype(np.float32) + 0.2, None),
    "one hot": (lambda labels: np.eye(3, dtype=np.float32)[labels], None),
    "bytes": (lambda labels: labels.astype(np.uint8), None),
    "below zero": (lambda labels: labels.astype(np.int64) - 1, [1, 1, 2]),
}


@pytest.mark.parametrize(("of", "expected"), TARGETS.values(), ids=TARGETS)
def test_class_weights_find_the_class_in_every_kind_of_target(of, expected):
    targets = keras.ops.convert_to_tensor(of(np.arange(3)))
    _, _, weights = ClassWeights({1: 2.0})((None, targets))
    assert keras.ops.convert_to_numpy(weights).tolist() == (expected or [1, 2, 1])


REFUSED = {
    "weights of rows": (("features", "labels", "labels"), "class_weight stands beside a feed that has weights of rows"),
    "several targets": (("features", ["labels"]), "class_weight is for one target"),
}


@pytest.mark.parametrize(("columns", "told"), REFUSED.values(), ids=REFUSED)
def test_class_weights_that_cannot_be_applied_are_refused(numbered, watching, columns, told):
    model, seen = watching(built=True)
    with feedline.Feed(numbered(20), 10) as feed, pytest.raises(UsageError, match=told):
        model.fit(dataset(feed, *columns), class_weight={0: 2.0}, verbose=0)
    assert seen == []


@pytest.mark.parametrize("beside", ["val_sample_weight", "validation_split"])
def test_what_else_stands_beside_a_dataset_is_refused(numbered, watching, beside):
    model, seen = watching(built=True)
    with feedline.Feed(numbered(40), 10) as feed, feedline.Feed(numbered(20), 10) as held_out:
        validation = (dataset(held_out, "features", "labels"), None, np.ones(20))
        options = {"validation_split": 0.2} if beside == "validation_split" else {"validation_data": validation}
        with pytest.raises(ValueError, match=r"sample_weight stands beside|only supported for tensors or NumPy"):
            model.fit(dataset(feed, "features", "labels"), **options, verbose=0)
    assert seen == []


VALIDATIONS = {
    "validation_steps": ({"validation_steps": 1}, [0, 1, 2], 20),
    "validation_freq": ({"validation_freq": 2}, [1], 50),
    "initial_epoch": ({"initial_epoch": 1}, [0, 1], 50),
}


@pytest.mark.parametrize(("options", "validated", "rows"), VALIDATIONS.values(), ids=VALIDATIONS)
def test_options_of_fit_leave_every_epoch_whole(numbered, watching, options, validated, rows):
    model, seen = watching(built=False)
    arrays, expected = numbered(50), []
    for epoch in range(3 - options.get("initial_epoch", 0)):
        expected += in_order(50, 10, 0, epoch)
        whole = [list(range(20)), list(range(20, 40)), list(range(40, 50))]
        expected += whole[: -(-rows // 20)] if epoch in validated else []
    with feedline.Feed(arrays, 10) as feed, feedline.Feed(arrays, 20, shuffle="none", last_batch="keep") as held_out:
        data, validation = (dataset(each, "features", "labels") for each in (feed, held_out))
        model.fit(data, epochs=3, validation_data=validation, **options, verbose=0)
    assert seen == expected


def resumed(arrays, taken, **options):
    """Return a feed that goes on after so many batches of 10."""
    with feedline.Feed(arrays, 10, **options) as feed:
        for _ in zip(range(taken), feed, strict=False):
            pass
        return feedline.Feed(arrays, 10, state=feed.state(), **options)


@pytest.mark.parametrize("built", [True, False], ids=["built", "unbuilt"])
def test_a_feed_that_resumes_begins_with_the_rest_of_its_epoch(numbered, watching, built):
    model, seen = watching(built=built)
    with resumed(numbered(50), 2) as feed, pytest.warns(UserWarning, match="Your input ran out of data"):
        model.fit(dataset(feed, "features", "labels"), epochs=3, verbose=0)
    assert seen == in_order(50, 10, 0, 0, 1, 2)[2:]


def test_a_feed_whose_epochs_are_used_up_ends_fit_with_keras_warning(numbered, watching):
    model, seen = watching(built=True)
    with (
        feedline.Feed(numbered(30), 10, epochs=2) as feed,
        pytest.warns(UserWarning, match="Your input ran out of data"),
    ):
        model.fit(dataset(feed, "features", "labels"), epochs=3, verbose=0)
    assert seen == in_order(30, 10, 0, 0, 1)


def test_predict_over_the_rest_of_an_epoch_is_refused(numbered, watching):
    model, _ = watching(built=True)
    with resumed(numbered(50), 2, shuffle="none") as feed:
        with pytest.raises(UsageError, match=r"predict: the feed had 3 of 5 batches, since it went on in the middle"):
            model.predict(dataset(feed, "features", "labels"), verbose=0)
        assert model.predict(dataset(feed, "features", "labels"), verbose=0).shape == (50, 1)


def test_predict_over_a_run_needs_rows_in_order(numbered, watching, tmp_path):
    numbered(50)
    document = manifest({"features": "Input", "labels": "Target"}, rows=20)
    document["spec"] |= {"backend": "keras"}
    run = feedline.Run(parse(document), {"data": tmp_path})
    try:
        model, _ = watching(built=True)
        assert model.predict(run.validation_dataset, verbose=0).shape == (30, 1)
        with pytest.raises(UsageError, match="predict: the feed shuffles or drops rows"):
            model.predict(run.dataset, verbose=0)
    finally:
        run.close()


def test_what_has_no_inputs_and_targets_is_refused_by_keras(numbered, watching):
    model, _ = watching(built=True)
    with feedline.Feed(numbered(50), 10) as feed:
        for data in (feed, native_batches(feed)):
            with pytest.raises(ValueError, match=r"Unrecognized data type: x=<feedline"):
                model.fit(data, verbose=0)
        assert feed.stats().batches == 0
