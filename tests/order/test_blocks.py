"""Block shuffle: every row once; blocks of consecutive rows at random, and the rows of some of them at a time mixed."""

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline import order
from feedline.order import permutation as permutation_module
from feedline.order.blocks import Blocks
from feedline.order.plan import Plan

SEEDS = st.integers(0, 2**64 - 1)
EPOCHS = st.integers(0, 2**32)


def in_blocks(rows, blocks, seed=7, epoch=0):
    return order.order(rows, blocks, seed, epoch)


def drawn(rows, blocks, seed=7, epoch=0):
    """Return the rows of an epoch in their order."""
    return in_blocks(rows, blocks, seed, epoch).rows(0, rows)


def blocks_of(drawn, rows):
    """Return the blocks of an epoch one by one, each with its first place: where it would begin were nothing mixed."""
    found, place = [], 0
    while place < rows:
        block = drawn.unmixed(place, place + 1)
        assert len(block), "blocks follow each other without a gap"
        found.append((place, block))
        place += len(block)
    return found


def windows_of(drawn, rows, window):
    """Return the places of each window, start and stop."""
    firsts = [place for place, _ in blocks_of(drawn, rows)][::window]
    return list(zip(firsts, [*firsts[1:], rows], strict=True))


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


def test_every_row_comes_once_where_a_window_is_larger_than_what_is_sorted_at_once(monkeypatch):
    monkeypatch.setattr(permutation_module, "_BUCKET_ROWS", 64)
    monkeypatch.setattr(permutation_module, "_CHUNK", 100)
    assert np.array_equal(np.sort(drawn(4000, Blocks(100, 8))), np.arange(4000))
    assert np.array_equal(np.sort(drawn(4000, Blocks(2, 8))), np.arange(4000))


# --- the same for ever --------------------------------------------------------------------------------------------------------

GOLDEN = {
    "two windows": ((12, Blocks(3, 2), 7, 0), [11, 1, 0, 3, 2, 9, 8, 4, 10, 6, 5, 7]),
    "the next epoch": ((12, Blocks(3, 2), 7, 1), [1, 10, 11, 9, 0, 2, 8, 6, 4, 5, 3, 7]),
    "the next seed": ((12, Blocks(3, 2), 8, 0), [9, 8, 4, 3, 10, 2, 1, 0, 5, 7, 6, 11]),
    "one block at a time": ((12, Blocks(3, 1), 7, 0), [11, 0, 1, 3, 2, 4, 8, 10, 9, 7, 5, 6]),
    "blocks of one row": ((12, Blocks(1, 4), 7, 0), [4, 0, 6, 10, 7, 1, 5, 2, 3, 8, 11, 9]),
    "fewer rows than a block": ((5, Blocks(100, 2), 7, 0), [0, 1, 3, 4, 2]),
}


