"""What a stranger's pod writes: whatever it is, what is kept of it fits the status."""

import json
import math
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simulation import schema

from feedline.contract import Report
from feedline_operator.untrusted import MAX_MESSAGE_CHARACTERS, MAX_REPORT_BYTES, clean, last_line, parse_report, word

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
TIMES = st.sampled_from(
    [
        "2026-01-01T00:00:00+01:00:30",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "2026-W01-1T00:00:00Z",
        "20260101T000000Z",
        "2026-01-01",
        "2026-01-01 00:00:00.123456Z",
    ]
)
NUMBERS = st.from_regex(r"[+-]?[0-9\u0660-\u0669]{0,40}(\.[0-9]{0,40})?(e[+-]?[0-9]{1,6})?", fullmatch=True)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    ANY_TEXT,
    TIMES,
    NUMBERS,
    st.sampled_from(["NaN", "nan", "-Infinity", "x" * 5000, 10**400, 2**63 - 1, 2**63, 255, 256, 1000, 1001, -1]),
)
NAMES = st.one_of(
    st.sampled_from(["p50", "p95", "inputBound", "cause", "advice", "loss", "accuracy", *Report.__annotations__]),
    ANY_TEXT,
)
MAPS = st.dictionaries(NAMES, SCALARS, max_size=20)
REPORTS = st.dictionaries(
    st.sampled_from([*Report.__annotations__, "other"]),
    st.one_of(SCALARS, MAPS, st.lists(MAPS, max_size=2)),
    max_size=8,
)


@settings(max_examples=100)
@given(REPORTS, st.booleans())
def test_whatever_is_in_a_report_what_is_kept_fits_the_status(document, escaped):
    text = json.dumps(document, ensure_ascii=escaped)
    kept = parse_report(text)
    if len(text) > MAX_REPORT_BYTES:
        assert kept is None
    else:
        assert schema.problems(kept, "report") == []
        assert parse_report(json.dumps(kept)) == kept
        json.dumps(kept, allow_nan=False, ensure_ascii=False).encode()


@given(st.one_of(ANY_TEXT, st.binary(max_size=100)))
@example(b"\xff\xfe{\x00}\x00")
@example(b"\x00" * 9)
def test_whatever_is_no_report_is_none(text):
    assert parse_report(text) is None or isinstance(parse_report(text), dict)


