"""The rows of a validation among ranks: none twice, none left out, and as many batches for each."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from feedline.order import share


@given(st.integers(1, 64), st.integers(0, 2000), st.integers(1, 600))
def test_every_row_is_one_ranks_and_all_have_as_many_batches(world, more, batch_size):
    rows = world + more
    shares = [share(rows, batch_size, rank, world) for rank in range(world)]
    assert shares[0].start == 0
    assert shares[-1].stop == rows
    assert all(before.stop == after.start for before, after in pairwise(shares))
    sizes = {each.stop - each.start for each in shares}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > 0
    assert len({-(-(each.stop - each.start) // each.batch_size) for each in shares}) == 1
    assert len({each.batch_size for each in shares}) == 1


def test_a_batch_is_its_part_of_what_was_asked_for_where_that_fits():
    assert share(297, 32, 0, 2).batch_size == 16
    assert share(4, 8, 1, 4) == (1, 2, 2)
    # 12 rows in batches of 4 are three; the rank with 13 would need a fourth.
    assert share(25, 8, 0, 2).batch_size == 5


def test_one_rank_has_all():
    assert share(10, 4, 0, 1) == (0, 10, 4)
