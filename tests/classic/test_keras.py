"""What people come with, the common part and the Keras generator: which rows come, in which order, and into `fit`."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import feedline
from feedline.classic import load
from feedline.classic.keras import batches, generator
from feedline.errors import DataError, InputMissingError, UsageError

pytestmark = pytest.mark.trainer

ROWS = 103


@pytest.fixture
def paths(tmp_path):
    rows = np.arange(ROWS)
    np.save(tmp_path / "features.npy", np.broadcast_to(rows[:, None, None], (ROWS, 5, 5)).astype(np.float32))
    np.save(tmp_path / "labels.npy", rows.astype(np.int32).reshape(ROWS, 1))
    np.save(tmp_path / "names.npy", np.array([f"row-{row}" for row in rows]))
    return {name: tmp_path / f"{name}.npy" for name in ("features", "labels", "names")}


@pytest.fixture
def arrays(paths):
    return load(paths, 0, ROWS, in_memory=False)


def rows_of(epoch):
    """Return the rows of an epoch's batches, and see that the arrays of each row belong together."""
    rows = []
    for batch in epoch:
        numbers = batch["labels"][:, 0].tolist()
        assert batch["features"].tolist() == [[[number] * 5] * 5 for number in numbers]
        assert batch["names"].tolist() == [f"row-{number}" for number in numbers]
        rows += numbers
    return rows


@pytest.mark.parametrize("in_memory", [False, True], ids=["mapped", "in memory"])
def test_rows_from_start_to_stop_are_loaded(paths, in_memory):
    arrays = load(paths, 10, 50, in_memory)

    assert arrays["labels"][:, 0].tolist() == list(range(10, 50))
    assert all(isinstance(array, np.memmap) != in_memory for array in arrays.values())


def test_rows_in_memory_do_not_change_with_the_file(paths):
    arrays = load(paths, 0, ROWS, in_memory=True)
    np.save(paths["labels"], np.zeros((ROWS, 1), np.int32))

    assert arrays["labels"][:, 0].tolist() == list(range(ROWS))


def nothing(path):
    path.unlink()


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def an_archive(path):
    np.savez(path.open("wb"), np.zeros(ROWS))


def objects(path):
    np.save(path, np.array([None] * ROWS), allow_pickle=True)


def fewer_rows(path):
    np.save(path, np.zeros(ROWS - 1))


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (nothing, InputMissingError, "labels.npy: there is no such file"),
        (cut_short, DataError, "labels.npy: is cut short"),
        (an_archive, DataError, "labels.npy: this is no .npy file .* it is probably a zip archive or .npz"),
        (objects, DataError, "labels.npy: holds Python objects"),
        (fewer_rows, DataError, "features has 103, labels has 102"),
    ],
    ids=["missing", "cut short", "npz", "objects", "fewer rows"],
)
def test_a_bad_file_is_told_in_a_sentence(paths, spoil, error, told):
    spoil(paths["labels"])

    with pytest.raises(error, match=told):
        load(paths, 0, ROWS, in_memory=False)


def test_an_epoch_holds_no_row_twice_and_omits_what_fills_no_batch(arrays):
    epochs = batches(arrays, 10)

    rows = rows_of(epochs)
    assert len(epochs) == 10
    assert len(rows) == len(set(rows)) == 100


def test_keeping_the_last_batch_loses_no_row(arrays):
    epochs = batches(arrays, 10, last_batch="keep")

    assert len(epochs) == len(list(epochs)) == 11
    assert sorted(rows_of(epochs)) == list(range(ROWS))


def test_every_epoch_has_an_order_of_its_own_that_the_seed_decides(arrays):
    one, again, other = (batches(arrays, 10, seed=seed, last_batch="keep") for seed in (1, 1, 2))

    first, second = rows_of(one), rows_of(one)
    assert first != second
    assert [first, second] == [rows_of(again), rows_of(again)]
    assert first != rows_of(other)


def test_rows_come_in_file_order_without_shuffle(arrays):
    assert rows_of(batches(arrays, 10, shuffle=False)) == list(range(100))


def test_a_batch_is_a_copy_that_may_be_written_to(arrays):
    batch = next(iter(batches(arrays, 10, shuffle=False)))
    batch["labels"][:] = -1

    assert arrays["labels"][0] == 0


def test_the_generator_goes_on_with_the_next_epoch(arrays):
    taken = list(itertools.islice(generator(arrays, "features", "labels", 10, seed=1), 20))

    epochs = [np.concatenate([labels for _, labels in taken[start : start + 10]])[:, 0] for start in (0, 10)]
    assert [len(set(epoch.tolist())) for epoch in epochs] == [100, 100]
    assert epochs[0].tolist() != epochs[1].tolist()
    assert all((features[:, 0, 0] == labels[:, 0]).all() for features, labels in taken)


def test_columns_are_arrays_or_dicts_of_them(arrays):
    inputs, targets, weights = next(generator(arrays, ["features", "names"], "labels", 10, weights="labels"))

    assert list(inputs) == ["features", "names"]
    np.testing.assert_array_equal(targets, weights)


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda arrays: generator(arrays, "images", "labels", 10), UsageError, "no array 'images'"),
        (lambda arrays: generator(arrays, "features", "labels", 0), UsageError, "batch_size: must be at least 1"),
        (lambda arrays: generator(arrays, "features", "labels", 104), DataError, "a batch of 104 is larger"),
        (lambda arrays: batches(arrays, 10, last_batch="pad"), UsageError, "last_batch: must be drop or keep"),
        (lambda arrays: batches({**arrays, "short": np.zeros(9)}, 9), DataError, "short has 9"),
        (lambda arrays: batches({}, 9), DataError, "there are none"),
    ],
    ids=["unknown name", "batch of 0", "batch larger than the data", "unknown last batch", "rows differ", "no arrays"],
)
def test_bad_arguments_are_told_before_the_first_batch(arrays, make, error, told):
    with pytest.raises(error, match=told):
        make(arrays)


FIT = """
import sys
from pathlib import Path
import keras
from feedline.classic import load
from feedline.classic.keras import generator

keras.utils.set_random_seed(1)
folder = Path(sys.argv[1])
arrays = load({name: folder / f"{name}.npy" for name in ("x", "y")}, 0, 512, in_memory=False)
model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")])
model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(generator(arrays, "x", "y", 32), steps_per_epoch=512 // 32, epochs=4, verbose=0)
print(keras.backend.backend(), len(history.history["loss"]), history.history["accuracy"][-1])
"""


@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_fit_trains_from_the_generator(tmp_path, backend):
    x = np.random.default_rng(0).normal(size=(512, 4, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", (x[:, 0, 0] > 0).astype(np.int32))

    package = Path(feedline.__file__).parents[1]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(package), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", FIT, tmp_path], env=environment, capture_output=True, text=True, timeout=600, check=False
    )

    assert done.returncode == 0, done.stderr
    used, epochs, accuracy = done.stdout.split()
    assert (used, epochs) == (backend, "4")
    assert float(accuracy) > 0.9
