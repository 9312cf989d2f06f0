"""Windows that lie in one document, one episode: none has elements from both sides of a boundary."""

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline import Stored, Window
from feedline.errors import DataError, FeedlineError, UsageError

COUNTS = (40, 25)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elements")
    for number, part in enumerate(np.split(np.arange(sum(COUNTS)), np.cumsum(COUNTS)[:-1])):
        np.save(folder / f"{number}.npy", part)
    return folder / "*.npy"


def opened(files, length, stride, boundaries, rows=None, residency="auto"):
    sources = {
        "x": Stored(files, window=Window(length, stride=stride)),
        "y": Stored(files, window=Window(stride=stride, start=length)),
    }
    return feedline.open_arrays(sources, rows, residency, boundaries=boundaries)


def expected(length, stride, boundaries, start=0, stop=65):
    """Return the first elements of all windows that lie within a file, the range, and two boundaries."""
    found, at = [], 0
    for count in COUNTS:
        begins = range(max(start, at), min(stop, at + count) - length, stride)
        found += [begin for begin in begins if not any(begin < edge <= begin + length for edge in boundaries)]
        at += count
    return found


@given(
    length=st.integers(1, 8),
    stride=st.integers(1, 9),
    boundaries=st.lists(st.integers(0, sum(COUNTS)), max_size=12),
    used=st.tuples(st.integers(0, 20), st.integers(45, 65)),
    residency=st.sampled_from(["auto", "mapped", "read", "memory"]),
    data=st.data(),
)
def test_windows_lie_between_boundaries(files, length, stride, boundaries, used, residency, data):
    wanted = expected(length, stride, boundaries, *used)
    edges = np.array(boundaries, np.int64)
    if not wanted:
        with pytest.raises(FeedlineError, match=r"is divided by one|a window takes"):
            opened(files, length, stride, edges, used, residency)
        return
    arrays = opened(files, length, stride, edges, used, residency)
    x, y = (arrays[name].read(0, arrays.rows) for name in ("x", "y"))
    assert x[:, 0].tolist() == wanted
    assert (x == x[:, :1] + np.arange(length)).all()
    assert y.tolist() == [begin + length for begin in wanted]
    again = pickle.loads(pickle.dumps(arrays))
    assert again.fingerprint() == arrays.fingerprint()

    # A part of them is opened by the elements that it is made of, as the share of a rank is.
    first = data.draw(st.integers(0, arrays.rows - 1))
    last = data.draw(st.integers(first + 1, arrays.rows))
    part = opened(files, length, stride, edges, arrays.part(first, last))
    assert part["x"].read(0, part.rows)[:, 0].tolist() == wanted[first:last]
    with feedline.Feed(arrays, 1 + arrays.rows // 3, seed=3, last_batch="keep") as feed:
        seen = np.concatenate([batch["x"][:, 0].copy() for batch in feed])
    assert sorted(seen) == wanted


def test_memory_holds_what_windows_share_once(files):
    arrays = opened(files, 8, 1, np.array([10, 50]), residency="memory")
    assert arrays.loaded_bytes < 2 * 65 * 8
    assert arrays.rows == len(expected(8, 1, [10, 50]))


def test_other_boundaries_are_other_rows(files):
    one, other = (opened(files, 4, 1, np.array([edge])).fingerprint() for edge in (10, 11))
    assert one["rows"] == other["rows"]
    assert one["sample"] != other["sample"]


def test_what_are_no_boundaries_is_one_sentence(files, tmp_path):
    def refused(boundaries, error, why):
        path = tmp_path / "edges.npy"
        np.save(path, boundaries)
        for given_as in (boundaries, path):
            with pytest.raises(error, match=re.escape(why)) as caught:
                opened(files, 4, 1, given_as)
            assert given_as is boundaries or str(path) in str(caught.value)

    refused(
        np.array([1.0]), DataError, "boundaries are one element's number for each (got dtype <f8, rows of shape [])"
    )
    refused(np.zeros((2, 2), int), DataError, "(got dtype <i8, rows of shape [2])")
    refused(np.array([True]), DataError, "(got dtype |b1, rows of shape [])")
    refused(np.array([3, -1]), DataError, "there is a boundary at element -1, and the files have 65")
    refused(np.array([3, 66]), DataError, "there is a boundary at element 66, and the files have 65")
    refused(np.arange(65), DataError, "each window of 5 elements is divided by one: take shorter windows")
    with pytest.raises(UsageError, match="boundaries: are for rows that are windows: give each array a window"):
        feedline.open_arrays({"x": files}, boundaries=np.array([3]))
