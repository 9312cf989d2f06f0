"""A feed of rows that come by their weight: exactly that, in an order by chance, over ranks and from where it was."""

import pickle

import numpy as np
import pytest

import feedline
from feedline.errors import DataError, UsageError
from feedline.order import Draw

ROWS = 400


@pytest.fixture
def arrays(numbered):
    return numbered(ROWS)


def weights():
    return np.arange(ROWS) % 7 * 1.0


def taken(feed):
    return [batch["labels"].copy() for batch in feed]


@pytest.mark.parametrize("shuffle", ["full", "block"])
@pytest.mark.parametrize("draws", [None, 250, 1000])
def test_an_epoch_is_what_was_drawn_in_an_order_by_chance(arrays, shuffle, draws):
    rows = draws or ROWS
    options = {"block_rows": 8, "window": 4} if shuffle == "block" else {}
    with feedline.Feed(
        arrays, 10, shuffle=shuffle, seed=3, weights=weights(), draws=draws, last_batch="keep", **options
    ) as feed:
        assert len(feed) == rows // 10
        for epoch in range(2):
            batches = []
            for batch in feed:
                assert (batch["features"][:, 0, 0] == batch["labels"]).all()
                batches.append(batch["labels"].copy())
            seen = np.concatenate(batches)
            drawn = Draw(weights(), rows).numbers(3, epoch)
            assert (np.sort(seen) == drawn).all()
            assert (seen != drawn).any()


@pytest.mark.parametrize("shuffle", ["full", "block"])
def test_ranks_share_what_one_takes(arrays, shuffle):
    options = {"shuffle": shuffle, "seed": 3, "weights": weights(), "draws": 300}
    with feedline.Feed(arrays, 20, **options) as feed:
        whole = taken(feed)
    ranks = []
    for rank in range(2):
        with feedline.Feed(arrays, 20, **options, rank=rank, world=2) as feed:
            ranks.append(taken(feed))
    for one, *parts in zip(whole, *ranks, strict=True):
        assert sorted(one) == sorted(np.concatenate(parts))


def test_it_goes_on_from_its_state_and_not_from_one_of_other_weights(arrays):
    options = {"seed": 3, "weights": weights(), "draws": 300}
    with feedline.Feed(arrays, 20, **options) as feed:
        epoch = iter(feed)
        for _ in range(5):
            next(epoch)
        state, rest = feed.state(), taken(epoch)
    with feedline.Feed(arrays, 20, **options, state=state) as feed:
        np.testing.assert_array_equal(taken(feed), rest)
    for other in ({"weights": np.ones(ROWS)}, {"draws": 320}):
        with pytest.raises(UsageError, match="state: belongs to another feed: draw was 300 by"):
            feedline.Feed(arrays, 20, **(options | other), state=state)
    with pytest.raises(UsageError, match=r"state: belongs to another feed: draw was 300 by .* and is None"):
        feedline.Feed(arrays, 20, seed=3, state=state)


def test_it_goes_over_to_another_process(arrays):
    with feedline.Feed(arrays, 20, seed=3, weights=weights(), draws=300) as feed:
        again = pickle.loads(pickle.dumps(feed))
        np.testing.assert_array_equal(taken(again), taken(feed))
        again.close()


def test_what_does_not_go_together_is_one_sentence(arrays):
    with pytest.raises(DataError, match=r"weights: there are 399 of them for 400 rows"):
        feedline.Feed(arrays, 20, weights=np.ones(399))
    with pytest.raises(UsageError, match="draws: rows are drawn by weights: give these, too"):
        feedline.Feed(arrays, 20, draws=100)
    with pytest.raises(DataError, match="a batch of 20 is larger than the data, which have 10 rows"):
        feedline.Feed(arrays, 20, weights=np.ones(ROWS), draws=10)
