"""Columns: a name is an array, a list of names a dict, and an unknown name a sentence."""

import pytest

from feedline.errors import UsageError
from feedline.feed.columns import pick, picker

BATCH = {"features": "F", "labels": "L", "weights": "W"}

PICKED = {
    "names": (["features", "labels"], ("F", "L")),
    "weights too": (["features", "labels", "weights"], ("F", "L", "W")),
    "none is left out": (["features", "labels", None], ("F", "L")),
    "a list is a dict": ([["features", "weights"], "labels"], ({"features": "F", "weights": "W"}, "L")),
    "a list of one is a dict of one": ([["features"], "labels"], ({"features": "F"}, "L")),
}


@pytest.mark.parametrize(("columns", "expected"), PICKED.values(), ids=PICKED)
def test_a_batch_becomes_a_tuple(columns, expected):
    assert picker(columns, BATCH)(BATCH) == expected


def test_one_name_is_one_array():
    assert pick(BATCH, "labels") == "L"


@pytest.mark.parametrize("columns", ["label", ["features", "label"]], ids=["a name", "in a list"])
def test_an_unknown_name_is_refused_with_those_that_are_known(columns):
    with pytest.raises(UsageError, match=r"no array 'label' in the feed, only features, labels, weights"):
        picker(["features", columns], BATCH)