@pytest.mark.parametrize(("arguments", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_orders_are_the_same_with_every_release(arguments, expected):
    assert order.VERSION == 1
    assert drawn(*arguments).tolist() == expected


GOLDEN_HASHES = {
    "many windows": ((1000, Blocks(10, 4), 7, 3), "91aa10bbce6953a0"),
    "the usual blocks, the largest seed": ((100_000, Blocks(419, 64), 2**64 - 1, 2**33), "ff5f7f9ea58f60d7"),
    "windows of more than 2**20 rows": ((2**21 + 2**19, Blocks(2**18, 5), 7, 0), "4c28729aafc2d13b"),
    "one window of more than 2**20 rows": ((2**21, Blocks(1000, 2**20), 7, 0), "627a8adf937153d5"),
    "many blocks in one window": ((200_000, Blocks(1, 200_000), 7, 0), "2ae56f5df3855494"),
}


@pytest.mark.parametrize(("arguments", "expected"), GOLDEN_HASHES.values(), ids=GOLDEN_HASHES)
def test_long_orders_are_the_same_with_every_release(arguments, expected):
    assert hashlib.sha256(drawn(*arguments).astype("<u4").tobytes()).hexdigest()[:16] == expected


def test_every_seed_and_epoch_has_an_order_of_its_own():
    orders = {drawn(60, Blocks(5, 3), seed, epoch).tobytes() for seed in range(20) for epoch in range(20)}
    assert len(orders) == 20 * 20


# --- the blocks ---------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 20), SEEDS, EPOCHS)
def test_blocks_are_runs_of_rows_and_only_the_first_and_the_last_of_the_file_are_shorter(
    rows, block_rows, window, seed, epoch
):
    blocks = [block for _, block in blocks_of(in_blocks(rows, Blocks(block_rows, window), seed, epoch), rows)]
    assert all((np.diff(block) == 1).all() for block in blocks)
    in_file = sorted(blocks, key=lambda block: block[0])
    assert np.concatenate(in_file).tolist() == list(range(rows))
    assert all(len(block) == block_rows for block in in_file[1:-1])
    assert max(map(len, blocks)) <= block_rows


def test_the_grid_is_laid_anew_each_epoch_anywhere_within_a_block():
    block_rows, epochs = 16, 3200
    seen = np.zeros(block_rows)
    for epoch in range(epochs):
        starts = sorted(block[0] for _, block in blocks_of(in_blocks(64, Blocks(block_rows, 2), 5, epoch), 64))
        seen[starts[1] % block_rows] += 1
    expected = epochs / block_rows
    # 15 degrees of freedom: above 44 for one seed in ten thousand, and the seed is fixed.
    assert ((seen - expected) ** 2 / expected).sum() < 44


def test_a_block_may_come_in_any_place():
    rows, epochs = 10, 3200
    seen = np.zeros((rows, rows))
    for epoch in range(epochs):
        for place, block in blocks_of(in_blocks(rows, Blocks(1, 4), 5, epoch), rows):
            seen[place, block[0]] += 1
    expected = epochs / rows
    # 81 degrees of freedom: above 137 for one seed in ten thousand.
    assert ((seen - expected) ** 2 / expected).sum() < 137


def test_any_blocks_may_be_mixed_with_each_other():
    rows, window, epochs = 12, 3, 3200
    together = np.zeros((rows, rows))
    for epoch in range(epochs):
        in_order = in_blocks(rows, Blocks(1, window), 5, epoch)
        for start, stop in windows_of(in_order, rows, window):
            members = in_order.rows(start, stop)
            together[np.ix_(members, members)] += 1
    pairs = together[np.triu_indices(rows, 1)]
    expected = epochs * (rows // window) * 3 / pairs.size
    assert pairs.sum() == epochs * (rows // window) * 3
    # 65 degrees of freedom: above 116 for one seed in ten thousand.
    assert ((pairs - expected) ** 2 / expected).sum() < 116


def test_the_rows_of_a_window_come_from_all_over_the_file():
    block_rows, blocks, window, epochs = 8, 64, 16, 1000
    rows = block_rows * blocks
    seen = np.zeros(16)
    for epoch in range(epochs):
        in_order = in_blocks(rows, Blocks(block_rows, window), 5, epoch)
        _, stop = windows_of(in_order, rows, window)[0]
        seen += np.isin(np.arange(16) * rows // 16, in_order.rows(0, stop))  # a row of each sixteenth
    share = window / (blocks + 7 / 8)  # seven of eight offsets make one block more
    spread = np.sqrt(epochs * share * (1 - share))
    assert np.abs(seen - epochs * share).max() < 4.5 * spread


# --- the mixing ---------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 600), st.integers(1, 60), st.integers(1, 12), SEEDS, EPOCHS)
def test_the_rows_of_a_window_are_those_of_its_blocks(rows, block_rows, window, seed, epoch):
    in_order = in_blocks(rows, Blocks(block_rows, window), seed, epoch)
    for start, stop in windows_of(in_order, rows, window):
        assert stop - start <= Blocks(block_rows, window).lead
        assert sorted(in_order.rows(start, stop)) == sorted(in_order.unmixed(start, stop))


def ranks(values):
    return np.argsort(np.argsort(values))


MIXED = {"blocks": Blocks(419, 64), "long blocks": Blocks(5000, 5), "short blocks": Blocks(16, 2000)}


@pytest.mark.parametrize("blocks", MIXED.values(), ids=MIXED)
def test_no_order_is_left_in_a_window(blocks):
    rows = 100_000
    in_order = in_blocks(rows, blocks)
    for start, stop in windows_of(in_order, rows, blocks.window):
        mixed, unmixed, count = in_order.rows(start, stop), in_order.unmixed(start, stop), stop - start
        place_before = np.empty(rows, np.intp)
        place_before[unmixed] = np.arange(count)
        # Correlations of n random ranks spread by 1 / sqrt(n - 1): above 4.5 times that once in 100,000.
        bound = 4.5 / np.sqrt(count - 1)
        assert abs(np.corrcoef(np.arange(count), ranks(mixed))[0, 1]) < bound, "by row"
        assert abs(np.corrcoef(np.arange(count), place_before[mixed])[0, 1]) < bound, "by block"
        assert abs(np.corrcoef(place_before[mixed][:-1], place_before[mixed][1:])[0, 1]) < bound, "by neighbour"
        # A row that still follows its neighbour: one of a window on average.
        assert np.count_nonzero(np.diff(mixed) == 1) < 10


def test_a_batch_holds_rows_of_as_many_blocks_as_chance_gives():
    rows, blocks = 64_000, Blocks(100, 16)
    in_order = in_blocks(rows, blocks)
    block_of = np.empty(rows, np.intp)
    for number, (_, block) in enumerate(blocks_of(in_order, rows)):
        block_of[block] = number
    counts = []
    for start, stop in windows_of(in_order, rows, blocks.window):
        in_window = Plan(stop - start, 64)
        for step in range(in_window.steps):
            first, last = in_window.span(step)
            counts.append(len(np.unique(block_of[in_order.rows(start + first, start + last)])))
    # 16 (1 - C(1500, 64) / C(1600, 64)) blocks have a row among 64 of their 1,600.
    assert len(counts) > 950
    assert np.mean(counts) == pytest.approx(15.76, abs=0.05)


def test_every_window_of_every_epoch_and_seed_is_mixed_in_a_way_of_its_own():
    blocks = Blocks(1, 50)
    mixings = set()
    for seed, epoch in ((7, 0), (7, 1), (8, 0), (8, 1)):
        in_order = in_blocks(200, blocks, seed, epoch)
        for start, stop in windows_of(in_order, 200, blocks.window):
            before = {row: place for place, row in enumerate(in_order.unmixed(start, stop).tolist())}
            mixings.add(tuple(before[row] for row in in_order.rows(start, stop).tolist()))
    assert len(mixings) == 16


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
    whole = {tuple(block) for _, block in blocks_of(in_order, rows)}
    taken = []
    for start, stop in zip([0, *cuts], [*cuts, rows], strict=True):
        begins = [block for place, block in blocks_of(in_order, rows) if start <= place < stop]
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
def test_the_blocks_that_begin_a_window_further_on_are_all_that_a_place_needs(rows, block_rows, window, seed):
    """The rows at a place come from blocks whose first place is less than a window before it or after it."""
    blocks = Blocks(block_rows, window)
    in_order = in_blocks(rows, blocks, seed)
    for place in range(0, rows, 7):
        needed = in_order.unmixed(max(0, place - blocks.lead), place + blocks.lead)
        assert in_order.rows(place, place + 1)[0] in needed


# --- ranks, memory, defaults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("step", [0, 1, 17, 40])
def test_a_step_has_the_same_rows_for_every_world(world, step):
    in_order = in_blocks(1000, Blocks(30, 4))
    alone = in_order.rows(*Plan(1000, 24).span(step))
    shared = [in_order.rows(*Plan(1000, 24, rank=rank, world=world).span(step)) for rank in range(world)]
    assert np.concatenate(shared).tolist() == alone.tolist()


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


def test_what_mixing_takes_follows_from_the_window_and_not_from_the_rows():
    blocks = Blocks(2**10, 2**8)
    peaks = [peak_of(rows, blocks) for rows in (2**20, 2**22)]
    besides = [peak - size for size, peak in peaks]
    assert besides[1] < 1.1 * besides[0]
    assert besides[0] < 48 * blocks.lead


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
