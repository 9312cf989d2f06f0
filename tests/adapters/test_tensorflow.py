"""A feed in TensorFlow: eager tensors over the feed's own memory, and a `tf.data.Dataset`."""

import os

import numpy as np
import pytest

import feedline
from feedline.errors import UsageError
from feedline.feed import gather
from feedline.order.permutation import permutation

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
tf = pytest.importorskip("tensorflow")

from feedline import tensorflow  # noqa: E402 - needs tensorflow

pytestmark = pytest.mark.trainer


@pytest.fixture
def small_slots(monkeypatch):
    """Make slots of a few batches, so that a small epoch passes through many of them."""
    monkeypatch.setattr(gather, "SLOT_BYTES", 4096)


def in_order(rows, batch_size, seed, epoch):
    return permutation(rows, seed, epoch).reshape(-1, batch_size).tolist()


@pytest.mark.usefixtures("small_slots")
def test_epochs_are_those_of_the_feed(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        batches = tensorflow.batches(feed)
        assert len(batches) == 10
        for epoch in range(3):
            rows = []
            for batch in batches:
                numbers = batch["labels"].numpy().tolist()
                assert (batch["features"].numpy() == batch["labels"].numpy().reshape(-1, 1, 1)).all()
                assert batch["names"].numpy().tolist() == [b"row %d" % number for number in numbers]
                rows.append(numbers)
            assert rows == in_order(100, 10, 3, epoch)


def test_a_batch_has_the_shapes_and_dtypes_of_the_files(numbered):
    with feedline.Feed(numbered(100), 32) as feed:
        batch = next(iter(tensorflow.batches(feed)))
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in batch.items()} == {
        "features": ((32, 5, 5), tf.float32),
        "labels": ((32,), tf.int32),
        "names": ((32,), tf.string),
    }


UNALIGNED = {
    "batch 10 of 25 by 25": (10, np.float32, (25, 25)),
    "uint8 labels at batch 32": (32, np.uint8, ()),
    "batch 1 of one byte": (1, np.uint8, ()),
    "batch 3 of float16": (3, np.float16, (7,)),
}


@pytest.mark.parametrize(("batch_size", "dtype", "row_shape"), UNALIGNED.values(), ids=UNALIGNED)
def test_batches_whose_bytes_are_no_multiple_of_the_alignment_do_not_end_the_process(
    save, batch_size, dtype, row_shape
):
    rows = (np.arange(200 * int(np.prod(row_shape))) % 251).astype(dtype).reshape(200, *row_shape)
    arrays = feedline.open_arrays({"a": save("a", rows), "odd": save("odd", np.arange(200, dtype=np.uint8))})
    with feedline.Feed(arrays, batch_size, last_batch="keep") as feed:
        for batch in tensorflow.batches(feed):
            # Operations of Eigen are what checks the alignment.
            assert np.array_equal((batch["a"] + tf.ones([], batch["a"].dtype)).numpy(), rows[batch["odd"].numpy()] + 1)


DTYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_that_tensorflow_has_is_a_tensor_of_it(save, dtype):
    rows = (np.arange(70) % 5).reshape(35, 2).astype(dtype)
    with feedline.Feed(feedline.open_arrays({"a": save("a", rows)}), 7, shuffle="none") as feed:
        batches = [batch["a"] for batch in tensorflow.batches(feed)]
        again = [batch for batch, _ in tensorflow.dataset(feed, "a", "a")]
    for tensors in (batches, again):
        assert {tensor.dtype for tensor in tensors} == {tf.as_dtype(dtype)}
        assert np.array_equal(np.concatenate([tensor.numpy() for tensor in tensors]), rows)


TEXTS = {
    "bytes": (np.array([b"a", b"", b"abc", b"a\0b"]), [b"a", b"", b"abc", b"a\0b"]),
    "text": (np.array(["a", "é ✓", "", "abc"]), [b"a", "é ✓".encode(), b"", b"abc"]),
    "text of two columns": (np.array([["a", "b"]] * 4), [[b"a", b"b"]] * 4),
    "dates": (np.array(["2024-02-29"] * 4, "M8[D]"), [b"2024-02-29"] * 4),
    "longdouble": (np.array([1.5] * 4, np.longdouble), [b"1.5"] * 4),
}


