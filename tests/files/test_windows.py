"""Rows that are windows over the first axis: the same bytes as slices of it, however they come in, and none in two."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline import Stored, Window
from feedline.errors import DataError, FeedlineError, FileShrankError, UsageError

RESIDENCIES = ["auto", "mapped", "read", "memory"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("windows")


def series(count, shape=(), dtype="int32"):
    return np.arange(count * math.prod(shape)).reshape(count, *shape).astype(dtype)


def expected(parts, window, reach, start=0, stop=None):
    """Return the windows over elements of parts, none of which crosses from one to the next."""
    found, at = [], 0
    stop = sum(map(len, parts)) if stop is None else stop
    for part in parts:
        first, end = max(start - at, 0), min(stop - at, len(part))
        for begin in range(first, end - reach + 1, window.stride):
            own = begin + window.start
            found.append(part[own] if window.length is None else part[own : own + window.length])
        at += len(part)
    return np.array(found)


LENGTHS = st.integers(1, 9)


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    length=st.none() | LENGTHS,
    stride=LENGTHS,
    start=st.integers(0, 4),
    shape=st.sampled_from([(), (3,), (2, 2)]),
    residency=st.sampled_from(RESIDENCIES),
    offset=st.integers(0, 9),
    used=st.tuples(st.integers(0, 20), st.none() | st.integers(21, 40)),
    data=st.data(),
)
def test_windows_are_slices_of_the_first_axis(
    folder, counts, length, stride, start, shape, residency, offset, used, data
):
    window = Window(length, stride=stride, start=start)
    whole = series(sum(counts), shape)
    parts = np.split(whole, np.cumsum(counts)[:-1])
    total, (begin, stop) = len(whole), used
    stop = None if stop is None or stop > total else stop
    stored = []
    for number, part in enumerate(parts):
        path = folder / f"part-{number}.bin"
        path.unlink(missing_ok=True)
        path.write_bytes(b"x" * offset + part.tobytes())
        stored.append(Stored(path, format="Raw", dtype="int32", shape=shape, offset=offset, window=window))
    wanted = expected(parts, window, window.reach, begin, stop)
    if not len(wanted):
        with pytest.raises(FeedlineError, match=r"start must be|a window takes"):
            feedline.open_arrays({"x": stored}, (begin, stop), residency)
        return
    arrays = feedline.open_arrays({"x": stored}, (begin, stop), residency)
    assert arrays.rows == len(wanted)
    array = arrays["x"]
    np.testing.assert_array_equal(array.read(0, arrays.rows), wanted)
    some = np.array(data.draw(st.lists(st.integers(0, arrays.rows - 1), min_size=1, max_size=20)))
    out = np.empty((len(some), array.row_bytes), np.uint8)
    if array.is_mapped or not array.mapped:
        array.take(some, out)
        np.testing.assert_array_equal(out.view("int32").reshape(len(some), *array.row_shape), wanted[some])

    # A part of them is opened by the elements that it is made of.
    first = data.draw(st.integers(0, arrays.rows - 1))
    last = data.draw(st.integers(first + 1, arrays.rows))
    again = feedline.open_arrays({"x": stored}, arrays.part(first, last))
    np.testing.assert_array_equal(again["x"].read(0, again.rows), wanted[first:last])


def token_files(tmp_path, count=1000):
    tokens = series(count, dtype="uint16")
    (tmp_path / "train.bin").write_bytes(tokens.tobytes())
    return tokens, lambda **window: Stored(
        tmp_path / "train.bin", format="Raw", dtype="uint16", window=Window(**window)
    )


def test_what_comes_next_is_the_same_file_one_further(tmp_path):
    tokens, stored = token_files(tmp_path, 1024)
    arrays = feedline.open_arrays({"x": stored(length=64, stride=64), "y": stored(length=64, stride=64, start=1)})
    assert arrays.rows == 15, "the last window has no element behind it"
    with feedline.Feed(arrays, 5, seed=1, epochs=2) as feed:
        seen = [batch for epoch in range(2) for batch in feed]
    for batch in seen:
        assert (batch["x"] + 1 == batch["y"]).all()
        assert batch["x"].dtype == np.uint16
    firsts = np.concatenate([batch["x"][:, 0] for batch in seen])
    assert sorted(firsts[:15].tolist()) == list(range(0, 15 * 64, 64)) == sorted(firsts[15:].tolist())
    assert tokens[0] == 0


@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
@pytest.mark.parametrize("residency", RESIDENCIES)
@pytest.mark.parametrize("stride", [1, 24, 100], ids=["overlapping", "next to each other", "apart"])
def test_a_feed_resumes_within_windows(tmp_path, shuffle, residency, stride):
    """History, and one value of what follows it."""
    values = series(5000, (3,), "float32")
    for number, part in enumerate(np.split(values, [1700, 1720])):
        np.save(tmp_path / f"series-{number}.npy", part)
    past = Stored(tmp_path / "series-*.npy", window=Window(24, stride=stride))
    coming = Stored(tmp_path / "series-*.npy", window=Window(stride=stride, start=30))

    def opened():
        return feedline.open_arrays({"past": past, "coming": coming}, residency=residency)

    batches = []
    with feedline.Feed(opened(), 8, shuffle=shuffle, seed=5, epochs=2) as feed:
        for _ in range(2):
            for batch in feed:
                batches.append({name: array.copy() for name, array in batch.items()})
                if len(batches) == 3:
                    state = feed.state()
    for batch in batches:
        assert batch["coming"].shape == (len(batch["past"]), 3)
        assert (batch["past"][:, 0, 0] + 3 * 30 == batch["coming"][:, 0]).all()
        assert (np.diff(batch["past"][:, :, 0], axis=1) == 3).all(), "a window crosses from one file to the next"
    with feedline.Feed(opened(), 8, shuffle=shuffle, seed=5, epochs=2, state=state) as feed:
        rest = [batch["past"].copy() for _ in range(2) for batch in feed]
    assert len(rest) == len(batches) - 3 > 5
    np.testing.assert_array_equal([batch["past"] for batch in batches[3:]], rest)
    assert pickle.loads(pickle.dumps(opened())).rows == opened().rows


def test_two_ranges_share_no_element(tmp_path):
    _, stored = token_files(tmp_path)
    train = feedline.open_arrays({"x": stored(length=50, stride=7)}, (0, 800))["x"]
    validation = feedline.open_arrays({"x": stored(length=50, stride=7)}, (800, None))["x"]
    seen = [set(array.read(0, array.rows).ravel().tolist()) for array in (train, validation)]
    assert not seen[0] & seen[1]
    assert seen[1] == set(range(800, 800 + 50 + 7 * 21))


def test_memory_holds_what_windows_share_once(tmp_path):
    _, stored = token_files(tmp_path, 20_000)
    array = feedline.open_arrays({"x": stored(length=1000, stride=1)}, residency="memory")["x"]
    assert array.rows == 19_001
    assert array.bytes == 40_000
    loaded = feedline.open_arrays({"x": stored(length=1000, stride=1)})["x"].loaded()
    np.testing.assert_array_equal(loaded.read(0, 300), array.read(0, 300))


WRONG = {
    "no length": ({"length": 0, "stride": 1}, "window: length must be at least 1 (got 0)"),
    "no stride": ({"length": 1, "stride": 0}, "window: stride must be at least 1 (got 0)"),
    "before the start": ({"length": 1, "stride": 1, "start": -1}, "window: start must be at least 0 (got -1)"),
    "half an element": ({"length": 1.5, "stride": 1}, "window: length must be an integer (got 1.5)"),
    "beyond any file": ({"length": 2**60, "stride": 1}, f"window: length must be at most {2**48} (got {2**60})"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_window_is_one_sentence(case):
    window, message = WRONG[case]
    with pytest.raises(UsageError) as raised:
        Window(**window)
    assert str(raised.value) == message


def test_a_window_longer_than_the_file_is_one_sentence(tmp_path):
    _, stored = token_files(tmp_path, 100)
    with pytest.raises(DataError, match=r"x: a window takes 101 elements, and 100 are in use: take shorter windows"):
        feedline.open_arrays({"x": stored(length=100, stride=2**48, start=1)})
    with pytest.raises(DataError, match=r"a window takes 60 elements, and 40 are in use"):
        feedline.open_arrays({"x": stored(length=60, stride=1)}, (0, 40))
    assert feedline.open_arrays({"x": stored(length=99, stride=2**48, start=1)}).rows == 1


def test_windows_that_do_not_go_together_are_one_sentence(tmp_path):
    _, stored = token_files(tmp_path, 100)
    plain = Stored(tmp_path / "train.bin", format="Raw", dtype="uint16")
    with pytest.raises(UsageError, match="y: has no window, and x has one: give each array that is read with it"):
        feedline.open_arrays({"x": stored(length=4, stride=1), "y": plain})
    with pytest.raises(UsageError, match="y: its windows have stride 2, and those of x 1: windows of arrays that"):
        feedline.open_arrays({"x": stored(length=4, stride=1), "y": stored(length=4, stride=2)})
    with pytest.raises(UsageError, match="x: its files have different windows: give all of them the same"):
        feedline.open_arrays({"x": [stored(length=4, stride=1), stored(length=5, stride=1)]})
    with pytest.raises(UsageError, match=r"window must be a feedline.Window \(got 4\)"):
        Stored(tmp_path / "train.bin", format="Raw", dtype="uint16", window=4)


def test_windows_of_files_that_end_elsewhere_are_one_sentence(tmp_path):
    """They begin anew in each file, and would be of other elements than those beside them."""
    values = np.arange(200)
    np.save(tmp_path / "y.npy", values)
    for number, part in enumerate(np.split(values, [105])):
        np.save(tmp_path / f"x-{number}.npy", part)
    window = Window(10, stride=10)
    sources = {"x": Stored(tmp_path / "x-*.npy", window=window), "y": Stored(tmp_path / "y.npy", window=window)}
    with pytest.raises(DataError, match=r"x has 2 files and y has 1: .*; windows begin anew in each file"):
        feedline.open_arrays(sources)
    plain = {"x": tmp_path / "x-*.npy", "y": tmp_path / "y.npy"}
    assert feedline.open_arrays(plain).rows == 200


def test_a_file_that_is_cut_short_says_in_which_window(tmp_path):
    _, stored = token_files(tmp_path)
    arrays = feedline.open_arrays({"x": stored(length=50, stride=10)})
    with (tmp_path / "train.bin").open("r+b") as file:
        file.truncate(2 * 500)
    with pytest.raises(FileShrankError, match="it now ends in row 50"):
        arrays.verify()
    with pytest.raises(FileShrankError, match="was cut short while it was read, at row 46"):
        arrays["x"].copy(np.array([3, 46]), np.empty((2, 100), np.uint8))


def test_rows_of_too_many_axes_are_one_sentence(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((20, *[1] * 62)))
    with pytest.raises(DataError, match="x: a window of rows of 62 axes has too many: reshape its rows"):
        feedline.open_arrays({"x": Stored(tmp_path / "x.npy", window=Window(2, stride=1))})
    assert feedline.open_arrays({"x": Stored(tmp_path / "x.npy", window=Window(stride=2))}).rows == 10


def test_a_file_of_two_windows_counts_once(tmp_path):
    _, stored = token_files(tmp_path, 1000)
    arrays = feedline.open_arrays({"x": stored(length=10, stride=10), "y": stored(length=10, stride=10, start=1)})
    assert arrays.bytes == 2 * 991
