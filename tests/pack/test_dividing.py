"""`feedline split`: every row is in one part, of every class its share, the same each time, and in order with a gap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedline.errors import DataError, UsageError
from feedline.pack import divide


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("split")


def divided(folder, labels, **options):
    """Return the rows of each part, by the name of its file."""
    np.save(folder / "labels.npy", labels)
    packed = divide(folder / "labels.npy", folder / "out", **{"fractions": {}, "overwrite": True, **options})
    rows = {file.path.stem: np.load(file.path) for file in packed.files}
    for name, part in rows.items():
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all(), name
    return rows


LABELS = st.lists(st.integers(0, 4), min_size=8, max_size=200).map(lambda labels: np.array(labels, np.int32))


@given(LABELS, st.floats(0.2, 0.4), st.floats(0.2, 0.4), st.booleans(), st.integers(0, 2**32 - 1))
def test_every_row_is_in_one_part(folder, labels, first, second, by_labels, seed):
    fractions = {"validation": first, "test": second}
    rows = divided(folder, labels, fractions=fractions, by_labels=by_labels, seed=seed)
    assert set(rows) == {"train", "validation", "test"}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(labels)))
    for name, fraction in fractions.items():
        assert abs(len(rows[name]) - fraction * len(labels)) <= 1
        if by_labels:
            for label in range(5):
                share = fraction * (labels == label).sum()
                assert abs((labels[rows[name]] == label).sum() - share) <= 1.5
    again = divided(folder, labels, fractions=fractions, by_labels=by_labels, seed=seed)
    assert all((again[name] == rows[name]).all() for name in rows)


@given(LABELS, st.integers(2, 8), st.booleans(), st.integers(0, 9) | st.none())
def test_every_row_is_held_out_by_one_fold(folder, labels, folds, by_labels, seed):
    by_labels = by_labels and seed is not None
    rows = divided(folder, labels, folds=folds, by_labels=by_labels, seed=seed)
    held_out = [rows[f"validation-{fold}"] for fold in range(folds)]
    assert sorted(np.concatenate(held_out)) == list(range(len(labels)))
    assert np.ptp([len(part) for part in held_out]) <= 1
    for fold, part in enumerate(held_out):
        assert sorted([*rows[f"train-{fold}"], *part]) == list(range(len(labels)))
        if by_labels:
            for label in range(5):
                assert abs((labels[part] == label).sum() - (labels == label).sum() / folds) < 1
        if seed is None:
            assert (np.diff(part) == 1).all()


def test_chance_is_the_same_in_every_release(folder):
    rows = divided(folder, np.arange(10), fractions={"validation": 0.3}, seed=1)
    assert rows["validation"].tolist() == [0, 4, 6]


def test_rows_in_order_have_a_gap_between_them(folder):
    rows = divided(folder, np.zeros(100), fractions={"validation": 0.2, "test": 0.1}, seed=None, gap=5)
    assert [rows[name].tolist() for name in rows] == [[*range(70)], [*range(75, 90)], [*range(95, 100)]]
    rows = divided(folder, np.zeros(30), folds=3, seed=None, gap=2)
    assert rows["validation-1"].tolist() == [*range(10, 20)]
    assert rows["train-1"].tolist() == [*range(8), *range(22, 30)]


def test_labels_may_be_text(folder):
    rows = divided(folder, np.array(["a", "b"] * 10), fractions={"validation": 0.5}, by_labels=True)
    assert (rows["validation"] % 2).sum() == 5


WRONG = {
    "neither": ({}, "give --folds N, or --part NAME=FRACTION once or several times"),
    "both": ({"folds": 3, "fractions": {"a": 0.2}}, "give --folds N, or --part NAME=FRACTION once or several times"),
    "one fold": ({"folds": 1}, "--folds 1 is out of range: give a number from 2 to 100"),
    "a fraction of all": ({"fractions": {"a": 1.0}}, "--part a=1: give a fraction between 0 and 1, such as 0.2"),
    "a seed below 0": ({"folds": 2, "seed": -1}, "--seed -1 is out of range: give a number from 0 to 4294967295"),
    "labels in order": (
        {"folds": 2, "seed": None, "by_labels": True},
        "--in-order and --by-labels exclude each other: rows in order have the labels that they have",
    ),
    "a gap by chance": (
        {"folds": 2, "gap": 3},
        "--gap 3 is left out between rows in order: give --in-order, and at least 0",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_go_together_is_one_sentence(folder, case):
    options, message = WRONG[case]
    with pytest.raises(UsageError) as raised:
        divided(folder, np.arange(10), **options)
    assert str(raised.value) == message


def test_what_cannot_be_divided_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"out/validation-2.npy would have no row, there are only 2: take fewer parts"):
        divided(tmp_path, np.arange(2), folds=3)
    with pytest.raises(UsageError, match=r"out/test.npy would have no row, there are only 20: .* or a smaller gap"):
        divided(tmp_path, np.arange(20), fractions={"test": 0.1}, seed=None, gap=2)
    with pytest.raises(DataError, match=r"--by-labels takes one whole number or text a row .it has dtype <f8, rows of"):
        divided(tmp_path, np.zeros(20), folds=2, by_labels=True)
    assert not (tmp_path / "out").exists()
    divided(tmp_path, np.arange(20), folds=2)
    with pytest.raises(UsageError, match=r"train-0.npy exists: choose another folder, or replace it with --overwrite"):
        divided(tmp_path, np.arange(20), folds=2, overwrite=False)


def test_the_rows_themselves_are_not_replaced(tmp_path):
    np.save(tmp_path / "train.npy", np.zeros(20))
    with pytest.raises(UsageError, match=r"train.npy would be replaced by an index of its rows: choose another folder"):
        divide(tmp_path / "train.npy", tmp_path, fractions={"validation": 0.2}, overwrite=True)


def test_a_gap_beyond_all_rows_leaves_none(tmp_path):
    with pytest.raises(UsageError, match=r"out/train-0.npy would have no row"):
        divided(tmp_path, np.arange(20), folds=2, seed=None, gap=10**20)
