"""Block shuffle: every row once; blocks of consecutive rows at random, and lanes that take turns, each through its own."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from orders import blocks_of

from feedline import order
from feedline.order import blocks as blocks_module
from feedline.order import permutation as permutation_module
from feedline.order.blocks import Blocks

SEEDS = st.integers(0, 2**64 - 1)
EPOCHS = st.integers(0, 2**32)


def in_blocks(rows, blocks, seed=7, epoch=0):
    return order.order(rows, blocks, seed, epoch)


def drawn(rows, blocks, seed=7, epoch=0):
    """Return the rows of an epoch in their order."""
    return in_blocks(rows, blocks, seed, epoch).rows(0, rows)


def lanes_of(drawn, rows, blocks):
    """Return the rows of each lane, in their order."""
    return [drawn.rows(0, rows)[lane :: blocks.lanes(rows)] for lane in range(blocks.lanes(rows))]


# --- every row once -----------------------------------------------------------------------------------------------------------

SHAPES = {
    "one row": (1, Blocks(1, 1)),
    "one row of a larger block": (1, Blocks(10, 3)),
    "fewer rows than a block": (7, Blocks(10, 3)),
    "as many rows as a block": (10, Blocks(10, 3)),
    "blocks of one row": (100, Blocks(1, 8)),
    "blocks of one row, not mixed": (100, Blocks(1, 1)),
    "blocks that are not mixed": (100, Blocks(10, 1)),
    "a window of all": (100, Blocks(10, 11)),
    "a window larger than all": (100, Blocks(10, 2**20)),
    "whole windows": (1200, Blocks(10, 12)),
    "the rest of a window": (1201, Blocks(10, 12)),
    "the largest block": (100, Blocks(2**40, 1)),
}


@pytest.mark.parametrize("epoch", range(5))
@pytest.mark.parametrize(("rows", "blocks"), SHAPES.values(), ids=SHAPES)
def test_every_row_comes_once(rows, blocks, epoch):
    assert np.array_equal(np.sort(drawn(rows, blocks, epoch=epoch)), np.arange(rows))


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 50), SEEDS, EPOCHS)
def test_every_row_comes_once_whatever_the_blocks(rows, block_rows, window, seed, epoch):
    assert np.array_equal(np.sort(drawn(rows, Blocks(block_rows, window), seed, epoch)), np.arange(rows))


def test_every_row_comes_once_where_a_block_is_larger_than_what_is_sorted_or_mixed_at_once(monkeypatch):
    monkeypatch.setattr(permutation_module, "_BUCKET_ROWS", 64)
    monkeypatch.setattr(permutation_module, "_CHUNK", 100)
    monkeypatch.setattr(blocks_module, "_MIXED_ROWS", 80)
    assert np.array_equal(np.sort(drawn(4000, Blocks(100, 8))), np.arange(4000))
    assert np.array_equal(np.sort(drawn(4000, Blocks(2, 8))), np.arange(4000))


# --- the same for ever --------------------------------------------------------------------------------------------------------

GOLDEN = {
    "two lanes": ((12, Blocks(3, 2), 7, 0), [11, 8, 0, 9, 1, 10, 3, 7, 2, 5, 4, 6]),
    "the next epoch": ((12, Blocks(3, 2), 7, 1), [1, 3, 0, 4, 2, 5, 10, 8, 11, 7, 9, 6]),
    "the next seed": ((12, Blocks(3, 2), 8, 0), [4, 1, 2, 0, 3, 6, 10, 5, 9, 7, 8, 11]),
    "one block at a time": ((12, Blocks(3, 1), 7, 0), [11, 0, 1, 3, 2, 4, 8, 9, 10, 7, 5, 6]),
    "blocks of one row": ((12, Blocks(1, 4), 7, 0), [4, 0, 2, 3, 10, 7, 1, 9, 6, 5, 11, 8]),
    "fewer rows than a block": ((5, Blocks(100, 2), 7, 0), [0, 1, 3, 4, 2]),
}


@pytest.mark.parametrize(("arguments", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_orders_are_the_same_with_every_release(arguments, expected):
    assert order.version(arguments[1], arguments[0]) == 2
    assert drawn(*arguments).tolist() == expected


GOLDEN_HASHES = {
    "many lanes": ((1000, Blocks(10, 4), 7, 3), "6ba439782a424358"),
    "the usual blocks, the largest seed": ((100_000, Blocks(419, 64), 2**64 - 1, 2**33), "3f828e78227c0267"),
    "blocks of 2**18 rows": ((2**21 + 2**19, Blocks(2**18, 5), 7, 0), "ee65ec2494c0c00a"),
    "a window of all": ((2**21, Blocks(1000, 2**20), 7, 0), "e6849c042349a4e2"),
    "many blocks of one row": ((200_000, Blocks(1, 200_000), 7, 0), "07f591ff3e5f07b4"),
}


@pytest.mark.parametrize(("arguments", "expected"), GOLDEN_HASHES.values(), ids=GOLDEN_HASHES)
def test_long_orders_are_the_same_with_every_release(arguments, expected):
    assert hashlib.sha256(drawn(*arguments).astype("<u4").tobytes()).hexdigest()[:16] == expected


def test_every_seed_and_epoch_has_an_order_of_its_own():
    orders = {drawn(60, Blocks(5, 3), seed, epoch).tobytes() for seed in range(20) for epoch in range(20)}
    assert len(orders) == 20 * 20


# --- the blocks ---------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 20), SEEDS, EPOCHS)
def test_blocks_are_runs_of_rows_and_only_those_at_the_ends_of_the_file_and_of_lanes_are_shorter(
    rows, block_rows, window, seed, epoch
):
    wanted = Blocks(block_rows, window)
    blocks = [block for _, block in blocks_of(in_blocks(rows, wanted, seed, epoch), 0, rows)]
    assert all((np.diff(block) == 1).all() for block in blocks)
    in_file = sorted(blocks, key=lambda block: block[0])
    assert np.concatenate(in_file).tolist() == list(range(rows))
    assert sum(len(block) < block_rows for block in in_file[1:-1]) <= 2 * (wanted.lanes(rows) - 1)
    assert max(map(len, blocks)) <= block_rows


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 50))
def test_lanes_are_as_many_as_the_window_where_none_is_shorter_than_a_block(rows, block_rows, window):
    lanes = Blocks(block_rows, window).lanes(rows)
    assert lanes == window or (lanes < window and (lanes + 1) * block_rows > rows)
    assert lanes == 1 or rows // lanes >= block_rows


def test_the_grid_is_laid_anew_each_epoch_anywhere_within_a_block():
    block_rows, epochs = 16, 3200
    seen = np.zeros(block_rows)
    for epoch in range(epochs):
        starts = sorted(block[0] for _, block in blocks_of(in_blocks(64, Blocks(block_rows, 1), 5, epoch), 0, 64))
        seen[starts[1] % block_rows] += 1
    expected = epochs / block_rows
    # 15 degrees of freedom: above 44 for one seed in ten thousand, and the seed is fixed.
    assert ((seen - expected) ** 2 / expected).sum() < 44


def test_a_block_may_come_in_any_place():
    rows, epochs = 10, 3200
    seen = np.zeros((rows, rows))
    for epoch in range(epochs):
        for place, block in blocks_of(in_blocks(rows, Blocks(1, 4), 5, epoch), 0, rows):
            seen[place, block[0]] += 1
    expected = epochs / rows
    # 81 degrees of freedom: above 137 for one seed in ten thousand.
    assert ((seen - expected) ** 2 / expected).sum() < 137


def test_any_blocks_may_be_mixed_with_each_other():
    rows, window, epochs = 12, 3, 3200
    together = np.zeros((rows, rows))
    for epoch in range(epochs):
        for turn in drawn(rows, Blocks(1, window), 5, epoch).reshape(-1, window):
            together[np.ix_(turn, turn)] += 1
    pairs = together[np.triu_indices(rows, 1)]
    expected = epochs * (rows // window) * 3 / pairs.size
    assert pairs.sum() == epochs * (rows // window) * 3
    # 65 degrees of freedom: above 116 for one seed in ten thousand.
    assert ((pairs - expected) ** 2 / expected).sum() < 116


def test_the_rows_of_a_turn_come_from_all_over_the_file():
    block_rows, blocks, window, epochs = 8, 64, 16, 6400
    rows = block_rows * blocks
    seen = np.zeros(16)
    for epoch in range(epochs):
        turn = in_blocks(rows, Blocks(block_rows, window), 5, epoch).rows(0, window)
        seen += np.bincount(turn * 16 // rows, minlength=16)
    # 15 degrees of freedom: above 44 for one seed in ten thousand; two rows of a block make it no larger.
    assert seen.sum() == epochs * window
    assert ((seen - epochs) ** 2 / epochs).sum() < 44


# --- the mixing ---------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 600), st.integers(1, 60), st.integers(1, 12), SEEDS, EPOCHS)
def test_a_lane_takes_all_of_a_block_before_the_next(rows, block_rows, window, seed, epoch):
    blocks = Blocks(block_rows, window)
    in_order = in_blocks(rows, blocks, seed, epoch)
    lanes = lanes_of(in_order, rows, blocks)
    for place, block in blocks_of(in_order, 0, rows):
        turn, lane = divmod(place, len(lanes))
        assert sorted(lanes[lane][turn : turn + len(block)]) == block.tolist()


def ranks(values):
    return np.argsort(np.argsort(values))


MIXED = {"blocks": Blocks(419, 64), "long blocks": Blocks(5000, 5), "short blocks": Blocks(16, 2000)}


@pytest.mark.parametrize("blocks", MIXED.values(), ids=MIXED)
def test_no_order_is_left_in_a_block(blocks):
    rows = 100_000
    in_order = in_blocks(rows, blocks)
    lanes = lanes_of(in_order, rows, blocks)
    by_row, by_neighbour, follow, count = [], [], 0, 0
    for place, block in blocks_of(in_order, 0, rows):
        if len(block) >= 16:
            turn, lane = divmod(place, len(lanes))
            mixed = ranks(lanes[lane][turn : turn + len(block)])
            by_row.append(np.corrcoef(np.arange(len(block)), mixed)[0, 1] * np.sqrt(len(block) - 1))
            # Of neighbours drawn without replacement the mean is -1/n.
            neighbours = np.corrcoef(mixed[:-1], mixed[1:])[0, 1] + 1 / len(block)
            by_neighbour.append(neighbours * np.sqrt(len(block) - 1))
            follow += np.count_nonzero(np.diff(mixed) == 1)
            count += 1
    # Correlations of n random ranks spread by 1 / sqrt(n - 1); the mean of some by a root of how many they are less.
    assert abs(np.mean(by_row)) < 4.5 / np.sqrt(count)
    assert abs(np.mean(by_neighbour)) < 4.5 / np.sqrt(count)
    assert np.std(by_row) < 1.5
    # A row that still follows its neighbour: one of a block on average.
    assert follow < count + 4.5 * np.sqrt(count)


def test_a_batch_holds_rows_of_a_block_of_each_lane_and_of_some_that_follow():
    rows, blocks = 64_000, Blocks(101, 16)
    in_order = in_blocks(rows, blocks)
    block_of = np.empty(rows, np.intp)
    for number, (_, block) in enumerate(blocks_of(in_order, 0, rows)):
        block_of[block] = number
    counts = [len(set(batch)) for batch in block_of[in_order.rows(0, rows)].reshape(-1, 64).tolist()]
    # Of the 4 rows of a lane the last three begin a block in one of 101 cases each; the edges of lanes add some.
    assert np.mean(counts) == pytest.approx(16 * (1 + 3 / 101), abs=0.05)
    assert min(counts) == 16


def test_every_block_of_every_epoch_and_seed_is_mixed_in_a_way_of_its_own(monkeypatch):
    monkeypatch.setattr(blocks_module, "_MIXED_ROWS", 100)
    blocks, mixings, count = Blocks(50, 4), set(), 0
    for seed, epoch in ((7, 0), (7, 1), (8, 0), (8, 1)):
        in_order = in_blocks(1000, blocks, seed, epoch)
        lanes = lanes_of(in_order, 1000, blocks)
        for place, block in blocks_of(in_order, 0, 1000):
            turn, lane = divmod(place, len(lanes))
            if len(block) == 50:
                mixings.add(tuple(ranks(lanes[lane][turn : turn + 50])))
                count += 1
    assert len(mixings) == count > 50


def test_blocks_of_one_row_in_a_window_of_all_are_as_good_as_a_full_shuffle():
    rows, epochs = 12, 3200
    seen = np.zeros((rows, rows))
    for epoch in range(epochs):
        seen[np.arange(rows), drawn(rows, Blocks(1, rows), 5, epoch)] += 1
    expected = epochs / rows
    # 121 degrees of freedom: above 187 for one seed in ten thousand.
    assert ((seen - expected) ** 2 / expected).sum() < 187


# --- what lies together -------------------------------------------------------------------------------------------------------


@given(st.data())
def test_consecutive_places_give_each_block_once_and_whole(data):
    rows = data.draw(st.integers(1, 600))
    blocks = Blocks(data.draw(st.integers(1, 60)), data.draw(st.integers(1, 12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=12)))
    in_order = in_blocks(rows, blocks, seed=data.draw(SEEDS), epoch=data.draw(EPOCHS))
    whole = {tuple(block) for _, block in blocks_of(in_order, 0, rows)}
    taken = []
    for start, stop in zip([0, *cuts], [*cuts, rows], strict=True):
        begins = [block for place, block in blocks_of(in_order, 0, rows) if start <= place < stop]
        part = in_order.unmixed(start, stop)
        assert part.tolist() == [row for block in begins for row in block]
        taken += [tuple(block) for block in begins]
    assert set(taken) == whole
    assert len(taken) == len(whole)


def test_no_block_begins_where_none_is():
    in_order = in_blocks(100, Blocks(10, 3))
    assert in_order.unmixed(100, 5000).tolist() == []
    assert in_order.unmixed(1000, 5000).tolist() == []
    assert in_order.unmixed(50, 50).tolist() == []


@given(st.integers(1, 600), st.integers(1, 60), st.integers(1, 12), SEEDS)
def test_a_row_lies_in_a_block_that_begins_less_than_a_window_before_it(rows, block_rows, window, seed):
    blocks = Blocks(block_rows, window)
    in_order = in_blocks(rows, blocks, seed)
    for place in range(0, rows, 7):
        assert in_order.rows(place, place + 1)[0] in in_order.unmixed(max(0, place - blocks.lead + 1), place + 1)


# --- ranks, memory, defaults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("window", [1, 4, 12, 64])
def test_ranks_read_parts_of_the_rows_that_are_as_many_as_divide_the_lanes(world, window):
    rows, blocks = 1000, Blocks(30, window)
    in_order = in_blocks(rows, blocks)
    read = [set(in_order.unmixed(0, rows, rank, world).tolist()) for rank in range(world)]
    for rank in range(world):
        assert set(in_order.rows(0, rows)[rank::world].tolist()) <= read[rank]
    assert set().union(*read) == set(range(rows))
    part = blocks.part(rows, world)
    assert part == np.gcd(blocks.lanes(rows), world)
    assert sum(map(len, read)) == rows * world // part


def peak_of(rows, blocks):
    """Return the bytes of an order, and the most that making it took."""
    tracemalloc.start()
    try:
        kept = in_blocks(rows, blocks)
        size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(kept.rows(0, 1)) == 1
    return size, peak


def test_making_an_order_takes_little_besides_the_order():
    rows = 2**22
    size, peak = peak_of(rows, Blocks(419, 64))
    assert size < 1.15 * 4 * rows, "four bytes a row, and three numbers for each block"
    assert peak < 1.25 * 4 * rows


def test_what_mixing_takes_does_not_follow_from_the_rows():
    blocks = Blocks(2**10, 2**8)
    peaks = [peak_of(rows, blocks) for rows in (2**20, 2**22)]
    besides = [peak - size for size, peak in peaks]
    assert besides[1] < 1.1 * besides[0]
    assert besides[0] < 64 * blocks_module._MIXED_ROWS


def test_the_usual_blocks_are_of_one_mebibyte_whatever_the_machine():
    assert Blocks.of(2500) == Blocks(419, 64)
    assert Blocks.of(1 << 20) == Blocks(1, 64)
    assert Blocks.of(3 << 20) == Blocks(1, 64)
    assert Blocks.of(4) == Blocks(262_144, 64)


def test_what_is_asked_for_is_taken():
    assert Blocks.of(2500, rows=7) == Blocks(7, 64)
    assert Blocks.of(2500, window=5) == Blocks(419, 5)
    assert Blocks.of(2500, rows=7, window=5) == Blocks(7, 5)
    assert Blocks.of(2500, rows=7, window=5).lead == 35
