"""Random words: those of the paper's own test, and numbers that belong to a row."""

import numpy as np
import pytest

from feedline.errors import UsageError
from feedline.transforms import Context
from feedline.transforms.philox import philox

MOST = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((MOST,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_words_are_those_of_random123(counter, key, words):
    assert philox(key, np.array([counter, counter], np.uint64)).tolist() == [list(words)] * 2


def context(rows, epoch=0, seed=7, number=0, step=0, rank=0):
    return Context(np.asarray(rows), epoch, step, seed, is_training=True, rank=rank, number=number)


def test_numbers_belong_to_rows_and_not_to_batches():
    whole = context(range(100)).uniform(3)
    assert whole.shape == (100, 3)
    assert (context([7, 99, 0], step=5, rank=1).uniform(3) == whole[[7, 99, 0]]).all()


def test_what_is_asked_for_next_is_another_number():
    asked = context(range(50))
    first, second = asked.uniform(), asked.uniform()
    again = context(range(50))
    assert (again.uniform() == first).all()
    assert (again.uniform() == second).all()
    others = [second, *(context(range(50), **other).uniform() for other in ({"epoch": 1}, {"seed": 8}, {"number": 1}))]
    assert all((first != other).all() for other in others)


def test_numbers_are_even_and_apart_of_each_other():
    drawn = context(range(40_000)).uniform(2)
    assert ((drawn >= 0) & (drawn < 1)).all()
    counts, *_ = np.histogram2d(*drawn.T, bins=8)
    expected = 40_000 / 64
    # Of 63 degrees of freedom; one seed in a million is beyond.
    assert ((counts - expected) ** 2 / expected).sum() < 125
    assert np.bincount(context(range(40_000)).integers(5)).tolist() == pytest.approx([8000] * 5, abs=400)
    assert context([1]).integers(2**32, 2, 2).shape == (1, 2, 2)


def test_a_generator_goes_with_the_step():
    first = context([1], step=3).generator().random(4)
    assert (context([9], step=3).generator().random(4) == first).all()
    assert (context([1], step=4).generator().random(4) != first).all()
    assert (context([1], step=3, rank=1).generator().random(4) != first).all()


def test_generators_of_one_batch_differ():
    asked = context([1])
    assert (asked.generator().random(4) != asked.generator().random(4)).all()


@pytest.mark.parametrize("high", [0, -1, 2**32 + 1, 2.7, True])
def test_a_bound_that_is_none_is_refused(high):
    with pytest.raises(UsageError, match="integers: high"):
        context([1]).integers(high)


def test_row_numbers_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        context(np.arange(3)).rows[0] = 1
