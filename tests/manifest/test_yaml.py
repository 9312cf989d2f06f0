"""YAML is read as kubectl reads it, and a hostile text costs little.

`yaml_table.json` holds the cases: `json` is what both read, `error` a part of our refusal, and `kubectl` what kubectl
reads where it is more lenient than we are.
"""

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from feedline.errors import UsageError
from feedline.manifest.jsonvalues import MAX_DEPTH, MAX_NODES, MAX_TEXT_CHARACTERS, plain, read_json
from feedline.manifest.yamlread import read_yaml

TABLE = json.loads(Path(__file__).with_name("yaml_table.json").read_text(encoding="utf-8"))


def with_types(value):
    """Text that tells 1 from 1.0 and from true, which `==` does not."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("case", [case for case in TABLE if "json" in case], ids=lambda case: case["id"])
def test_is_read_as_kubectl_reads_it(case):
    assert with_types(read_yaml(case["yaml"], "f.yaml")) == with_types([case["json"]])


@pytest.mark.parametrize("case", [case for case in TABLE if "error" in case], ids=lambda case: case["id"])
def test_is_refused_with_the_place(case):
    with pytest.raises(UsageError) as caught:
        read_yaml(case["yaml"], "f.yaml")
    assert str(caught.value).startswith("f.yaml: ")
    assert case["error"] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_documents_that_are_empty_are_left_out():
    assert read_yaml("---\n# nothing\n---\na: 1\n---\n---\nb: 2\n", "f") == [{"a": 1}, {"b": 2}]
    assert read_yaml("", "f") == []


def test_an_anchor_ends_with_its_document():
    with pytest.raises(UsageError, match="no anchor &x"):
        read_yaml("a: &x 1\n---\nb: *x\n", "f")


def test_changing_an_alias_does_not_change_the_anchor():
    (document,) = read_yaml("a: &x {k: 1}\nb: *x\n", "f")
    document["b"]["k"] = 2
    assert document["a"] == {"k": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("[" * 100_000, "nested deeper", id="nested lists"),
        pytest.param("{a: " * 100_000, "nested deeper", id="nested maps"),
        pytest.param('{"a":' * 100_000, "nested deeper", id="nested JSON"),
        pytest.param('{"a":' * 200 + "1" + "}" * 200, "nested deeper", id="JSON nested too deep for us"),
        pytest.param("- 1\n" * (MAX_NODES + 1), "more than 100000 values", id="many values"),
        pytest.param('{"a": [' + "1," * MAX_NODES + "1]}", "more than 100000 values", id="many values in JSON"),
        pytest.param("#" * (MAX_TEXT_CHARACTERS + 1), "a manifest has at most", id="a long text"),
        pytest.param('{"a": NaN}', "NaN is no JSON number", id="NaN in JSON"),
        pytest.param('{"a": 1e999}', "inf is not a finite number", id="an infinite number in JSON"),
        pytest.param('{"a": ' + "9" * 5000 + "}", "inf is not a finite number", id="an endless integer in JSON"),
        pytest.param('{"a": "\\ud800"}', "no valid text", id="half a character in JSON"),
        pytest.param('{"\\ud800": 1}', "no valid text", id="half a character as a key"),
        pytest.param("a: \udcff", "not valid text", id="half a character"),
        pytest.param("a: \x00", "not valid YAML", id="a zero byte"),
    ],
)
def test_a_hostile_text_is_refused(text, problem):
    with pytest.raises(UsageError, match=problem):
        read_yaml(text, "f")


def test_aliases_cannot_multiply():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(UsageError, match="more than 100000 values, aliases included"):
        read_yaml("\n".join(lines), "f")


def test_a_long_row_of_digits_is_a_number_at_once():
    assert read_yaml("a: " + "9" * 300, "f") == [{"a": float("9" * 300)}]
    assert read_yaml("a: " + "9" * 5000, "f") == [{"a": "9" * 5000}]


def test_nesting_up_to_the_limit_is_read():
    (value,) = read_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f")
    assert value == json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param({1: 2}, "the key 1 is no string", id="an integer as a key"),
        pytest.param({"a": {1, 2}}, "a set is no JSON value", id="a set"),
        pytest.param({"a": object}, "a type is no JSON value", id="a class"),
        pytest.param({"a": math.nan}, "nan is not a finite number", id="NaN"),
        pytest.param({"a": 10**400}, "not a finite number", id="an integer beyond floats"),
    ],
)
def test_what_json_cannot_hold_is_refused(value, problem):
    with pytest.raises(UsageError, match=problem):
        plain(value, "f")


def test_a_value_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(UsageError, match="nested deeper"):
        plain(value, "f")


def test_plain_copies_and_keeps_numbers_as_the_api_server():
    given_value = {"a": (1.0, 2.5, 2**64, None, True, "x")}
    result = plain(given_value, "f")
    assert with_types(result) == with_types({"a": [1, 2.5, float(2**64), None, True, "x"]})


def test_json_that_is_none_says_where():
    with pytest.raises(json.JSONDecodeError):
        read_json("{", "f")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
slow_machines = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@slow_machines
@given(st.dictionaries(st.text(max_size=3), JSON, max_size=3))
@example({"": -1000000000000000001})
def test_json_comes_back_with_numbers_as_the_api_server_keeps_them(value):
    text = json.dumps(value)
    assert with_types(read_yaml(text, "f")) == with_types([plain(json.loads(text), "f")])


def outcome(text):
    """The documents of a text, or why it is refused."""
    try:
        return read_yaml(text, "f"), ""
    except UsageError as error:
        return None, str(error)


@slow_machines
@given(st.text(alphabet=st.sampled_from("abyn01.:-_+e<>*&!|>'\"[]{}, #\n\t~"), max_size=60))
def test_any_text_is_read_or_refused_in_a_sentence(text):
    documents, refusal = outcome(text)
    assert refusal.startswith("f: ") if documents is None else json.dumps(documents, allow_nan=False)
