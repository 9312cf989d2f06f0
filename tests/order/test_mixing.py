"""What block shuffle costs, held against counting all that can happen, and against the orders that feeds take."""

from itertools import combinations
from math import log2

import numpy as np
import pytest
from orders import blocks_of

import feedline
from feedline import order
from feedline.order.blocks import Blocks
from feedline.order.mixing import expected_pairs, label_entropy
from feedline.order.mixing import price as in_words


def same_block_pairs(rows, block_rows):
    """Return how many pairs of rows come from one block of a grid that begins at row 0."""
    return sum(first // block_rows == second // block_rows for first, second in combinations(rows, 2))


def mean_pairs(rows, batch_size, block_rows):
    """Return the mean number of such pairs over all batches that there are."""
    batches = list(combinations(range(rows), batch_size))
    return sum(same_block_pairs(batch, block_rows) for batch in batches) / len(batches)


def pairs_in_lanes(batch_size, blocks):
    """Return the mean number of pairs over all places in their blocks that lanes may be at."""
    taken = [batch_size // blocks.window + (lane < batch_size % blocks.window) for lane in range(blocks.window)]
    of_lane = [
        np.mean([same_block_pairs(range(place, place + count), blocks.rows) for place in range(blocks.rows)])
        for count in taken
    ]
    return sum(of_lane)


# --- pairs --------------------------------------------------------------------------------------------------------------------

SMALL = {
    "two blocks of two": (12, 3, Blocks(2, 2)),
    "two blocks of three": (12, 2, Blocks(3, 2)),
    "three blocks of two": (12, 6, Blocks(2, 3)),
    "three blocks of four": (12, 5, Blocks(4, 3)),
    "blocks that are not mixed": (12, 2, Blocks(4, 1)),
    "blocks of one row": (12, 4, Blocks(1, 4)),
    "batches of one row": (12, 1, Blocks(4, 2)),
    "a window of all": (12, 4, Blocks(3, 4)),
}


@pytest.mark.parametrize(("rows", "batch_size", "blocks"), SMALL.values(), ids=SMALL)
def test_pairs_are_as_many_as_counting_gives(rows, batch_size, blocks):
    in_blocks, in_full = expected_pairs(rows, batch_size, blocks)
    assert in_blocks == pytest.approx(pairs_in_lanes(batch_size, blocks))
    assert in_full == pytest.approx(mean_pairs(rows, batch_size, blocks.rows))


@pytest.mark.parametrize("blocks", [Blocks(10, 3), Blocks(2**40, 64)], ids=["of ten", "of 2**40"])
def test_data_of_less_than_a_block_are_one_block(blocks):
    assert expected_pairs(7, 3, blocks) == (3, 3)


def test_one_row_makes_no_pair():
    assert expected_pairs(1, 1, Blocks(5, 2)) == (0, 0)


ORDERS = {
    "a few rows of each lane": (40_000, 256, Blocks(50, 64)),
    "few blocks": (40_000, 32, Blocks(200, 4)),
    "a batch of several windows": (40_000, 1000, Blocks(27, 10)),
}


@pytest.mark.parametrize(("rows", "batch_size", "blocks"), ORDERS.values(), ids=ORDERS)
def test_pairs_are_as_many_as_in_the_orders_that_feeds_take(rows, batch_size, blocks):
    counted = []
    for epoch in range(8):
        in_order = order.order(rows, blocks, 7, epoch)
        block_of = blocks_by_row(in_order, rows)
        drawn = block_of[in_order.rows(0, rows - rows % batch_size)].reshape(-1, batch_size)
        counts = [np.unique(batch, return_counts=True)[1] for batch in drawn]
        counted += [(count * (count - 1) / 2).sum() for count in counts]
    in_blocks, in_full = expected_pairs(rows, batch_size, blocks)
    # Blocks over the edges of lanes are shorter.
    assert np.mean(counted) == pytest.approx(in_blocks, rel=0.05)
    assert in_full < in_blocks / 2


def test_a_batch_of_a_row_of_each_lane_has_no_pair():
    assert expected_pairs(40_000, 64, Blocks(50, 64))[0] == 0


def blocks_by_row(in_order, rows):
    """Return the number of the block of each row."""
    numbers = np.empty(rows, np.intp)
    for place, block in blocks_of(in_order, 0, rows):
        numbers[block] = place
    return numbers


# --- labels -------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def labelled(save):
    """Return a function that makes labels an array of a feed."""
    return lambda labels: feedline.open_arrays({"labels": save("labels", np.asarray(labels))})["labels"]


def entropy(labels):
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return -sum(share * log2(share) for share in shares.tolist())


SORTED = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_entropy_of_text_is_that_of_the_numbers_in_its_place(labelled):
    words = labelled(np.array(["cat", "dog", "eel"])[SORTED])
    assert label_entropy(words, 3, Blocks(2, 2)) == label_entropy(labelled(SORTED), 3, Blocks(2, 2))


def test_sorted_labels_in_blocks_that_are_not_mixed_are_one_class_a_batch(labelled):
    here, full = label_entropy(labelled(np.repeat(np.arange(10), 100)), 50, Blocks(100, 1))
    # Half of the batches reach over the edge of two blocks, and then have 0.7 bits on average.
    assert here == pytest.approx(0.36, abs=0.1)
    assert full == pytest.approx(log2(10), abs=0.2)


def test_labels_of_one_class_have_no_entropy(labelled):
    assert label_entropy(labelled(np.ones(1000, np.int8)), 32, Blocks(10, 4)) == (0, 0)


def test_labels_without_order_lose_nothing(labelled):
    labels = np.random.default_rng(0).integers(0, 10, 20_000)
    here, full = label_entropy(labelled(labels), 256, Blocks(100, 8))
    assert here == pytest.approx(full, abs=0.02)


def test_a_batch_of_all_the_data_has_the_entropy_of_all_labels(labelled):
    here, full = label_entropy(labelled(SORTED), 12, Blocks(5, 64))
    assert here == full == pytest.approx(log2(3))


TAKEN = {
    "a batch of a part of a window": (Blocks(90, 8), 64),
    "a batch of a window": (Blocks(30, 16), 480),
    "a batch of eight windows": (Blocks(50, 2), 800),
    "a batch of a row of some lanes": (Blocks(100, 64), 40),
    "one block at a time": (Blocks(70, 1), 50),
}


@pytest.mark.parametrize(("blocks", "batch_size"), TAKEN.values(), ids=TAKEN)
def test_entropy_is_that_of_the_batches_that_feeds_take(labelled, blocks, batch_size):
    labels = np.repeat(np.arange(40), 500)
    taken = []
    for epoch in range(8):
        drawn = order.order(len(labels), blocks, 7, epoch).rows(0, len(labels) - len(labels) % batch_size)
        taken += [entropy(batch) for batch in labels[drawn].reshape(-1, batch_size)]
    array = labelled(labels)
    here = np.mean([label_entropy(array, batch_size, blocks, seed)[0] for seed in range(20)])
    assert here == pytest.approx(np.mean(taken), rel=0.05)


def test_the_same_seed_gives_the_same_answer(labelled):
    array = labelled(SORTED)
    assert label_entropy(array, 3, Blocks(2, 2), seed=1) == label_entropy(array, 3, Blocks(2, 2), seed=1)


# --- in words -----------------------------------------------------------------------------------------------------------------


def test_the_price_is_said_in_a_sentence(labelled):
    blocks = Blocks(100, 10)
    pairs, in_full = expected_pairs(10_000, 64, blocks)
    told = in_words(None, 10_000, 64, blocks)
    assert told.startswith("Block shuffle mixes 10 blocks of 100 rows")
    assert f"{pairs:.3g} " in told
    assert f"in a full shuffle {in_full:.3g}." in told
    assert "entropy" not in told
    array = labelled(np.repeat(np.arange(10), 1000))
    here, full = label_entropy(array, 64, blocks)
    told = in_words(array, 10_000, 64, blocks)
    assert f"{here:.3g} bits of entropy, in a full shuffle {full:.3g}." in told
