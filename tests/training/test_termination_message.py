"""The termination message: however much there is to say, it fits, and what matters most is said."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import AHEAD, a_run

from feedline.contract import TERMINATION_LOG_BYTES
from feedline.paging.limits import Limits
from feedline.training import report


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n\tand a tab", "two lines and a tab"),
        ("\x1b[31mred\x7f", "[31mred"),
        ("bytes \udcff of a path", "bytes   of a path"),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1023 + "…"),
    ],
    ids=["plain", "lines", "control characters", "no UTF-8", "just short enough", "too long"],
)
def test_a_message_is_one_bounded_line(text, clean):
    assert report.sentence(text) == clean


BASE = {
    **report.summarize(a_run((5, 2), (0.25, 0.75))),
    "reason": "UserError",
    "exitCode": 70,
    "message": "completed",
}


@given(
    st.text(max_size=3000)
    | st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=9), st.just(12_000)),
    st.dictionaries(st.text(min_size=1, max_size=80), st.floats(), max_size=20),
)
def test_the_termination_message_always_fits_and_is_json(message, values):
    text = report.termination_message({**BASE, "message": message, "values": report.values(values)})
    assert len(text) <= TERMINATION_LOG_BYTES
    read = json.loads(text)
    assert {**read, "message": "", "values": {}} == {**BASE, "message": "", "values": {}}
    assert report.sentence(message).startswith(read["message"])
    assert read.get("values", {}) in ({}, report.values(values))


@given(st.text(max_size=3000), st.text(max_size=1024), st.dictionaries(st.text(min_size=1, max_size=80), st.floats()))
def test_how_rows_came_in_never_makes_the_message_too_long(message, paging, values):
    given_values = report.values(values)
    text = report.termination_message({**BASE, "message": message, "paging": paging, "values": given_values})
    assert len(text) <= TERMINATION_LOG_BYTES
    read = json.loads(text)
    # Both go, or none does.
    assert (read.get("values"), read.get("paging")) in ((None, None), (given_values, paging))
    assert read["verdict"] == BASE["verdict"]


LONG_NAMES = {f"{'n' * 60}{number:02}": math.pi * 1e100 for number in range(16)}
WIDE_NAMES = {f"{'😀' * 60}{number:02}": 1.0 for number in range(16)}


@pytest.mark.parametrize(
    ("message", "values", "kept_message", "kept_values"),
    [
        pytest.param("short", LONG_NAMES, 5, 16, id="16 long values"),
        pytest.param("x" * 100_000, LONG_NAMES, 256, 16, id="16 long values and 100 kB"),
        pytest.param("😀" * 100_000, LONG_NAMES, 64, 16, id="16 long values and 100 k wide characters"),
        pytest.param("\\" * 100_000, LONG_NAMES, 256, 16, id="16 long values and 100 k backslashes"),
        pytest.param("x" * 100_000, WIDE_NAMES, 1024, 0, id="values too wide to keep"),
        pytest.param("short", WIDE_NAMES, 5, 0, id="a short message outlives wide values"),
    ],
)
def test_the_message_gives_way_first_then_the_values(message, values, kept_message, kept_values):
    text = report.termination_message({**BASE, "message": message, "values": report.values(values)})
    assert len(text) <= TERMINATION_LOG_BYTES
    read = json.loads(text)
    assert len(read["message"]) >= kept_message
    assert len(read.get("values", {})) == kept_values


@pytest.mark.parametrize(
    ("message", "values", "kept"),
    [
        pytest.param("short", {}, True, id="the rows' way alone"),
        pytest.param("x" * 100_000, {"loss": 0.5}, True, id="100 kB give way to it"),
        pytest.param("x" * 100_000, LONG_NAMES, True, id="100 kB and 16 long values leave room for it"),
        pytest.param("short", WIDE_NAMES, False, id="it goes with values that are too wide"),
    ],
)
def test_how_rows_came_in_goes_with_the_values(message, values, kept):
    limits = Limits(3.3, 2.2, 1.1)
    paging = {f"array-{number}": AHEAD for number in range(40)}
    made = report.summarize(
        a_run((5, 2), (0.25, 0.75), (1, 1), paging=paging, from_disk=7, limits=limits, values=values)
    )
    assert len(made["paging"]) == 1024
    text = report.termination_message({**made, "reason": "UserError", "exitCode": 70, "message": message})
    assert len(text) <= TERMINATION_LOG_BYTES
    read = json.loads(text)
    assert ("paging" in read, "values" in read) == (kept, kept)
    assert [read[field] for field in ("diskSamples", "diskRandomLimitPermille")] == [
        made[field] for field in ("diskSamples", "diskRandomLimitPermille")
    ]
