"""Rows by weight: as often as their weights say but for one time, over epochs fairly, the same in every release."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline.errors import DataError, UsageError
from feedline.order import Draw, balanced

WEIGHTS = st.lists(st.floats(0, 1e6) | st.integers(0, 5).map(float), min_size=1, max_size=200).filter(
    lambda weights: max(weights) > 0
)


@given(WEIGHTS, st.integers(1, 500), st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_each_row_comes_as_often_as_its_weight_says_but_for_one_time(weights, rows, seed, epoch):
    weights = np.array(weights)
    numbers = Draw(weights, rows).numbers(seed, epoch)
    assert len(numbers) == rows
    assert (np.diff(numbers.astype(int)) >= 0).all()
    counts = np.bincount(numbers, minlength=len(weights))
    expected = rows * weights / weights.sum()
    assert (np.abs(counts - expected) < 1 + 1e-6).all()
    assert (counts[weights == 0] == 0).all()
    assert (Draw(weights, rows).numbers(seed, epoch) == numbers).all()


def test_rows_that_come_in_some_epochs_come_in_as_many_as_they_should():
    # One row in ten comes at all in an epoch, those of the weight 3 three times as often.
    weights = np.array([1.0, 3.0] * 50)
    counts = sum(np.bincount(Draw(weights, 10).numbers(1, epoch), minlength=100) for epoch in range(4000))
    expected = 4000 * 10 * weights / weights.sum()
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_equal_weights_are_every_row_once():
    assert (Draw(np.full(1000, 0.3, np.float32), 1000).numbers(5, 6) == np.arange(1000)).all()


def test_what_is_drawn_is_the_same_in_every_release():
    assert Draw(np.array([1, 2, 3, 0, 4]), 7).numbers(3, 2).tolist() == [0, 1, 2, 2, 4, 4, 4]


def test_labels_are_balanced():
    labels = np.repeat(["common", "rare", "other"], [900, 10, 90])
    numbers = Draw(balanced(labels), 999).numbers(0, 0)
    assert np.unique(labels[numbers], return_counts=True)[1].tolist() == [333, 333, 333]


def test_a_million_rows_of_which_one_is_wanted():
    weights = np.zeros(1_000_000, np.uint8)
    weights[777_777] = 1
    assert set(Draw(weights, 1000).numbers(1, 1).tolist()) == {777_777}


WRONG = {
    "negative": (np.array([1.0, -2.0]), "weights: row 1 has weight -2.0: give it one of at least 0"),
    "none": (np.array([1.0, 2.0, np.nan]), "weights: row 2 has weight nan: give it one of at least 0"),
    "infinite": (np.array([np.inf]), "weights: row 0 has weight inf: give it one of at least 0"),
    "all 0": (np.zeros(3), "weights: all are 0: no row would come"),
    "text": (np.array(["a"]), "weights: must be one number for each row (got dtype <U1, shape [1])"),
    "several a row": (np.ones((2, 3)), "weights: must be one number for each row (got dtype <f8, shape [2, 3])"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_are_no_weights_is_one_sentence(case):
    weights, message = WRONG[case]
    with pytest.raises(DataError) as raised:
        Draw(weights, 5)
    assert str(raised.value) == message


def test_what_cannot_be_drawn_or_balanced_is_one_sentence():
    with pytest.raises(UsageError, match=r"draws: must be from 1 to 2\*\*31 \(got 0\)"):
        Draw(np.ones(3), 0)
    with pytest.raises(DataError, match="balance: must be by one whole number or text for each row"):
        balanced(np.array([0.5, 1.5]))
