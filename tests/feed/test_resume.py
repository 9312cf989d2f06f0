"""Going on where a run stopped: exactly there, with the same rows, or not at all."""

import json
import os
import pickle
import warnings
from functools import partial
from itertools import chain

import numpy as np
import pytest

import feedline
from feedline import order
from feedline.errors import UsageError
from feedline.feed import gather


@pytest.fixture(autouse=True)
def small_slots(monkeypatch):
    """Make slots of three batches, so that a run stops within slots and between them."""
    monkeypatch.setattr(gather, "SLOT_BYTES", 3 * 1536)


def labels(epoch):
    return [batch["labels"].tolist() for batch in epoch]


def saved_state(feed):
    """Return the state as it comes back from a file."""
    return json.loads(json.dumps(feed.state()))


STEPS = 11


@pytest.fixture
def unbroken(numbered):
    """Return the batches of three epochs, 11 each, and the function that makes the feed."""
    arrays = numbered(103)

    def make(**arguments):
        return feedline.Feed(arrays, 10, **{"seed": 4, "last_batch": "keep", **arguments})

    with make() as feed:
        return [batch for _ in range(3) for batch in labels(feed)], make


@pytest.fixture
def unbroken_blocks(unbroken):
    """Return the same of block shuffle: windows of up to 12 rows, so that most batches reach over an edge of one."""
    make = partial(unbroken[1], shuffle="block", block_rows=4, window=3)
    with make() as feed:
        return [batch for _ in range(3) for batch in labels(feed)], make


@pytest.mark.parametrize("stop", range(2 * STEPS + 1))
def test_a_run_resumed_after_any_step_is_the_unbroken_run(unbroken, stop):
    is_resumed_after(stop, *unbroken)


@pytest.mark.parametrize("stop", range(2 * STEPS + 1))
def test_a_run_in_blocks_resumed_after_any_step_is_the_unbroken_run(unbroken_blocks, stop):
    is_resumed_after(stop, *unbroken_blocks)


def is_resumed_after(stop, expected, make):
    with make(threads=2) as feed:
        taken, epoch = [], iter(feed)
        while len(taken) < stop:
            for batch in epoch:
                taken.append(batch["labels"].tolist())
                if len(taken) == stop:
                    break
            else:
                epoch = iter(feed)
        state = saved_state(feed)
    assert (state["epoch"], state["step"]) == divmod(stop, STEPS)
    with make(threads=3, prefetch=7, state=state) as feed:
        assert len(feed) == STEPS
        while len(taken) < 3 * STEPS:
            taken += labels(feed)
    assert taken == expected


def test_a_state_counts_batches_handed_out_and_not_those_prefetched(unbroken):
    _, make = unbroken
    with make(prefetch=50) as feed:
        assert (feed.state()["epoch"], feed.state()["step"]) == (0, 0)
        epoch = iter(feed)
        assert feed.state()["step"] == 0
        next(epoch)
        next(epoch)
        assert feed.state()["step"] == 2


def test_only_the_first_iterator_starts_in_the_middle(unbroken):
    expected, make = unbroken
    with make() as feed:
        for _, _ in zip(range(4), feed, strict=False):
            pass
        state = saved_state(feed)
    with make(state=state) as feed:
        assert next(iter(feed))["labels"].tolist() == expected[4]
        assert labels(feed) == expected[STEPS : 2 * STEPS]


def test_a_feed_goes_on_from_a_state_it_is_given_later(unbroken):
    expected, make = unbroken
    with make() as feed:
        list(feed)
        state = saved_state(feed)
        list(feed)
        feed.restore(state)
        assert labels(feed) == expected[STEPS : 2 * STEPS]


@pytest.mark.parametrize("world", [2, 5])
def test_a_state_is_good_for_another_world(numbered, world):
    arrays = numbered(100)
    with feedline.Feed(arrays, 10) as feed:
        epoch = iter(feed)
        for _ in range(3):
            next(epoch)
        state = saved_state(feed)
        rest = labels(epoch)
    ranks = [feedline.Feed(arrays, 10, rank=rank, world=world, state=state) for rank in range(world)]
    parts = [labels(feed) for feed in ranks]
    for feed in ranks:
        feed.close()
    assert [list(chain(*step)) for step in zip(*parts, strict=True)] == rest


