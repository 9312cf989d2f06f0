"""Rows that compiled code copies: the bytes that NumPy gives, whatever the parts, and nothing outside its rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline import native


@given(data=st.data())
def test_the_bytes_are_those_of_numpy(data):
    row_bytes = data.draw(
        st.sampled_from([1, 2, 3, 4, 7, 8, 16, 31, 32, 63, 64, 65, 100, 256, 4095, 4097, 9000]), "row_bytes"
    )
    stride = data.draw(st.sampled_from([row_bytes, row_bytes + 5, max(1, row_bytes // 2)]), "stride")
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5), "sizes")
    random = np.random.default_rng(sum(sizes))
    parts = []
    for size in sizes:
        memory = random.integers(0, 256, (size - 1) * stride + row_bytes, dtype=np.uint8)
        parts.append(np.lib.stride_tricks.as_strided(memory, (size, row_bytes), (stride, 1)))
    rows = np.array(data.draw(st.lists(st.integers(0, sum(sizes) - 1), max_size=50), "rows"), np.intp)
    memory = np.full(len(rows) * row_bytes + 64, 0xA5, np.uint8)
    out = memory[32:-32].reshape(len(rows), row_bytes)
    native.gather(parts).take(rows, out)
    assert (out == np.concatenate(parts)[rows]).all()
    assert (memory[:32] == 0xA5).all()
    assert (memory[-32:] == 0xA5).all()


@pytest.mark.parametrize("shift", [0, 1, 63])
@pytest.mark.parametrize("row_bytes", [2048, 2051, 9999])
def test_so_much_that_it_goes_past_the_cache_is_the_same(row_bytes, shift):
    rows = np.random.default_rng(1).integers(0, 256, (500, row_bytes), dtype=np.uint8)
    numbers = np.random.default_rng(2).integers(0, 500, (13 << 20) // row_bytes)
    memory = np.full(len(numbers) * row_bytes + 128, 0xA5, np.uint8)
    out = memory[shift : shift + len(numbers) * row_bytes].reshape(len(numbers), row_bytes)
    native.gather([rows]).take(numbers, out)
    assert (out == rows[numbers]).all()
    assert (memory[:shift] == 0xA5).all()
    assert (memory[shift + out.size :] == 0xA5).all()


@pytest.mark.parametrize("row", [-1, 50, 2**62, -(2**63)])
def test_a_row_that_there_is_not_is_refused_before_anything_is_copied(row):
    gather = native.gather([np.zeros((20, 8), np.uint8), np.zeros((30, 8), np.uint8)])
    out = np.full((3, 8), 7, np.uint8)
    with pytest.raises(IndexError, match=f"row {row} is none of 50"):
        gather.take(np.array([0, 49, row]), out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    "out", [np.zeros((2, 8), np.uint8), np.zeros((3, 9), np.uint8), np.zeros((3, 16), np.uint8)[:, ::2]]
)
def test_memory_that_does_not_fit_is_refused(out):
    gather = native.gather([np.zeros((20, 8), np.uint8)])
    with pytest.raises(ValueError, match="out must be a contiguous array of 3 rows of 8 bytes"):
        gather.take(np.arange(3), out)


def test_every_second_number_of_an_order_is_taken_as_it_is():
    rows = np.arange(100, dtype=np.uint8).reshape(50, 2)
    numbers = np.arange(50)[::-1][::7]
    out = np.empty((len(numbers), 2), np.uint8)
    native.gather([rows]).take(numbers, out)
    assert (out == rows[numbers]).all()


@pytest.mark.parametrize("copied_by", ["native", "numpy"])
@pytest.mark.parametrize("residency", ["auto", "memory"])
def test_a_feed_gives_the_same_batches_by_both(save, monkeypatch, copied_by, residency):
    values = np.random.default_rng(0).integers(0, 1 << 16, 4000).astype(np.uint16)
    for part in range(3):
        save(f"part-{part}", values[part * 1000 :][: 1000 + part])
    if copied_by == "numpy":
        monkeypatch.setattr("feedline.files.array.gather", lambda parts: None)
    path = str(save("all", values)).replace("all", "part-*")
    window = feedline.Window(50, stride=3)
    arrays = feedline.open_arrays({"x": feedline.Stored(path, window=window)}, residency=residency)
    starts = [part * 1000 + begin for part in range(3) for begin in range(0, 1000 + part - 49, 3)]
    expected = np.array([values[start : start + 50] for start in starts])
    with feedline.Feed(arrays, 32, seed=3, last_batch="keep") as feed:
        seen = np.concatenate([batch["x"].copy() for batch in feed])
    assert sorted(map(tuple, seen)) == sorted(map(tuple, expected))
