"""Windows that begin elsewhere in each epoch: as many in each, a stride apart, none beyond a segment."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feedline.order import Blocks, Phases, order

WORD = st.integers(0, 2**64 - 1)


@st.composite
def segments(draw):
    """Return segments of places with gaps between them, and the stride."""
    stride = draw(st.integers(1, 9), "stride")
    lengths = np.array(draw(st.lists(st.integers(1, 50), min_size=1, max_size=6), "lengths"))
    gaps = draw(st.lists(st.integers(0, 12), min_size=len(lengths), max_size=len(lengths)), "gaps")
    firsts = np.cumsum([gap + length for gap, length in zip(gaps, [0, *lengths[:-1]], strict=True)])
    return firsts, lengths, stride


def made(firsts, lengths, stride):
    counts = np.maximum(1, lengths // stride)
    return Phases(firsts, counts, lengths - (counts - 1) * stride, stride)


@given(segments=segments(), seed=WORD, epoch=st.integers(0, 2**40))
def test_windows_lie_in_their_segments_a_stride_apart(segments, seed, epoch):
    firsts, lengths, stride = segments
    phases = made(*segments)
    places = phases.places(np.arange(phases.rows), phases.origins(seed, epoch)).tolist()
    for first, length in zip(firsts, lengths, strict=True):
        own, places = places[: max(1, length // stride)], places[max(1, length // stride) :]
        assert first <= own[0]
        assert own[-1] < first + length
        assert np.diff(own).tolist() == [stride] * (len(own) - 1)
    assert places == []


def test_sooner_or_later_a_window_begins_at_every_place():
    firsts, lengths = np.array([0, 100, 200]), np.array([3, 30, 47])
    phases = made(firsts, lengths, 8)
    seen = {
        place
        for epoch in range(500)
        for place in phases.places(np.arange(phases.rows), phases.origins(7, epoch)).tolist()
    }
    assert seen == {first + place for first, length in zip(firsts, lengths, strict=True) for place in range(length)}


def test_each_beginning_comes_as_often_as_others():
    phases = Phases(np.array([0]), np.array([1]), np.array([7]), 7)
    counts = np.bincount([int(phases.origins(5, epoch)[0]) for epoch in range(7000)], minlength=7)
    assert abs(counts - 1000).max() < 150  # five standard deviations


def test_where_they_begin_is_that_of_any_machine_and_release():
    phases = Phases(np.array([0]), np.array([1]), np.array([10**9]), 1)
    assert [int(phases.origins(*each)[0]) for each in [(0, 0), (0, 1), (7, 0), (2**64 - 1, 3)]] == [
        600906689,
        250882544,
        99048981,
        145073996,
    ]


@given(shuffle=st.sampled_from(["full", "none", Blocks(4, 3)]), epoch=st.integers(0, 5), start=st.integers(0, 99))
def test_an_order_is_that_of_the_rows_each_as_its_window(shuffle, epoch, start):
    phases = Phases(np.array([0, 500]), np.array([40, 60]), np.array([8, 11]), 8)
    origins = phases.origins(3, epoch)
    shifted = order(100, shuffle, 3, epoch, phases=phases)
    plain = order(100, shuffle, 3, epoch)
    assert (shifted.rows(start, 100) == phases.places(plain.rows(start, 100), origins)).all()
    assert (shifted.unmixed(start, 100) == phases.places(plain.unmixed(start, 100), origins)).all()
