"""The order of an epoch: every row once, in a place that chance decided, the same for ever and for every world."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline import order
from feedline.order import permutation as permutation_module
from feedline.order.permutation import permutation
from feedline.order.plan import Plan

POWERS = [2, 3, 5, 8, 10, 14, 17]
ROWS = sorted(
    {1, 2, 3, 7, 97, 7919, 104_729} | {2**power + change for power in POWERS for change in (-1, 0, 1)},
)


@pytest.fixture
def small_buckets(monkeypatch):
    """Sort 64 rows at once, so that small orders take the way of those above 2**20 rows."""
    monkeypatch.setattr(permutation_module, "_BUCKET_ROWS", 64)
    monkeypatch.setattr(permutation_module, "_CHUNK", 100)


def is_permutation(drawn, rows):
    return np.array_equal(np.sort(drawn), np.arange(rows))


@pytest.mark.parametrize("rows", ROWS)
def test_every_row_comes_once(rows):
    assert is_permutation(permutation(rows, seed=7, epoch=3), rows)


@pytest.mark.parametrize("rows", [63, 64, 65, 127, 128, 129, 1000, 4095, 4096, 4097, 7919])
@pytest.mark.usefixtures("small_buckets")
def test_every_row_comes_once_from_several_buckets(rows):
    assert is_permutation(permutation(rows, seed=7, epoch=3), rows)


def test_every_row_comes_once_above_the_size_of_a_bucket():
    rows = 2**20 + 1
    assert is_permutation(permutation(rows, seed=7, epoch=3), rows)


@given(rows=st.integers(1, 2000), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**32))
def test_every_row_comes_once_for_any_seed_and_epoch(rows, seed, epoch):
    assert is_permutation(permutation(rows, seed, epoch), rows)


def test_an_order_takes_four_bytes_a_row():
    assert permutation(1000, seed=0, epoch=0).dtype == np.uint32


GOLDEN = {
    "ten rows": ((10, 7, 0), [8, 7, 3, 1, 9, 6, 0, 2, 5, 4]),
    "the next epoch": ((10, 7, 1), [3, 9, 6, 1, 0, 8, 2, 5, 4, 7]),
    "the next seed": ((10, 8, 0), [3, 1, 5, 4, 0, 6, 2, 8, 7, 9]),
}


@pytest.mark.parametrize(("arguments", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_orders_are_the_same_with_every_release(arguments, expected):
    assert order.version("full", 2**26) == order.version("none", 2**40) == 1
    assert permutation(*arguments).tolist() == expected


GOLDEN_HASHES = {
    "a thousand rows": ((1000, 7, 3), "ea73b088bf49d7b8"),
    "several draws, the largest seed": ((70_000, 2**64 - 1, 2**33), "f0bdf7690b3c44d8"),
    "two buckets": ((2**20 + 1, 7, 0), "291ebf803be12acd"),
}


@pytest.mark.parametrize(("arguments", "expected"), GOLDEN_HASHES.values(), ids=GOLDEN_HASHES)
def test_long_orders_are_the_same_with_every_release(arguments, expected):
    drawn = permutation(*arguments).astype("<u4")
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == expected


def test_every_seed_and_epoch_has_an_order_of_its_own():
    orders = {permutation(50, seed, epoch).tobytes() for seed in range(30) for epoch in range(30)}
    assert len(orders) == 30 * 30


@pytest.mark.usefixtures("small_buckets")
def test_every_seed_and_epoch_deals_to_buckets_in_a_way_of_its_own():
    firsts = {permutation(200, seed, epoch)[:50].tobytes() for seed in range(15) for epoch in range(15)}
    assert len(firsts) == 15 * 15


@pytest.mark.parametrize("bucket_rows", [2**20, 4], ids=["one bucket", "four buckets"])
def test_every_row_is_as_likely_at_every_position(monkeypatch, bucket_rows):
    monkeypatch.setattr(permutation_module, "_BUCKET_ROWS", bucket_rows)
    rows, epochs = 16, 4000
    seen = np.zeros((rows, rows))
    for epoch in range(epochs):
        seen[np.arange(rows), permutation(rows, seed=5, epoch=epoch)] += 1
    expected = epochs / rows
    # 15 * 15 degrees of freedom: above 313 for one seed in ten thousand, and the seed is fixed.
    assert ((seen - expected) ** 2 / expected).sum() < 313


@pytest.mark.parametrize("bucket_rows", [2**20, 4], ids=["one bucket", "four buckets"])
def test_every_row_is_as_likely_to_follow_another(monkeypatch, bucket_rows):
    monkeypatch.setattr(permutation_module, "_BUCKET_ROWS", bucket_rows)
    rows, epochs = 12, 4000
    followed = np.zeros((rows, rows))
    for epoch in range(epochs):
        drawn = permutation(rows, seed=5, epoch=epoch)
        followed[drawn[:-1], drawn[1:]] += 1
    pairs = followed[~np.eye(rows, dtype=bool)]
    expected = epochs * (rows - 1) / pairs.size
    assert pairs.sum() == epochs * (rows - 1)
    # 131 degrees of freedom: above 199 for one seed in ten thousand.
    assert ((pairs - expected) ** 2 / expected).sum() < 199


def test_no_shuffle_is_the_order_of_the_files():
    in_order = order.order(10, "none", seed=7, epoch=0)
    assert in_order.rows(0, 10).tolist() == list(range(10))
    assert in_order.rows(3, 7).tolist() == [3, 4, 5, 6]


def test_full_shuffle_is_the_permutation():
    drawn = order.order(10, "full", seed=7, epoch=0)
    assert drawn.rows(0, 10).tolist() == permutation(10, 7, 0).tolist()
    assert drawn.rows(3, 7).tolist() == permutation(10, 7, 0)[3:7].tolist()


@pytest.mark.parametrize("shuffle", ["full", "none"])
def test_without_blocks_what_lies_together_is_the_rows_themselves(shuffle):
    drawn = order.order(100, shuffle, seed=7, epoch=0)
    assert drawn.unmixed(20, 40).tolist() == drawn.rows(20, 40).tolist()


@pytest.mark.parametrize("shuffle", ["full", "none", order.Blocks(8, 3)], ids=["full", "none", "block"])
def test_rows_can_index_an_array_as_they_are(shuffle):
    drawn = order.order(100, shuffle, seed=7, epoch=0)
    assert drawn.rows(20, 40).dtype == drawn.unmixed(20, 40).dtype == np.intp


STEPS = {
    "even": (Plan(100, 10), 10),
    "dropped": (Plan(109, 10), 10),
    "kept": (Plan(101, 10, "keep"), 11),
    "nothing to keep": (Plan(100, 10, "keep"), 10),
    "one batch of all": (Plan(7, 7), 1),
    "a part of the only batch": (Plan(9, 8, world=4), 1),
}


@pytest.mark.parametrize(("plan", "steps"), STEPS.values(), ids=STEPS)
def test_an_epoch_has_so_many_steps(plan, steps):
    assert plan.steps == steps


SPANS = {
    "first": (Plan(100, 10), 0, (0, 10)),
    "last": (Plan(100, 10), 9, (90, 100)),
    "kept": (Plan(101, 10, "keep"), 10, (100, 101)),
    "rank 0 of 2": (Plan(100, 10, world=2), 3, (30, 35)),
    "rank 1 of 2": (Plan(100, 10, rank=1, world=2), 3, (35, 40)),
}


@pytest.mark.parametrize(("plan", "step", "span"), SPANS.values(), ids=SPANS)
def test_a_step_is_this_slice_of_the_order(plan, step, span):
    assert plan.span(step) == span


@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("step", [0, 1, 40])
def test_a_step_has_the_same_rows_for_every_world(world, step):
    rows, batch_size = 1000, 24
    drawn = permutation(rows, seed=7, epoch=2)
    alone = drawn[slice(*Plan(rows, batch_size).span(step))]
    shared = [drawn[slice(*Plan(rows, batch_size, rank=rank, world=world).span(step))] for rank in range(world)]
    assert np.concatenate(shared).tolist() == alone.tolist()


@given(st.data())
def test_the_steps_of_all_ranks_are_the_rows_of_the_epoch(data):
    world = data.draw(st.integers(1, 8))
    batch_size = world * data.draw(st.integers(1, 40))
    rows = data.draw(st.integers(batch_size, 500))
    last_batch = data.draw(st.sampled_from(["drop", "keep"])) if world == 1 else "drop"
    plans = [Plan(rows, batch_size, last_batch, rank, world) for rank in range(world)]
    taken = [row for step in range(plans[0].steps) for plan in plans for row in range(*plan.span(step))]
    assert taken == list(range(rows if last_batch == "keep" else rows - rows % batch_size))
