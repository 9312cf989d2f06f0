"""Windows that begin elsewhere in each epoch: as many in each, a stride apart, none beyond a segment."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feedline.order import Blocks, Phases, order


@st.composite
def segments(draw):
    """Return places in segments with gaps between them, the stride, and how many places each segment has."""
    stride = draw(st.integers(1, 9), "stride")
    lengths = draw(st.lists(st.integers(stride, 50), min_size=1, max_size=6), "lengths")
    gaps = draw(st.lists(st.integers(0, 12), min_size=len(lengths), max_size=len(lengths)), "gaps")
    firsts = np.cumsum([gap + length for gap, length in zip(gaps, [0, *lengths[:-1]], strict=True)])
    return firsts, np.array(lengths), stride


@given(segments=segments(), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 2**40))
def test_windows_lie_in_their_segments_a_stride_apart(segments, seed, epoch):
    firsts, lengths, stride = segments
    phases = Phases(firsts, lengths // stride, stride)
    shift = phases.shift(seed, epoch)
    assert 0 <= shift < stride
    assert phases.rows == sum(lengths // stride)
    expected = [
        first + shift + number * stride
        for first, length in zip(firsts, lengths, strict=True)
        for number in range(length // stride)
    ]
    assert phases.places(np.arange(phases.rows), shift).tolist() == expected
    assert all(
        expected[sum(lengths[:segment] // stride) :][length // stride - 1] < first + length
        for segment, (first, length) in enumerate(zip(firsts, lengths, strict=True))
    )


def test_every_shift_comes_as_often_as_others():
    phases = Phases(np.array([0]), np.array([10]), 7)
    counts = np.bincount([phases.shift(5, epoch) for epoch in range(7000)], minlength=7)
    assert abs(counts - 1000).max() < 150  # five standard deviations


def test_a_shift_is_that_of_any_machine_and_release():
    phases = Phases(np.array([0]), np.array([10]), 1000)
    assert [phases.shift(seed, epoch) for seed, epoch in [(0, 0), (0, 1), (7, 0), (2**64 - 1, 3)]] == [
        991,
        369,
        186,
        863,
    ]


@given(
    shuffle=st.sampled_from(["full", "none", Blocks(4, 3)]),
    epoch=st.integers(0, 5),
    start=st.integers(0, 99),
)
def test_an_order_is_that_of_the_rows_each_as_its_window(shuffle, epoch, start):
    phases = Phases(np.array([0, 500]), np.array([40, 60]), 8)
    rows = order(100, shuffle, 3, epoch).rows(start, 100)
    expected = phases.places(rows, phases.shift(3, epoch))
    shifted = order(100, shuffle, 3, epoch, phases=phases)
    assert (shifted.rows(start, 100) == expected).all()
    before = order(100, shuffle, 3, epoch).unmixed(start, 100)
    assert (shifted.unmixed(start, 100) == phases.places(before, phases.shift(3, epoch))).all()
