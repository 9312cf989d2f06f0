"""What is written as YAML is read as it was, by kubectl's rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline.manifest import read_yaml, to_yaml

NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda number: not number.is_integer()
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abyn01-.~", max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES)
def test_any_value_is_read_as_it_was_written(value):
    assert read_yaml(to_yaml({"value": value}), "here") == [{"value": value}]


@pytest.mark.parametrize(
    "text",
    [
        "1e-4",
        "y",
        "on",
        "~",
        "null",
        "0x1f",
        "0o7",
        "1_000",
        "+.inf",
        ".nan",
        "12:30",
        "2026-11-30",
        "-",
        "=",
        "<<",
        "",
        "+_1",
        "a\x85b",
    ],
)
def test_text_that_looks_like_something_else_stays_text(text):
    assert read_yaml(to_yaml({text: [text]}), "here") == [{text: [text]}]