def test_the_bound_on_epochs_counts_those_before_the_resume(unbroken):
    expected, make = unbroken
    with make() as feed:
        list(feed)
        state = saved_state(feed)
    with make(epochs=2, state=state) as feed:
        assert labels(feed) == expected[STEPS : 2 * STEPS]
        assert labels(feed) == []


OTHER_ARGUMENTS = {
    "seed": ({"seed": 5}, "seed was 4 and is 5"),
    "batch size": ({"batch_size": 20}, "batch_size was 10 and is 20"),
    "shuffle": ({"shuffle": "none"}, "shuffle was full and is none"),
    "last batch": ({"last_batch": "drop"}, "last_batch was keep and is drop"),
    "two at once": ({"seed": 5, "batch_size": 20}, "batch_size was 10 and is 20, seed was 4 and is 5"),
    "blocks": (
        {"shuffle": "block", "block_rows": 4},
        "order was 1 and is 2, shuffle was full and is block, block_rows was None and is 4, window was None and is 64",
    ),
}


@pytest.mark.parametrize(("changes", "told"), OTHER_ARGUMENTS.values(), ids=OTHER_ARGUMENTS)
def test_a_state_of_a_feed_with_other_arguments_is_refused(numbered, changes, told):
    arrays = numbered(100)
    arguments = {"batch_size": 10, "seed": 4, "last_batch": "keep"}
    state = feedline.Feed(arrays, **arguments).state()
    with pytest.raises(UsageError, match=f"state: belongs to another feed: {told}"):
        feedline.Feed(arrays, **{**arguments, **changes}, state=state)


OTHER_BLOCKS = {
    "rows": ({"block_rows": 5}, "block_rows was 4 and is 5"),
    "window": ({"window": 9}, "window was 3 and is 9"),
    "both": ({"block_rows": 5, "window": 9}, "block_rows was 4 and is 5, window was 3 and is 9"),
    "none chosen": ({"block_rows": 0}, "block_rows was 4 and is 10485"),
    "no window chosen": ({"window": 0}, "window was 3 and is 64"),
    "no shuffle": (
        {"shuffle": "none", "block_rows": 0, "window": 0},
        "order was 2 and is 1, shuffle was block and is none",
    ),
}


@pytest.mark.parametrize(("changes", "told"), OTHER_BLOCKS.values(), ids=OTHER_BLOCKS)
def test_a_state_of_other_blocks_is_refused(unbroken_blocks, changes, told):
    _, make = unbroken_blocks
    state = make().state()
    with pytest.raises(UsageError, match=f"state: belongs to another feed: {told}$"):
        make(**changes, state=state)


def test_a_state_of_blocks_that_nobody_chose_is_that_of_the_same_blocks_chosen(unbroken):
    _, make = unbroken
    state = make(shuffle="block").state()
    make(shuffle="block", block_rows=10485, window=64, state=state)


EARLIER = {
    shuffle: {
        "epoch": 1,
        "step": 3,
        "fingerprint": {
            "order": 1,
            "batch_size": 10,
            "shuffle": shuffle,
            "seed": 4,
            "last_batch": "drop",
            "rows": 100,
            "arrays": {"a": "<i8 []"},
            "sample": "aab81149799d175645e1f98aa8397073",
        },
    }
    for shuffle in ("full", "none")
}


@pytest.mark.parametrize("shuffle", EARLIER)
def test_a_state_that_was_saved_before_there_were_blocks_is_good(save, shuffle):
    arrays = feedline.open_arrays({"a": save("a", np.arange(100))})
    state = {**EARLIER[shuffle], "modified": arrays.modified_ns()}
    with (
        feedline.Feed(arrays, 10, seed=4, shuffle=shuffle, state=state) as feed,
        warnings.catch_warnings(action="error"),
    ):
        assert feed.state() == state, "and a state that is saved now is good for a release from before"
        drawn = order.order(100, shuffle, 4, 1).rows(30, 100)
        assert np.concatenate([batch["a"] for batch in feed]).tolist() == drawn.tolist()


def test_what_a_state_belongs_to_is_read_once(save, monkeypatch):
    """The disk may have gone by the time at which what was trained is to be saved."""
    arrays = feedline.open_arrays({"a": save("a", np.arange(100))})
    with feedline.Feed(arrays, 10, seed=4) as feed:
        before, batches = feed.state(), iter(feed)
        next(batches)

        def gone(*_):
            raise OSError("gone")

        monkeypatch.setattr(type(arrays), "fingerprint", gone)
        monkeypatch.setattr(type(arrays), "modified_ns", gone)
        assert feed.state() == {**before, "step": 1}
        assert feed.state_at(2, 3) == {**before, "epoch": 2, "step": 3}


