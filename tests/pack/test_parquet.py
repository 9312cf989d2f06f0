"""`feedline pack` over Parquet: columns come out as they went in."""

import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from feedline.errors import DataError, EnvironmentInvalidError, UsageError
from feedline.pack import pack
from feedline.pack.columns import Columns


def loaded(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def table(path, columns):
    parquet.write_table(pa.table(columns), path)
    return path


def test_numeric_columns_become_features(tmp_path):
    columns = {
        "a": pa.array([1, 2, 3], pa.int64()),
        "b": pa.array([0.5, 1.5, 2.5], pa.float32()),
        "c": pa.array([True, False, True]),
        "y": pa.array([2, 0, 1], pa.uint8()),
    }
    pack([table(tmp_path / "t.parquet", columns)], tmp_path / "out")

    assert loaded(tmp_path / "out", "features").tolist() == [[1, 0.5, 1], [2, 1.5, 0], [3, 2.5, 1]]
    assert loaded(tmp_path / "out", "features").dtype == np.float32
    assert loaded(tmp_path / "out", "labels").tolist() == [2, 0, 1]
    assert loaded(tmp_path / "out", "labels").dtype == np.int32
    assert loaded(tmp_path / "out", "names").tolist() == ["t-000000", "t-000001", "t-000002"]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(pa.list_(pa.float64()), id="list"),
        pytest.param(pa.large_list(pa.int32()), id="large list"),
        pytest.param(pa.list_(pa.uint8(), 4), id="fixed-size list"),
    ],
)
def test_lists_of_one_length_become_features(tmp_path, kind):
    rows = [[1, 2, 3, 4], [5, 6, 7, 8]]
    columns = {"image": pa.array(rows, kind), "y": pa.array([0, 1])}
    pack([table(tmp_path / "t.parquet", columns)], tmp_path / "out", shape=(2, 2))

    assert loaded(tmp_path / "out", "features").tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_lists_of_lists_become_features(tmp_path):
    rows = [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    pack([table(tmp_path / "t.parquet", {"image": rows, "y": [0, 1]})], tmp_path / "out", shape=(2, 2))

    assert loaded(tmp_path / "out", "features").tolist() == rows


@pytest.mark.parametrize(
    ("labels", "expected", "classes"),
    [
        pytest.param(pa.array(["b", "a", "b"]), np.int32([1, 0, 1]), ("a", "b"), id="strings"),
        pytest.param(pa.array(["b", "a", "b"]).dictionary_encode(), np.int32([1, 0, 1]), ("a", "b"), id="dictionary"),
        pytest.param(pa.array(["2", "10", "2"]), np.int32([1, 0, 1]), ("10", "2"), id="strings of digits"),
        pytest.param(pa.array([0.5, 1.0, 2.0]), np.float32([0.5, 1, 2]), (), id="floats"),
        pytest.param(pa.array([0.0, 1.0, 2.0]), np.int32([0, 1, 2]), (), id="whole floats"),
        pytest.param(pa.array([1, 2**40, 3]), np.int64([1, 2**40, 3]), (), id="large integers"),
        pytest.param(pa.array([True, False, True]), np.int32([1, 0, 1]), (), id="booleans"),
    ],
)
def test_parquet_labels_take_the_type_of_their_column(tmp_path, labels, expected, classes):
    packed = pack([table(tmp_path / "t.parquet", {"a": [1, 2, 3], "y": labels})], tmp_path / "out")

    np.testing.assert_array_equal(loaded(tmp_path / "out", "labels"), expected)
    assert loaded(tmp_path / "out", "labels").dtype == expected.dtype
    assert packed.classes == classes


def test_several_parquet_files_of_many_row_groups_keep_their_rows(tmp_path):
    rows = np.arange(20_000)
    for name in ("a", "b"):
        columns = {"x": rows, "id": [f"{name}{row}" for row in rows], "y": rows % 7}
        parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet", row_group_size=3000)
    pack(
        [tmp_path / "a.parquet", tmp_path / "b.parquet"], tmp_path / "out", columns=Columns(names="id"), shuffle_seed=5
    )

    names = loaded(tmp_path / "out", "names").tolist()
    assert sorted(names) == sorted([f"a{row}" for row in rows] + [f"b{row}" for row in rows])
    numbers = np.array([int(name[1:]) for name in names])
    np.testing.assert_array_equal(loaded(tmp_path / "out", "features")[:, 0], numbers)
    np.testing.assert_array_equal(loaded(tmp_path / "out", "labels"), numbers % 7)


@pytest.mark.parametrize(
    ("columns", "wish", "error", "message"),
    [
        pytest.param(
            {"a": [1, None], "y": [0, 1]}, Columns(), DataError, "row 1, column 1 (a): the value is null", id="1"
        ),
        pytest.param(
            {"a": [1, 2], "y": ["x", None]}, Columns(), DataError, "row 1, column 2 (y): the value", id="label"
        ),
        pytest.param(
            {"a": [1, 2], "y": [0.5, np.nan]}, Columns(), DataError, "row 1, column 2 (y): the label is", id="nan"
        ),
        pytest.param(
            {"a": [[1, 2], [3]], "y": [0, 1]}, Columns(), DataError, "row 1, column 1 (a): a list of 1", id="len"
        ),
        pytest.param(
            {"a": [[1], [None]], "y": [0, 1]}, Columns(), DataError, "row 1, column 1 (a): the value", id="inner"
        ),
        pytest.param({"a": ["x"], "y": [0]}, Columns(), UsageError, "column 1 (a) of", id="a text feature"),
        pytest.param({"a": [1], "y": [[0]]}, Columns(), UsageError, "which is no label", id="a list label"),
        pytest.param(
            {"a": [1], "y": [0]},
            Columns(header=True),
            UsageError,
            "--header does not go with Parquet files",
            id="header",
        ),
        pytest.param(
            {"a": [1e300], "y": [0]}, Columns(), DataError, "row 0, column 1 (a): 1e+300 does not", id="too large"
        ),
        pytest.param({"a": pa.array([], pa.int8()), "y": []}, Columns(target="a"), UsageError, "no number", id="nulls"),
        pytest.param({"a": pa.array([], pa.int8())}, Columns(labelled=False), DataError, "has no rows", id="no rows"),
    ],
)
def test_bad_parquet_is_told_by_file_row_and_column(tmp_path, columns, wish, error, message):
    with pytest.raises(error) as caught:
        pack([table(tmp_path / "t.parquet", columns)], tmp_path / "out", columns=wish)

    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_is_no_parquet_is_told_so(tmp_path):
    whole = table(tmp_path / "t.parquet", {"a": list(range(5000)), "y": list(range(5000))}).read_bytes()
    for content in (b"", b"no parquet at all", whole[:-20]):
        (tmp_path / "bad.parquet").write_bytes(content)
        with pytest.raises(DataError, match="is no Parquet file, or cut short"):
            pack([tmp_path / "bad.parquet"], tmp_path / "out")


def test_damaged_parquet_pages_leave_nothing(tmp_path):
    content = bytearray(table(tmp_path / "t.parquet", {"a": list(range(5000)), "y": [1] * 5000}).read_bytes())
    content[4:600] = b"\xff" * 596
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        pack([tmp_path / "t.parquet"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pyarrow_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    table(tmp_path / "t.parquet", {"a": [1], "y": [0]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentInvalidError, match=r"pip install 'feedline\[pack\]'"):
        pack([tmp_path / "t.parquet"], tmp_path / "out")
