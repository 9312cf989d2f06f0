"""Rows that an index names: the same as numpy's own, in every way that they come in, and a sentence for what is none."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline import Stored, Window
from feedline.errors import DataError, UsageError
from feedline.files import bytes_of

ROWS = 300
RESIDENCIES = ["auto", "mapped", "read", "memory"]
VALUES = np.arange(ROWS * 5, dtype=np.int32).reshape(ROWS, 5)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return an array in three files."""
    folder = tmp_path_factory.mktemp("rows")
    for number, part in enumerate(np.split(VALUES, [100, 117])):
        np.save(folder / f"x-{number}.npy", part)
    return {"x": folder / "x-*.npy"}


NUMBERS = st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=80)


@given(
    NUMBERS,
    st.sampled_from(["int64", "int32", "uint16", "uint64"]),
    st.sampled_from(RESIDENCIES),
    st.booleans(),
    st.data(),
)
def test_the_rows_are_those_that_numpy_takes(source, numbers, dtype, residency, as_mask, data):
    index = np.array(numbers, dtype)
    if as_mask:
        index = np.isin(np.arange(ROWS), index)
    wanted = VALUES[index]
    arrays = feedline.open_arrays(source, index, residency)
    assert arrays.rows == len(wanted)
    np.testing.assert_array_equal(arrays["x"].read(0, arrays.rows), wanted)
    some = np.array(data.draw(st.lists(st.integers(0, len(wanted) - 1), min_size=1, max_size=20)))
    out = np.empty((len(some), 20), np.uint8)
    arrays["x"].take(some, out)
    np.testing.assert_array_equal(out.view(np.int32), wanted[some])
    start = data.draw(st.integers(0, len(wanted) - 1))
    part = feedline.open_arrays(source, arrays.part(start, len(wanted)))
    np.testing.assert_array_equal(part["x"].read(0, part.rows), wanted[start:])


@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
@pytest.mark.parametrize("residency", RESIDENCIES)
def test_a_feed_gives_each_of_them_once_an_epoch_and_goes_on(source, shuffle, residency):
    index = np.random.default_rng(1).permutation(ROWS)[:101]
    arrays = feedline.open_arrays(source, index, residency)
    with feedline.Feed(arrays, 10, shuffle=shuffle, seed=2, last_batch="keep") as feed:
        epoch = iter(feed)
        first = [next(epoch)["x"].copy() for _ in range(4)]
        state = json.loads(json.dumps(feed.state()))
        rest = [batch["x"].copy() for batch in epoch]
    seen = np.concatenate(first + rest)
    np.testing.assert_array_equal(seen[np.argsort(seen[:, 0])], VALUES[np.sort(index)])
    if shuffle == "none":
        np.testing.assert_array_equal(seen, VALUES[index])
    again = pickle.loads(pickle.dumps(arrays))
    with feedline.Feed(again, 10, shuffle=shuffle, seed=2, last_batch="keep", state=state) as feed:
        np.testing.assert_array_equal(np.concatenate([batch["x"].copy() for batch in feed]), np.concatenate(rest))
    other = index.copy()
    other[50], other[51] = index[51], index[50]
    with pytest.raises(UsageError, match="state: belongs to another feed: sample was"):
        feedline.Feed(feedline.open_arrays(source, other), 10, shuffle=shuffle, seed=2, last_batch="keep", state=state)


def test_memory_holds_the_chosen_rows_alone(source):
    array = feedline.open_arrays(source, np.array([299, 0, 0, 150]), "memory")["x"]
    assert array.bytes == 4 * 20
    np.testing.assert_array_equal(array.read(0, 4), VALUES[[299, 0, 0, 150]])


WRONG = {
    "beyond the rows": (
        np.array([3, 300, 1]),
        "rows: the index names row 300 at place 1, and the arrays have 300 rows",
    ),
    "negative": (np.array([3, -1]), "rows: the index names row -1 at place 1: rows are counted from 0"),
    "empty": (np.array([], np.int64), "rows: the index chooses none"),
    "all false": (np.zeros(300, bool), "rows: the index chooses none"),
    "a mask of another length": (
        np.ones(299, bool),
        "rows: the index says true or false of 299 rows, and the arrays have 300",
    ),
    "floats": (
        np.array([1.0]),
        "rows: an index is one row number, or true or false, for each row (got dtype <f8, rows of shape [])",
    ),
    "two axes": (
        np.array([[1]]),
        "rows: an index is one row number, or true or false, for each row (got dtype <i8, rows of shape [1])",
    ),
    "beyond every integer": (
        np.array([2**64 - 1], np.uint64),
        f"rows: the index names row {2**64 - 1} at place 0, and the arrays have 300 rows",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_index_is_one_sentence(source, case):
    index, message = WRONG[case]
    with pytest.raises(DataError) as raised:
        feedline.open_arrays(source, index)
    assert str(raised.value) == message


@pytest.mark.parametrize("rows", [[5, 9], [1, 2, 3], range(3), (1, 2, 3), 7])
def test_what_may_be_a_range_or_an_index_is_neither(source, rows):
    with pytest.raises(UsageError, match="rows: must be start and stop, an array of row numbers or a path"):
        feedline.open_arrays(source, rows)


def test_an_index_may_lie_in_a_file_which_is_named_where_it_is_wrong(source, tmp_path):
    path = tmp_path / "fold.npy"
    np.save(path, np.array([7, 5, 299]))
    arrays = feedline.open_arrays(source, path)
    np.testing.assert_array_equal(arrays["x"].read(0, 3), VALUES[[7, 5, 299]])
    np.save(path, np.array([300]))
    with pytest.raises(DataError, match=r"fold.npy: the index names row 300 at place 0, and the arrays have 300 rows"):
        feedline.open_arrays(source, path)
    np.save(path, VALUES.astype(np.float32))
    with pytest.raises(DataError, match=r"fold.npy: an index is one row number, .* .got dtype <f4, rows of shape .5."):
        feedline.open_arrays(source, path)


def test_bytes_are_those_of_files_once_and_of_memory_where_rows_go_there(source):
    whole = feedline.open_arrays(source)
    twice = feedline.open_arrays({**source, "again": source["x"]}, (10, 200))
    assert (whole.bytes, twice.bytes, whole.loaded_bytes) == (ROWS * 20, 190 * 20, ROWS * 20)
    assert bytes_of(whole, twice) == whole.bytes
    few = feedline.open_arrays(source, np.array([0, 299]))
    assert (few.bytes, few.loaded_bytes) == (ROWS * 20, 2 * 20)
    many = feedline.open_arrays(source, np.zeros(1000, int))
    assert (many.bytes, many.loaded_bytes) == (20, 1000 * 20)
    assert feedline.open_arrays(source, np.zeros(1000, int), "memory").bytes == 1000 * 20


def test_windows_are_not_chosen_by_an_index(source):
    windows = {"x": Stored(source["x"], window=Window(4, stride=1))}
    with pytest.raises(UsageError, match="of rows that are windows none can be chosen by an index"):
        feedline.open_arrays(windows, np.array([1, 2]))
