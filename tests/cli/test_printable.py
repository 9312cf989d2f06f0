"""Text that others wrote: on a terminal it is text, whatever is in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline.cli.printable import columns, line, sentence


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("\x1b[1m3/32\x1b[0m loss: 0.1", "3/32 loss: 0.1", id="colours"),
        pytest.param("a\x1b]0;a title\x07b", "ab", id="a title"),
        pytest.param("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink", id="a link"),
        pytest.param("50 %\r100 %", "50 % 100 %", id="a progress bar"),
        pytest.param("a\x9b2Jb", "a 2Jb", id="an escape in one byte"),
        pytest.param("user\u202egnp.exe", "user gnp.exe", id="a turned direction"),
        pytest.param("\tFile x", "    File x", id="indentation stays"),
        pytest.param("größe 图 🎉", "größe 图 🎉", id="letters stay"),
        pytest.param("\x1b", " ".strip(), id="an escape and nothing else"),
    ],
)
def test_a_line_is_text(text, shown):
    assert line(text) == shown


@given(st.text())
def test_no_text_reaches_the_terminal_with_control_characters(text):
    assert line(text).isprintable()
    assert sentence(text, 80).isprintable()
    assert len(sentence(text, 80)) <= 80


def test_a_sentence_is_one_line_without_its_full_stop():
    assert sentence("It failed.\n  Twice.") == "It failed. Twice"


def test_columns_are_as_wide_as_their_widest_cell():
    assert columns([("A", "LONGER", "C"), ("aaa", 1, None), ("a", "two\nlines", "c")]) == [
        "A    LONGER     C",
        "aaa  1",
        "a    two lines  c",
    ]
