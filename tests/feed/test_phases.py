"""Windows that begin elsewhere in each epoch: which come, that all of them do, and that a feed goes on among them."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import feedline
from feedline import Stored, Window
from feedline.errors import DataError, UsageError

COUNTS = (40, 4, 71)
LENGTH, STRIDE = 5, 6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elements")
    for number, part in enumerate(np.split(np.arange(sum(COUNTS)), np.cumsum(COUNTS)[:-1])):
        np.save(folder / f"{number}.npy", part)
    return folder / "*.npy"


def opened(files, boundaries=None, rows=None, residency="auto", stride=STRIDE):
    sources = {
        "x": Stored(files, window=Window(LENGTH, stride=stride, phase="per_epoch")),
        "y": Stored(files, window=Window(stride=stride, start=LENGTH, phase="per_epoch")),
    }
    return feedline.open_arrays(sources, rows, residency, boundaries=boundaries)


def pieces(boundaries, start, stop):
    """Return from where to where each piece of a file between two boundaries goes that has room for a window."""
    edges = sorted({start, stop, *np.cumsum(COUNTS).tolist(), *boundaries})
    edges = [edge for edge in edges if start <= edge <= stop]
    return [(one, other) for one, other in pairwise(edges) if other - one >= LENGTH + 1]


@settings(max_examples=60)
@given(
    boundaries=st.lists(st.integers(0, sum(COUNTS)), max_size=6),
    used=st.tuples(st.integers(0, 20), st.integers(90, sum(COUNTS))),
    residency=st.sampled_from(["auto", "mapped", "read", "memory"]),
    shuffle=st.sampled_from(["full", "block", "none"]),
    threads=st.integers(1, 3),
    batch_size=st.integers(1, 9),
)
def test_an_epoch_is_windows_a_stride_apart(files, boundaries, used, residency, shuffle, threads, batch_size):
    there = pieces(boundaries, *used)
    edges = np.array(boundaries, np.int64)
    if not there:
        with pytest.raises(DataError, match="is divided by one"):
            opened(files, edges, used, residency)
        return
    arrays = opened(files, edges, used, residency)
    options = {"batch_size": min(batch_size, arrays.rows), "last_batch": "keep", "seed": 9, "shuffle": shuffle}
    begun = set()
    with feedline.Feed(arrays, threads=threads, **options) as feed:
        for _ in range(40):
            batches = [{name: array.copy() for name, array in batch.items()} for batch in feed]
            x = np.concatenate([batch["x"] for batch in batches])
            y = np.concatenate([batch["y"] for batch in batches])
            assert (x == x[:, :1] + np.arange(LENGTH)).all()
            assert (y == x[:, 0] + LENGTH).all()
            seen = sorted(x[:, 0].tolist())
            begun |= set(seen)
            for begin, end in there:
                own = [place for place in seen if begin <= place < end]
                assert len(own) == max(1, (end - begin - LENGTH) // STRIDE), "as many in each epoch"
                assert np.diff(own).tolist() == [STRIDE] * (len(own) - 1)
                assert own[-1] + LENGTH < end
            assert len(seen) == arrays.rows
    # A part is opened by the elements that its windows may have, wherever they begin.
    start, stop = arrays.part(0, arrays.rows)
    assert (start, stop) == (min(begin for begin, _ in there), max(end for _, end in there))
    assert len(begun) > 0.8 * sum(end - begin - LENGTH for begin, end in there), "they begin everywhere"


@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
@pytest.mark.parametrize("weights", [None, "some"])
def test_a_feed_goes_on_where_it_was(files, shuffle, weights):
    def new(**state):
        arrays = opened(files, np.array([30]))
        drawn = {} if weights is None else {"weights": np.arange(arrays.rows), "draws": 20}
        return feedline.Feed(pickle.loads(pickle.dumps(arrays)), 4, shuffle=shuffle, seed=2, epochs=4, **drawn, **state)

    batches, states = [], []
    with new() as feed:
        for _ in range(4):
            for batch in feed:
                batches.append(batch["x"].tolist())
                states.append(feed.state())
    for done in (1, len(batches) // 2, len(batches) - 1):
        with new(state=states[done - 1]) as feed:
            assert [batch["x"].tolist() for _ in range(4) for batch in feed] == batches[done:]


def test_ranks_share_the_windows_of_an_epoch(files):
    def epochs(**place):
        with feedline.Feed(opened(files), 4, seed=2, epochs=3, **place) as feed:
            return [batch["x"].tolist() for _ in range(3) for batch in feed]

    one, other = (epochs(rank=rank, world=2) for rank in range(2))
    assert [[*left, *right] for left, right in zip(one, other, strict=True)] == epochs()


def test_another_stride_is_other_rows(files):
    state = feedline.Feed(opened(files), 4).state()
    with pytest.raises(UsageError, match="state"):
        feedline.Feed(opened(files, stride=STRIDE + 1), 4, state=state)


def test_windows_of_one_stride_begin_everywhere_anyway(files):
    per_epoch = opened(files, stride=1)
    fixed = feedline.open_arrays({"x": Stored(files, window=Window(LENGTH + 1, stride=1))})
    assert per_epoch.rows == fixed.rows == 40 - 5 + 71 - 5


def test_what_does_not_go_together_is_one_sentence(files):
    with pytest.raises(UsageError, match=r"window: phase must be fixed or per_epoch \(got 'PerEpoch'\)"):
        Window(4, stride=2, phase="PerEpoch")
    fixed, moving = Window(4, stride=2), Window(4, stride=2, phase="per_epoch")
    with pytest.raises(UsageError, match="y: its windows have phase per_epoch, and those of x fixed"):
        feedline.open_arrays({"x": Stored(files, window=fixed), "y": Stored(files, window=moving)})
    with pytest.raises(DataError, match="each window of 6 elements is divided by one"):
        opened(files, np.arange(0, sum(COUNTS), 5))


def test_the_stride_of_an_array_of_any_name_is_in_a_state(files):
    window = Window(LENGTH, stride=STRIDE, phase="per_epoch")
    found = feedline.open_arrays({"window": Stored(files, window=window)}).fingerprint()
    assert found["arrays"] == {"window": f"<i8 [{LENGTH}]"}
    assert found["windows"] == f"every {STRIDE}, beginning elsewhere in each epoch"