@pytest.mark.parametrize(("rows", "expected"), TEXTS.values(), ids=TEXTS)
def test_what_tensorflow_has_no_type_for_is_text(save, rows, expected):
    with feedline.Feed(feedline.open_arrays({"a": save("a", rows)}), 2, shuffle="none") as feed:
        batches = [batch["a"] for batch in tensorflow.batches(feed)]
        again = [batch for batch, _ in tensorflow.dataset(feed, "a", "a")]
    for tensors in (batches, again):
        assert {tensor.dtype for tensor in tensors} == {tf.string}
        assert [row for tensor in tensors for row in tensor.numpy().tolist()] == expected


@pytest.mark.usefixtures("small_slots")
def test_kept_tensors_never_change(numbered):
    with feedline.Feed(numbered(200), 10, threads=2, prefetch=2) as feed:
        batches = tensorflow.batches(feed)
        kept = [(batch["features"], tf.reshape(batch["labels"], [-1, 1, 1])) for _ in range(4) for batch in batches]
    rows = [row for epoch in range(4) for row in in_order(200, 10, 0, epoch)]
    assert [numbers.numpy().ravel().tolist() for _, numbers in kept] == rows
    assert all((features.numpy() == numbers.numpy()).all() for features, numbers in kept)


def test_tensors_share_the_memory_of_the_feed(numbered):
    addresses = []

    def convert(views):
        addresses.extend(batch.__array_interface__["data"][0] for batch in views[0])
        return shared(views)

    with feedline.Feed(numbered(100), 10) as feed:
        batches = tensorflow.batches(feed)
        shared, batches._convert = batches._convert, convert
        taken = [np.from_dlpack(batch["features"]).__array_interface__["data"][0] for batch in batches]
    assert taken == addresses


def test_a_gradient_uses_the_rows_it_saw(numbered):
    weight = tf.Variable(tf.ones([5]))
    with feedline.Feed(numbered(100), 10) as feed:
        for batch in tensorflow.batches(feed):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(batch["features"] * weight)
            expected = float(tf.reduce_sum(batch["labels"])) * 5
            assert tape.gradient(loss, weight).numpy().tolist() == [expected] * 5