BAD = {
    "nothing": "",
    "no JSON": "Killed",
    "a list": '[{"steps": 1}]',
    "a number": "7",
    "too long": json.dumps({"message": "x" * MAX_REPORT_BYTES}),
    "too deep": "[" * 8000,
    "too deep, with a name": '{"a":' * 3000,
    "not closed": '{"steps": 1',
    "digits without end": '{"steps": ' + "1" * 5000 + "}",
    "no UTF-8": b'{"message": "\xff"}',
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_report_is_refused(text):
    assert parse_report(text) is None


FIELDS = {
    "unknown fields go": ('{"steps": 1, "__class__": 2}', {"steps": 1}),
    "the last of two wins": ('{"steps": 1, "steps": 2}', {"steps": 2}),
    "numbers that are not finite go": ('{"steps": NaN, "samples": Infinity, "epochs": -Infinity}', {}),
    "a number with a fraction goes": ('{"steps": 1.0, "samples": 1e400}', {}),
    "an integer of 400 digits goes": ('{"steps": 1' + "0" * 400 + "}", {}),
    "a negative one goes": ('{"steps": -1}', {}),
    "true is no integer": (
        '{"steps": true, "verdict": {"inputBound": 1, "cause": "Cpu"}}',
        {"verdict": {"cause": "Cpu"}},
    ),
    "bounds are the schema's": ('{"waitPermille": 1001, "exitCode": 256, "steps": 9223372036854775808}', {}),
    "control characters become spaces": (
        '{"message": "a\\u001b[2J\\u0000b\\r\\nc\\u202ed"}',
        {"message": "a [2J b c d"},
    ),
    "half a surrogate pair becomes a space": ('{"message": "a\\ud800b"}', {"message": "a b"}),
    "how rows came in is one bounded line": (
        json.dumps({"paging": "features:\x1b[2J " + "x" * 2000, "diskSamples": 7, "diskRandomLimitPermille": 1900}),
        {"paging": "features: [2J " + "x" * 1009 + "…", "diskSamples": 7, "diskRandomLimitPermille": 1900},
    ),
    "what tells of the disk is of its type or goes": (
        json.dumps(
            {
                "paging": ["features"],
                "diskSamples": "7",
                "memcpyLimitPermille": 0.5,
                "diskRandomLimitPermille": -1,
                "diskSequentialLimitPermille": True,
            }
        ),
        {},
    ),
    "a limit has no upper end but the integer's": (
        '{"memcpyLimitPermille": 9223372036854775807, "diskSequentialLimitPermille": 9223372036854775808}',
        {"memcpyLimitPermille": 9223372036854775807},
    ),
    "long words are cut": (json.dumps({"backend": "x" * 99}), {"backend": "x" * 15 + "…"}),
    "values are decimal strings": (
        '{"values": {"loss": "NaN", "accuracy": "0.97", "a b": "1", "c": 1, "d": "1; DROP", "e": "1e-3", "f": "-inf"}}',
        {"values": {"loss": "NaN", "accuracy": "0.97", "e": "1e-3", "f": "-inf"}},
    ),
    "digits are ASCII's": ('{"values": {"loss": "\u0663"}}', {}),
    "at most sixteen values": (
        json.dumps({"values": {f"v{n}": "1" for n in range(20)}}),
        {"values": {f"v{n}": "1" for n in range(16)}},
    ),
    "times are UTC": ('{"observedTime": "2026-01-01T02:00:00+02:00"}', {"observedTime": "2026-01-01T00:00:00Z"}),
    "times have a zone": ('{"observedTime": "2026-01-01T02:00:00"}', {}),
    "times are in a calendar": ('{"observedTime": "0001-01-01T00:00:00+10:00"}', {}),
    "nested fields are of their types": (
        '{"fetchMicros": {"p50": 1, "p95": "2", "p98": 3}}',
        {"fetchMicros": {"p50": 1}},
    ),
    "nested fields that have nothing go": ('{"fetchMicros": {"p50": "1"}, "stepMicros": [1], "verdict": {}}', {}),
}


@pytest.mark.parametrize(("text", "kept"), FIELDS.values(), ids=FIELDS)
def test_what_is_kept_of_a_report(text, kept):
    assert parse_report(text) == kept


@given(st.text(st.characters(exclude_categories=()), max_size=5000), st.integers(1, 2000))
def test_clean_text_is_one_bounded_printable_line(text, limit):
    line = clean(text, limit)
    assert len(line) <= limit
    assert line == line.strip()
    assert all(unicodedata.category(character)[0] != "C" for character in line)
    assert len(line.splitlines()) <= 1
    assert clean(line, limit) == line


def test_clean_text_tells_that_it_was_cut():
    assert clean("word " * 1000, 12) == "word word w…"
    assert len(clean("x" * 10**6)) == MAX_MESSAGE_CHARACTERS


LINES = {
    "the last that says something": ("one\ntwo\n\n  \n", "two"),
    "nothing": ("\n \n", ""),
    "one": ("only", "only"),
    "without control characters": ("a\n\x1b[31mb\x07\n", "[31mb"),
    "the end of a long log": ("x" * 10**6 + "\nlast", "last"),
}


@pytest.mark.parametrize(("text", "line"), LINES.values(), ids=LINES)
def test_last_line(text, line):
    assert last_line(text) == line


WORDS = {
    "a word": ("Cpu", "Cpu"),
    "two words": ("a b", "Unknown"),
    "none": ("", "Unknown"),
    "another type": (math.nan, "Unknown"),
    "too long": ("x" * 65, "Unknown"),
    "with a line feed": ("Cpu\n", "Unknown"),
}


@pytest.mark.parametrize(("text", "kept"), WORDS.values(), ids=WORDS)
def test_a_reason_is_one_word(text, kept):
    assert word(text, "Unknown") == kept
