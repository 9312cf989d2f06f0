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
