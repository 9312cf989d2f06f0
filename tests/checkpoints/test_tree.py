"""A state is taken apart into JSON and tensors, and put together again as it was."""

import json
import math
from collections import Counter, OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline.checkpoints import tree

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
KEYS = st.text(max_size=4) | st.integers(-3, 3)
STATES = st.recursive(
    PLAIN | st.builds(lambda numbers: np.array(numbers, np.float32), st.lists(st.floats(width=32), max_size=3)),
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(KEYS, parts, max_size=3) | st.lists(parts, max_size=3).map(tuple)
    ),
    max_leaves=12,
)


def arrays(value):
    return "array" if isinstance(value, np.ndarray) else None


def through_json(state):
    document, leaves = tree.take_apart(state, arrays)
    return tree.put_together(json.loads(json.dumps(document)), leaves)


def same(one, other):
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.tobytes() == other.tobytes()
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(STATES)
def test_a_state_comes_back_as_it_was(state):
    assert same(state, through_json(state))


@pytest.mark.parametrize("counted", [Counter(a=1.5, b=2), Counter({1: -3, "x": math.inf})])
def test_what_was_counted_comes_back_as_it_was(counted):
    found = through_json(counted)
    assert type(found) is Counter
    assert found == counted


def test_keys_keep_their_order_and_their_types():
    state = OrderedDict([("b", 1), ("a", {2: "two", (1, 2): [Counter({3: 4})]})])
    found = through_json(state)
    assert list(found) == ["b", "a"]
    assert found["a"] == {2: "two", (1, 2): [Counter({3: 4})]}


def test_leaves_are_named_by_their_path_also_where_keys_hold_dots():
    one, two = np.zeros(1), np.ones(1)
    _, leaves = tree.take_apart({"a": {"b": one}, "a.b": two}, arrays)
    assert list(leaves) == ["a.b", "a.b#2"]
    found = through_json({"a": {"b": one}, "a.b": two})
    assert (found["a"]["b"], found["a.b"]) == (one, two)


def test_a_number_of_numpy_is_a_number():
    assert through_json({"rate": np.float32(0.5), "steps": np.int64(3), "is": np.bool_(True)}) == {
        "rate": 0.5,
        "steps": 3,
        "is": True,
    }


@pytest.mark.parametrize("value", [object(), {1, 2}, SimpleNamespace(a=1), np.array, range(3)], ids=range(5))
def test_what_would_have_to_be_pickled_is_refused_with_its_path(value):
    with pytest.raises(tree.UnknownValueError, match=r"^groups\.0\.what is a "):
        tree.take_apart({"groups": [{"what": value}]}, arrays)


def test_a_state_that_holds_itself_is_refused():
    state = []
    state.append(state)
    with pytest.raises(tree.UnknownValueError):
        tree.take_apart(state, arrays)


@pytest.mark.parametrize(
    "document",
    [
        {"array": "nowhere"},
        {"what": 1},
        {"dict": 5},
        {"tuple": 3},
        {"float": "x"},
        {"bytes": "§"},
        {"complex": ["1"]},
        {"pairs": [[1]]},
        {},
        {"dict": {}, "tuple": []},
        {"pairs": [[{"dict": {}}, 1]]},
    ],
    ids=json.dumps,
)
def test_what_is_no_state_is_refused(document):
    with pytest.raises(ValueError):
        tree.put_together(document, {})
