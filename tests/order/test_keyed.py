"""The order that is computed where it is asked for: each row once, at any place as likely as at any other."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline import order
from feedline.order.keyed import KeyedOrder


def is_by_chance(counts, expected):
    """Return whether counts are as near to what is expected as chance would have them, by Pearson's statistic."""
    free = counts.size - 1
    return ((counts - expected) ** 2 / expected).sum() < free + 5 * np.sqrt(2 * free)


SEEDS = st.integers(0, 2**64 - 1)


@given(st.integers(1, 3000), SEEDS, SEEDS, st.data())
def test_every_row_comes_once_and_any_part_is_a_part_of_it(rows, seed, epoch, data):
    keyed = KeyedOrder(rows, seed, epoch)
    whole = keyed.rows(0, rows)
    assert whole.dtype == np.intp
    assert (np.sort(whole) == np.arange(rows)).all()
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    assert (keyed.rows(start, stop) == whole[start:stop]).all()
    assert (keyed.unmixed(start, stop, 1, 2) == whole[start:stop]).all()


@given(st.integers(2**26, 2**48), SEEDS, st.data())
def test_rows_of_many_are_rows_and_no_two_places_have_the_same(rows, seed, data):
    start = data.draw(st.integers(0, rows - 2000))
    found = KeyedOrder(rows, seed, 3).rows(start, start + 2000)
    assert len(set(found.tolist())) == 2000
    assert 0 <= found.min() < found.max() < rows


def test_orders_of_four_rows_are_all_as_likely():
    counts = np.zeros(4**4)
    for epoch in range(24 * 400):
        counts[int(KeyedOrder(4, 1, epoch).rows(0, 4) @ [64, 16, 4, 1])] += 1
    there = counts[counts > 0]
    assert len(there) == 24
    assert is_by_chance(there, there.mean())


@pytest.mark.parametrize("rows", [97, 128, 1000])
def test_a_row_is_at_any_place_as_likely_and_so_is_the_one_behind_it(rows):
    bins = 10
    places, steps = np.zeros((bins, bins)), np.zeros(bins)
    for epoch in range(2000):
        found = KeyedOrder(rows, 7, epoch).rows(0, rows)
        np.add.at(places, (np.arange(rows) * bins // rows, found * bins // rows), 1)
        np.add.at(steps, (found[1:] - found[:-1]) % rows * bins // rows, 1)
    # Within an epoch each row comes once, so that these are nearer to each other than by chance alone, never farther.
    assert is_by_chance(places, np.outer(places.sum(1), places.sum(0)) / places.sum())
    share = np.bincount(np.arange(1, rows) * bins // rows, minlength=bins)
    assert is_by_chance(steps, share * steps.sum() / share.sum())


def test_a_large_order_is_mixed_and_differs_between_seeds_and_epochs():
    rows = 10**9
    found = [KeyedOrder(rows, seed, epoch).rows(0, 100_000) for seed, epoch in ((1, 0), (1, 1), (2, 0))]
    for one in found:
        # Kolmogorov's statistic, which is above 2.2 once in 8,000 times.
        distance = np.abs(np.sort(one) / rows - np.arange(len(one)) / len(one)).max()
        assert np.sqrt(len(one)) * distance < 2.2
        assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.02
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(found[one], found[other])[0, 1]) < 0.02


def test_it_is_the_same_in_every_release():
    assert KeyedOrder(10**9, 7, 3).rows(5, 9).tolist() == GOLDEN


GOLDEN = [829264722, 778411857, 784939215, 723458653]


def test_it_is_taken_for_many_rows_has_a_version_of_its_own_and_takes_no_memory():
    assert [order.version("full", rows) for rows in (2**26, 2**26 + 1)] == [1, 3]
    tracemalloc.start()
    computed = order.order(10**9, "full", 1, 0)
    computed.rows(10**9 - 8192, 10**9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(computed, KeyedOrder)
    assert peak < 2 << 20
