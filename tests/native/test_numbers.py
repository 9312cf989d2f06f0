"""Numbers that compiled code converts: the bits that NumPy gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline import native
from feedline.native import numbers

PAIRS = sorted(numbers._KNOWN)
DTYPES = [
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "bool",
    ">i2",
]


def test_what_is_converted_holds_every_number():
    assert all(np.can_cast(source, target) for source, target in PAIRS)
    assert {("uint8", "float32"), ("uint16", "int64"), ("int8", "int32"), ("float32", "float32")} < set(PAIRS)


@given(
    pair=st.sampled_from(PAIRS),
    by=st.floats(width=32, allow_nan=False, allow_infinity=False),
    offset=st.floats(width=32, allow_nan=False, allow_infinity=False),
    count=st.sampled_from([0, 1, 7, 1023, 1024, 1025, 5000]),
    raw=st.binary(min_size=16, max_size=64),
)
def test_the_bits_are_those_of_numpy(pair, by, offset, count, raw):
    source, target = map(np.dtype, pair)
    memory = np.full(count * target.itemsize + 64, 0xA5, np.uint8)
    inside = memory[32:-32]
    stored = np.resize(np.frombuffer(raw, np.uint8), count * source.itemsize)
    inside[count * (target.itemsize - source.itemsize) :] = stored
    values = stored.copy().view(source)
    if target.kind == "f":
        with np.errstate(all="ignore"):
            expected = np.multiply(values, np.float32(by), dtype=np.float32)
            expected = np.add(expected, np.float32(offset), out=expected)
    else:
        by, offset, expected = 1.0, -0.0, values.astype(target)
    native.Conversion(source, target, by, offset).apply(inside)
    made = inside.view(target)
    is_nan = np.isnan(expected) if target.kind == "f" else np.zeros(count, bool)
    bits = f"u{target.itemsize}"
    assert (made.view(bits)[~is_nan] == expected.view(bits)[~is_nan]).all()
    assert (np.isnan(made[is_nan])).all()
    assert (memory[:32] == 0xA5).all()
    assert (memory[-32:] == 0xA5).all()


def test_each_half_is_the_same_float():
    halves = np.arange(2**16, dtype=np.uint16)
    memory = np.zeros(2**18, np.uint8)
    memory[2**17 :] = halves.view(np.uint8)
    native.Conversion(np.dtype("f2"), np.dtype("f4")).apply(memory)
    expected = halves.view(np.float16).astype(np.float32)
    is_nan = np.isnan(expected)
    made = memory.view(np.float32)
    assert (made.view(np.uint32)[~is_nan] == expected.view(np.uint32)[~is_nan]).all()
    assert np.isnan(made[is_nan]).all()
    assert is_nan.sum() == 2 * 1023


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_no_offset_changes_no_sign(zero):
    memory = np.array([zero, -zero], np.float32)
    native.Conversion(np.dtype("f4"), np.dtype("f4"), by=1.0).apply(memory.view(np.uint8))
    assert np.signbit(memory).tolist() == [bool(np.signbit(zero)), not np.signbit(zero)]


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_the_rest_is_left_to_numpy(source, target):
    found = native.conversion(np.dtype(source), np.dtype(target))
    assert (found is not None) == ((source, target) in PAIRS)


@pytest.mark.parametrize(
    "memory",
    [np.zeros(7, np.uint8), np.zeros((2, 4), np.uint8), np.zeros(16, np.uint8)[::2]],
    ids=["part", "2d", "holes"],
)
def test_memory_that_does_not_fit_is_refused(memory):
    with pytest.raises(ValueError, match="memory must be bytes in one piece, of whole float32"):
        native.Conversion(np.dtype("u1"), np.dtype("f4")).apply(memory)
