"""Orders that compiled code draws: the numbers that NumPy gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedline import native
from feedline.order import permutation

WORD = st.integers(0, 2**64 - 1)
AROUND = [2**bits + more for bits in range(18) for more in (-1, 0, 1) if 2**bits + more > 0]


@pytest.fixture
def by_numpy(monkeypatch):
    """Return a function that makes an order without compiled code."""

    def by_numpy(*arguments):
        with monkeypatch.context() as context:
            context.setattr(permutation, "shuffler", lambda *_: None)
            return permutation.permutation(*arguments)

    return by_numpy


@pytest.mark.parametrize("rows", AROUND)
def test_an_order_is_that_of_numpy(by_numpy, rows):
    assert (permutation.permutation(rows, 7, 3) == by_numpy(rows, 7, 3)).all()


@settings(max_examples=20)
@given(rows=st.integers(1, 20_000), seed=WORD, epoch=WORD, stream=st.integers(0, 2**41))
def test_so_it_is_for_any_seed(rows, seed, epoch, stream):
    made = permutation.permutation(rows, seed, epoch, stream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permutation, "shuffler", lambda *_: None)
        expected = permutation.permutation(rows, seed, epoch, stream)
    assert made.dtype == expected.dtype == np.uint32
    assert (made == expected).all()


@pytest.mark.parametrize("rows", [2**20 + 1, 2_500_000])
def test_so_it_is_for_more_rows_than_are_sorted_at_once(by_numpy, rows):
    assert (permutation.permutation(rows, 1, 2**64 - 1, 5) == by_numpy(rows, 1, 2**64 - 1, 5)).all()


@pytest.mark.parametrize(("rows", "buckets"), [(2**31 + 1, 2049), (10, 2**16 + 1)])
def test_more_than_it_counts_is_left_to_numpy(rows, buckets):
    assert native.shuffler(rows, buckets, 0, 0) is None


def test_memory_that_has_holes_is_refused():
    with pytest.raises(ValueError, match="in one piece"):
        native.shuffler(10, 1, 0, 0).shuffle(np.arange(20, dtype=np.uint32)[::2], 1)