OTHER_ROWS = {
    "values": (np.arange(100) + 1, "sample was"),
    "dtype": (np.arange(100, dtype=np.int32), r"arrays was {'a': '<i8 \[\]'} and is {'a': '<i4 \[\]'}"),
    "shape": (np.arange(100).reshape(100, 1), r"arrays was {'a': '<i8 \[\]'} and is {'a': '<i8 \[1\]'}"),
    "number": (np.arange(99), "rows was 100 and is 99"),
}


@pytest.mark.parametrize(("rows", "told"), OTHER_ROWS.values(), ids=OTHER_ROWS)
def test_a_state_of_other_rows_is_refused(save, rows, told):
    state = feedline.Feed(feedline.open_arrays({"a": save("a", np.arange(100))}), 10).state()
    with pytest.raises(UsageError, match=told):
        feedline.Feed(feedline.open_arrays({"a": save("a", rows)}), 10, state=state)


def test_a_state_of_another_version_of_the_order_is_refused(unbroken, monkeypatch):
    _, make = unbroken
    state = make().state()
    monkeypatch.setattr(order, "version", lambda shuffle, rows: 2)
    with pytest.raises(UsageError, match="order was 1 and is 2"):
        make(state=state)


NO_STATES = {
    "empty": {},
    "a list": [1, 2],
    "a number": 7,
    "a fingerprint of text": {"epoch": 0, "step": 0, "fingerprint": "abc", "modified": 0},
}


@pytest.mark.parametrize("state", NO_STATES.values(), ids=NO_STATES)
def test_what_is_no_state_is_refused(unbroken, state):
    _, make = unbroken
    with pytest.raises(UsageError, match="state: this is no state of a feed"):
        make(state=state)


PLACES = {
    "past the last step": (0, STEPS),
    "negative": (-1, 0),
    "past all epochs": (2**64, 0),
    "negative step": (0, -1),
    "no integer": (0, 1.0),
}


@pytest.mark.parametrize(("epoch", "step"), PLACES.values(), ids=PLACES)
def test_a_place_that_is_not_there_is_refused(unbroken, epoch, step):
    _, make = unbroken
    with pytest.raises(UsageError, match=rf"state: epoch {epoch} and step {step} are not in this feed"):
        make(state={**make().state(), "epoch": epoch, "step": step})


def test_files_that_were_only_touched_are_warned_about(save):
    path = save("a", np.arange(100))
    state = feedline.Feed(feedline.open_arrays({"a": path}), 10).state()
    os.utime(path, ns=(1, 1))
    with pytest.warns(UserWarning, match="files were modified since the state was saved"):
        feed = feedline.Feed(feedline.open_arrays({"a": path}), 10, state=state)
    with feed, warnings.catch_warnings(action="error"):
        assert len(list(feed)) == 10
        feedline.Feed(feed.arrays, 10, state=feed.state())


def test_a_feed_pickles_as_its_arguments_and_its_place(unbroken):
    expected, make = unbroken
    with make(epochs=2, threads=2) as feed:
        epoch = iter(feed)
        for _ in range(5):
            next(epoch)
        pickled = pickle.dumps(feed)
    assert len(pickled) < 4000
    with pickle.loads(pickled) as feed:
        assert feed.threads == 2
        assert [labels(feed), labels(feed), labels(feed)] == [expected[5:STEPS], expected[STEPS : 2 * STEPS], []]


def test_a_feed_in_blocks_pickles_as_its_arguments_and_its_place(unbroken_blocks):
    expected, make = unbroken_blocks
    with make(threads=2, read_ahead=7) as feed:
        for _, _ in zip(range(5), feed, strict=False):
            pass
        pickled = pickle.dumps(feed)
    with pickle.loads(pickled) as feed:
        assert [labels(feed), labels(feed)] == [expected[5:STEPS], expected[STEPS : 2 * STEPS]]


def test_a_feed_pickles_over_to_another_process(unbroken, tmp_path, python):
    expected, make = unbroken
    (tmp_path / "feed").write_bytes(pickle.dumps(make(shuffle="full")))
    program = """
import json, pickle
with pickle.load(open("feed", "rb")) as feed:
    print(json.dumps([batch["labels"].tolist() for batch in feed]))
"""
    assert json.loads(python(program).output) == expected[:STEPS]