def test_a_break_starts_the_next_epoch(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        batches = tensorflow.batches(feed)
        for _ in batches:
            break
        assert [batch["labels"].numpy().tolist() for batch in batches] == in_order(100, 10, 3, 1)


COLUMNS = {
    "names": ({"inputs": "features", "targets": "labels"}, ([10, 5, 5], [10])),
    "a list is a dict": (
        {"inputs": ["features", "names"], "targets": "labels"},
        ({"features": [10, 5, 5], "names": [10]}, [10]),
    ),
    "weights": ({"inputs": "features", "targets": "labels", "weights": "labels"}, ([10, 5, 5], [10], [10])),
}


@pytest.mark.parametrize(("columns", "expected"), COLUMNS.values(), ids=COLUMNS)
def test_a_dataset_has_static_shapes(numbered, columns, expected):
    with feedline.Feed(numbered(103), 10) as feed:
        dataset = tensorflow.dataset(feed, **columns)
        shapes = tf.nest.map_structure(lambda spec: spec.shape.as_list(), dataset.element_spec)
        assert shapes == expected
        taken = tf.nest.map_structure(lambda tensor: tensor.shape.as_list(), next(iter(dataset.take(1))))
        assert taken == expected


def test_a_dataset_that_keeps_a_smaller_last_batch_leaves_its_size_open(numbered):
    with feedline.Feed(numbered(103), 10, last_batch="keep") as feed:
        dataset = tensorflow.dataset(feed, "features", "labels")
        assert dataset.element_spec[1].shape.as_list() == [None]
        assert [int(labels.shape[0]) for _, labels in dataset] == [10] * 10 + [3]


def test_every_iteration_of_a_dataset_is_the_next_epoch(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        dataset = tensorflow.dataset(feed, "features", "labels")
        for epoch in range(3):
            taken = []
            for features, labels in dataset:
                assert (features.numpy() == labels.numpy().reshape(-1, 1, 1)).all()
                taken.append(labels.numpy().tolist())
            assert taken == in_order(100, 10, 3, epoch)


@pytest.mark.usefixtures("small_slots")
def test_elements_of_a_dataset_that_is_prefetched_never_change(numbered):
    with feedline.Feed(numbered(200), 10, seed=3, threads=2) as feed:
        dataset = tensorflow.dataset(feed, "features", "labels").prefetch(4)
        kept = [element for _ in range(3) for element in dataset]
    rows = [row for epoch in range(3) for row in in_order(200, 10, 3, epoch)]
    assert [labels.numpy().tolist() for _, labels in kept] == rows
    assert all((features.numpy() == labels.numpy().reshape(-1, 1, 1)).all() for features, labels in kept)


def test_a_dataset_that_is_left_starts_the_next_epoch(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        dataset = tensorflow.dataset(feed, "features", "labels")
        for _ in dataset:
            break
        assert [labels.numpy().tolist() for _, labels in dataset] == in_order(100, 10, 3, 1)


def test_an_unknown_name_is_refused(numbered):
    with feedline.Feed(numbered(100), 10) as feed, pytest.raises(UsageError, match="there is no array 'label'"):
        tensorflow.dataset(feed, "features", "label")


# --- as Keras and tf.data take it --------------------------------------------------------------------------------------


def rows_of(dataset):
    return [labels.numpy().tolist() for _, labels in dataset]


def test_a_dataset_has_the_cardinality_of_an_epoch_and_ends_there(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        dataset = tensorflow.dataset(feed, "features", "labels")
        assert int(dataset.cardinality()) == 10
        for epoch in range(3):
            assert rows_of(dataset) == in_order(100, 10, 3, epoch)


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow", reason="needs Keras on TensorFlow")
def test_fit_trains_the_steps_of_its_epochs_on_the_rows_of_the_feed(numbered):
    import keras

    seen = []

    class Watching(keras.Sequential):
        def train_step(self, data):
            seen.append(data[1].numpy().tolist())
            return super().train_step(data)

    model = Watching([keras.Input((5, 5)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-6), loss="mse", run_eagerly=True)
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        model.fit(tensorflow.dataset(feed, "features", "labels"), epochs=3, verbose=0)
    assert seen == [batch for epoch in range(3) for batch in in_order(100, 10, 3, epoch)]


def test_a_dataset_that_is_left_goes_on_with_the_next_epoch(numbered):
    with feedline.Feed(numbered(100), 10, seed=3) as feed:
        dataset = tensorflow.dataset(feed, "features", "labels")
        assert rows_of(dataset.take(3)) == in_order(100, 10, 3, 0)[:3]
        assert rows_of(dataset) == in_order(100, 10, 3, 1)


def test_a_repeated_dataset_runs_through_the_epochs(numbered):
    with feedline.Feed(numbered(40), 10, seed=3) as feed:
        dataset = tensorflow.dataset(feed, "features", "labels").repeat().take(10)
        assert rows_of(dataset) == [batch for epoch in range(3) for batch in in_order(40, 10, 3, epoch)][:10]


def test_an_epoch_that_is_resumed_in_the_middle_is_the_rest_of_it(numbered):
    arrays = numbered(100)
    with feedline.Feed(arrays, 10, seed=3) as feed:
        for _, _ in zip(range(4), feed, strict=False):
            pass
        state = feed.state()
    with feedline.Feed(arrays, 10, seed=3, state=state) as feed:
        dataset = tensorflow.dataset(feed, "features", "labels")
        assert rows_of(dataset) == in_order(100, 10, 3, 0)[4:]
        assert rows_of(dataset) == in_order(100, 10, 3, 1)


def test_a_feed_whose_epochs_are_used_up_is_empty(numbered):
    with feedline.Feed(numbered(40), 10, epochs=1) as feed:
        dataset = tensorflow.dataset(feed, "features", "labels")
        assert len(rows_of(dataset)) == 4
        assert rows_of(dataset) == []


def test_the_section_of_the_page_takes_an_epoch(run_section):
    assert run_section("tf.data")["train"].state()["epoch"] == 2


# Batches by their place in a run of many epochs of 5 batches.
RUN = [batch for epoch in range(8) for batch in in_order(50, 10, 0, epoch)]


def places(dataset):
    """Return where in the run the batches of a dataset are."""
    return [RUN.index(batch) for batch in rows_of(dataset)]


@pytest.fixture
def dataset_of(numbered):
    """Return a function that makes a dataset over a feed of its own; `after` batches have been taken from it before."""
    arrays, feeds = numbered(50), []

    def feed(**options):
        feeds.append(feedline.Feed(arrays, **{"batch_size": 10, **options}))
        return feeds[-1]

    def dataset_of(*, after=0, **options):
        before, state = feed(), None
        while after:
            for _ in before:
                after -= 1
                state = before.state()
                if not after:
                    break
        return tensorflow.dataset(feed(state=state, **options), "features", "labels")

    yield dataset_of
    for each in feeds:
        each.close()


def test_a_dataset_that_is_prefetched_has_the_cardinality_and_the_rows_of_an_epoch(dataset_of):
    dataset = dataset_of().prefetch(2)
    assert len(dataset) == 5
    assert [places(dataset) for _ in range(2)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_a_smaller_last_batch_counts_as_a_step(dataset_of):
    dataset = dataset_of(batch_size=20, last_batch="keep")
    assert len(dataset) == len(rows_of(dataset)) == 3


@pytest.mark.parametrize("prefetched", [0, 2])
def test_a_dataset_of_a_feed_that_resumes_loses_no_batch(dataset_of, prefetched):
    dataset = dataset_of(after=7).prefetch(prefetched)
    assert [places(dataset) for _ in range(3)] == [[7, 8, 9], [10, 11, 12, 13, 14], [15, 16, 17, 18, 19]]
    assert places(dataset_of(after=7).repeat().take(8)) == list(range(7, 15))
    dataset = dataset_of(after=7)
    assert [places(dataset.take(3)), places(dataset)] == [[7, 8, 9], [10, 11, 12, 13, 14]]


def test_a_repeated_dataset_ends_with_the_epochs_of_the_feed(dataset_of):
    assert places(dataset_of(epochs=2).repeat()) == list(range(10))


on_keras = [
    pytest.mark.skipif(
        os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow", reason="needs TensorFlow's Keras"
    ),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
]


@pytest.fixture
def watching():
    """Return a model that notes where in the run the batches are that it trains on, and the rows that it tests on."""
    import keras

    class Watching(keras.Sequential):
        def train_step(self, data):
            self.trained.append(RUN.index(data[1].numpy().tolist()))
            return super().train_step(data)

        def test_step(self, data):
            self.tested.extend(data[1].numpy().tolist())
            return super().test_step(data)

    model = Watching([keras.Input((5, 5)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.trained, model.tested = [], []
    model.compile(keras.optimizers.SGD(1e-6), loss="mse", run_eagerly=True)
    return model


FITS = {
    "prefetch": ({}, lambda dataset: dataset.prefetch(2), range(15)),
    "fewer steps": ({"steps_per_epoch": 4}, lambda dataset: dataset.repeat(), range(12)),
    "as many steps": ({"steps_per_epoch": 5}, lambda dataset: dataset, range(15)),
    "class_weight": ({"class_weight": dict.fromkeys(range(50), 2.0)}, lambda dataset: dataset, range(15)),
}


class TestFit:
    pytestmark = on_keras

    @pytest.mark.parametrize(("options", "behind", "trained"), FITS.values(), ids=FITS)
    def test_trains_on_the_rows_of_the_feed(self, dataset_of, watching, options, behind, trained):
        watching.fit(behind(dataset_of()), epochs=3, verbose=0, **options)
        assert watching.trained == list(trained)

    def test_validates_on_every_row_after_every_epoch(self, dataset_of, watching):
        held_out = dataset_of(batch_size=20, shuffle="none", last_batch="keep")
        watching.fit(dataset_of(), epochs=2, validation_data=held_out, verbose=0)
        assert (watching.trained, watching.tested) == (list(range(10)), 2 * list(range(50)))

    # Keras says that it ran out of data, and goes on with the next epoch.
    @pytest.mark.parametrize(
        ("options", "trained"), [({"after": 7}, range(7, 20)), ({"epochs": 2}, range(10))], ids=["resumed", "used up"]
    )
    def test_an_epoch_of_fewer_batches_ends_where_they_end(self, dataset_of, watching, options, trained):
        with pytest.warns(UserWarning, match="Your input ran out of data"):
            watching.fit(dataset_of(**options), epochs=3, verbose=0)
        assert watching.trained == list(trained)
