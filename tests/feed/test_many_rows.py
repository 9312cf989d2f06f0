"""A feed of more rows than an order in memory is made for: it begins at once, takes no memory for it, and goes on."""

import json

import numpy as np
import pytest

import feedline
from feedline import Stored
from feedline.errors import UsageError
from feedline.order.keyed import KeyedOrder

ROWS = 10**9


@pytest.fixture
def many(tmp_path):
    """Return an array of a billion rows in a file without a block, but for one of its end."""
    path = tmp_path / "many.bin"
    with path.open("wb") as file:
        file.truncate(ROWS)
        file.seek(ROWS - 1)
        file.write(b"\x07")
    return feedline.open_arrays({"x": Stored(path, format="Raw", dtype="uint8")}, residency="mapped")


def test_a_billion_rows_take_no_memory_for_their_order(many):
    with feedline.Feed(many, 256, seed=3, threads=2) as feed:
        room = feed.require_room()
        assert next(iter(feed))["x"].shape == (256,)
    with feedline.Feed(many, 256, shuffle="none", threads=2) as feed:
        assert feed.require_room() == room


def test_ranks_take_their_own_places_and_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("feedline.order.shuffle.FEWEST_ROWS", 10_000)
    # Each row tells its number.
    rows = 10_000
    path = tmp_path / "numbers.bin"
    np.arange(rows, dtype=np.uint32).tofile(path)
    arrays = feedline.open_arrays({"x": Stored(path, format="Raw", dtype="uint32")}, residency="mapped")
    expected = KeyedOrder(rows, 3, 0).rows(0, 3000)
    taken = []
    for rank in range(2):
        with feedline.Feed(arrays, 1000, seed=3, rank=rank, world=2, threads=1) as feed:
            epoch = iter(feed)
            taken.append([next(epoch)["x"].copy() for _ in range(3)])
            state = json.loads(json.dumps(feed.state()))
    np.testing.assert_array_equal(
        np.concatenate([np.concatenate(parts) for parts in zip(*taken, strict=True)]), expected
    )
    with feedline.Feed(arrays, 1000, seed=3, state=state, threads=1) as feed:
        np.testing.assert_array_equal(next(iter(feed))["x"], KeyedOrder(rows, 3, 0).rows(3000, 4000))
    state["fingerprint"]["order"] = 1
    with pytest.raises(UsageError, match="order was 1 and is 3"):
        feedline.Feed(arrays, 1000, seed=3, state=state)
