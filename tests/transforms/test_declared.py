"""Each transform by itself, held against the same in plain NumPy, and what it refuses."""

import contextlib
import json
import re
import zipfile

import numpy as np
import pytest

import feedline
from feedline.errors import DataError, InputMissingError, UsageError
from feedline.transforms import ArraySpec, Moments, Statistics, Transform

ROWS = np.arange(100, 110)


def applied(transform: Transform, **batch):
    """Return what a transform makes of arrays, once it is what it said it would be."""
    specs = transform.outputs({name: ArraySpec(array.dtype, array.shape[1:]) for name, array in batch.items()})
    spec = specs[transform.writes]
    out = np.full((len(ROWS), *spec.row_shape), 77, spec.dtype)
    transform.apply(batch, out, ROWS)
    return out


def numbers(dtype, shape=(), low=0, high=100):
    return np.random.default_rng(0).integers(low, high, (len(ROWS), *shape)).astype(dtype)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ("uint16", "int64"),
        ("uint16", "int32"),
        ("int64", "int32"),
        ("int32", "uint8"),
        ("uint8", "float32"),
        ("bool", "float16"),
        ("float64", "float32"),
        (">f4", "float32"),
        (">u2", "uint16"),
        ("float16", "float64"),
    ],
)
def test_cast(stored, wanted):
    values = numbers(stored, (3,))
    made = applied(feedline.Cast("x", wanted), x=values)
    assert made.dtype == np.dtype(wanted)
    assert made.dtype.isnative
    assert (made == values).all()


@pytest.mark.parametrize(
    ("value", "stored", "wanted"),
    [(300, "int64", "uint8"), (-1, "int64", "uint64"), (-1, "int8", "uint8"), (2**63, "uint64", "int64")],
)
def test_a_number_that_a_dtype_cannot_hold_is_named(value, stored, wanted):
    values = np.zeros((10, 2), stored)
    values[4, 1] = value
    with pytest.raises(DataError, match=f"cast of x: {value} in row 104 is no {wanted}: take a wider dtype"):
        applied(feedline.Cast("x", wanted), x=values)


@pytest.mark.parametrize(
    "stored", ["uint8", "int8", "uint16", "int16", "int64", "float16", "float32", "float64", "bool"]
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scale(stored, dtype):
    values = numbers(stored, (2, 3))
    made = applied(feedline.Scale("x", 1 / 64, -0.5, dtype), x=values)
    assert made.dtype == np.dtype(dtype)
    assert made == pytest.approx(values.astype(float) / 64 - 0.5, rel=2e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize(
    ("values", "stored", "scale", "expected"),
    [
        ([1_700_000_000 + each for each in range(10)], "int64", (1, -1.7e9, "float32"), range(10)),
        ([1_700_000_000 + each for each in range(10)], "float64", (1, -1.7e9, "float32"), range(10)),
        ([65535] * 10, "uint16", (1 / 65535, 0, "float16"), [1] * 10),
        ([1e300] * 10, "float64", (1e-300, 0, "float32"), [1] * 10),
        ([1e-39] * 10, "float32", (1e39, 0, "float32"), [1] * 10),
    ],
    ids=["seconds", "seconds as floats", "to float16", "beyond float32", "by beyond float32"],
)
def test_scale_computes_in_floats_that_hold_what_it_is_given(values, stored, scale, expected):
    made = applied(feedline.Scale("x", *scale), x=np.array(values, stored))
    assert made == pytest.approx(np.array(expected, float), rel=1e-3)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.float32([-1e6, 1e6] * 5), "float16"),
        (np.int32([-3_000_000, 3_000_000] * 5), "float16"),
        (np.float32([-1e-6, 1e-6] * 5), "float16"),
        (np.float64([-1e-40, 1e-40] * 5), "float32"),
    ],
)
def test_standardize_computes_in_floats_that_hold_the_statistics(values, dtype):
    made = applied(feedline.Standardize("x", statistics(values), dtype), x=values)
    assert made == pytest.approx([-1.0, 1.0] * 5, rel=1e-3)


def test_a_mean_far_from_0_is_not_rounded():
    values = np.float32(1e6 + np.arange(10) / 8)
    given = Statistics(10, np.array(1000000.03), np.array(1.0), np.array(1e6), np.array(1e6 + 1.125))
    made = applied(feedline.Standardize("x", given), x=values)
    assert made == pytest.approx(np.arange(10) / 8 - 0.03, abs=1e-6)


@pytest.mark.parametrize(("value", "stored", "wanted"), [(70000, "int64", "float16"), (1e300, "float64", "float32")])
def test_a_number_that_would_be_infinite_is_named(value, stored, wanted):
    values = np.zeros(10, stored)
    values[4] = value
    with pytest.raises(DataError, match=re.escape(f"in row 104 is no {wanted}: take a wider dtype")):
        applied(feedline.Cast("x", wanted), x=values)
    infinite = np.array([np.inf, np.nan] * 5)
    assert np.array_equal(applied(feedline.Cast("x", wanted), x=infinite), infinite, equal_nan=True)


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -7.3])
def test_a_column_of_equal_values_has_no_deviation(value):
    found = statistics(np.full((100, 1), value))
    assert found.std.tolist() == [0.0]
    with pytest.raises(DataError, match=re.escape("standardize of x: the standard deviation at [0] is 0")):
        feedline.Standardize("x", found)


def test_what_it_says_is_json_however_it_was_given():
    told = [
        feedline.Scale("x", np.float32(0.5), dtype=np.float32).told(),
        feedline.OneHot("x", np.int64(3)).told(),
        feedline.Cast("x", np.float32).told(),
        feedline.Select("x", np.array([1, 0])).told(),
    ]
    assert json.loads(json.dumps(told)) == [
        {"scale": {"array": "x", "by": 0.5, "offset": 0.0, "dtype": "float32"}},
        {"oneHot": {"array": "x", "classes": 3, "dtype": "float32"}},
        {"cast": {"array": "x", "dtype": "float32"}},
        {"select": {"array": "x", "columns": [1, 0]}},
    ]


def statistics(values, axis=-1):
    moments = Moments(values.shape[1:], axis)
    for begin in range(0, len(values), 3):
        moments.add(values[begin : begin + 3])
    return moments.statistics()


@pytest.mark.parametrize(
    ("shape", "axis"), [((), -1), ((4,), -1), ((4,), 0), ((3, 5, 6), 0), ((3, 5, 6), 1), ((3, 5, 6), 2)]
)
@pytest.mark.parametrize("stored", ["uint8", "int64", "float32", "float64"])
def test_standardized_numbers_have_mean_0_and_deviation_1(shape, axis, stored):
    values = numbers(stored, shape) + np.dtype(stored).type(10)
    made = applied(feedline.Standardize("x", statistics(values, axis)), x=values)
    kept = axis % len(shape) + 1 if shape else None
    others = tuple(each for each in range(values.ndim) if each != kept)
    assert made.mean(others, dtype=float) == pytest.approx(np.zeros(shape[axis] if shape else ()), abs=1e-6)
    assert made.std(others, dtype=float) == pytest.approx(np.ones(shape[axis] if shape else ()), abs=1e-5)


def test_statistics_are_those_of_all_rows_at_once():
    values = np.random.default_rng(1).normal(1e6, 3.0, (1000, 4)).astype(np.float32)
    found = statistics(values)
    assert (found.rows, found.mean.shape) == (1000, (4,))
    assert found.mean == pytest.approx(values.mean(0, dtype=float), rel=1e-12)
    assert found.std == pytest.approx(values.std(0, dtype=float), rel=1e-9)
    assert (found.least == values.min(0)).all()
    assert (found.most == values.max(0)).all()


def test_seconds_since_1970_keep_what_tells_them_apart():
    values = 1.7e9 + np.arange(10.0)
    made = applied(feedline.Standardize("x", statistics(values)), x=values)
    assert np.diff(made) == pytest.approx(np.full(9, 1 / values.std()), rel=1e-5)


def test_one_hot():
    labels = numbers("int64", (2,), high=300)
    made = applied(feedline.OneHot("x", 300), x=labels)
    assert made.shape == (10, 2, 300)
    assert made.dtype == np.float32
    assert (made.argmax(-1) == labels).all()
    assert (made.sum(-1) == 1).all()
    assert (applied(feedline.OneHot("x", 300, "int8"), x=labels.astype("uint16")) == made).all()


def test_select_and_concat():
    table, one = numbers("float32", (6,)), numbers("uint8")
    assert (applied(feedline.Select("x", [5, 0, 0]), x=table) == table[:, [5, 0, 0]]).all()
    made = applied(feedline.Concat("all", ["one", "x"]), x=table, one=one)
    assert made.dtype == np.float32
    assert (made == np.column_stack([one, table])).all()
    specs = feedline.Concat("all", ["x", "z"]).outputs(
        {name: ArraySpec(np.dtype("f4"), (2,)) for name in ("w", "x", "y", "z")}
    )
    assert list(specs) == ["w", "all", "y"]


TEXT, FLOATS, WHOLE, TABLE = (
    ArraySpec(np.dtype(dtype), shape) for dtype, shape in (("U3", ()), ("f4", ()), ("i8", ()), ("f4", (4,)))
)
SPECS = {"text": TEXT, "floats": FLOATS, "whole": WHOLE, "table": TABLE}


@pytest.mark.parametrize(
    ("transform", "why"),
    [
        (feedline.Cast("other", "int8"), "cast of other: there is no such array here, only floats, table, text, whole"),
        (feedline.Cast("text", "int8"), "cast of text: it takes numbers, this is str96"),
        (feedline.Cast("floats", "int8"), "cast of floats: float32 has fractions, which int8 has not: take a float"),
        (feedline.Cast("whole", "text"), "cast of whole: dtype must be one of numbers, such as float32 (got 'text')"),
        (feedline.Cast("whole", "bool"), "numbers become no bool"),
        (feedline.Scale("text", 2), "scale of text: it takes numbers, this is str96"),
        (feedline.Scale("whole", 2, dtype="int8"), "scale of whole: dtype must be a float (got int8)"),
        (feedline.Scale("whole", float("nan")), "scale of whole: by and offset must be finite"),
        (feedline.OneHot("floats", 3), "oneHot of floats: classes must be whole numbers, this is float32"),
        (feedline.OneHot("whole", 0), "oneHot of whole: classes must be at least 1 (got 0)"),
        (feedline.Select("whole", [0]), "select of whole: a row is one value and has no columns"),
        (feedline.Select("table", []), "select of table: columns must be a list of at least one number (got [])"),
        (feedline.Select("table", "01"), "select of table: columns must be a list of at least one number (got '01')"),
        (feedline.Select("table", 1), "select of table: columns must be a list of at least one number (got 1)"),
        (feedline.Select("table", [True]), "select of table: a column: must be a whole number (got True)"),
        (feedline.Select("table", [1.0]), "select of table: a column: must be a whole number (got 1.0)"),
        (feedline.OneHot("whole", 10.0), "oneHot of whole: classes: must be a whole number (got 10.0)"),
        (feedline.Scale("whole", "2"), "scale of whole: by and offset must be finite numbers (got '2' and 0.0)"),
        (feedline.Cast("whole", "(2,"), "cast of whole: dtype must be one of numbers, such as float32 (got '(2,')"),
        (feedline.Cast("whole", None), "cast of whole: dtype must be one of numbers, such as float32 (got None)"),
        (feedline.Concat("x", "table"), "concat of x: name each array once"),
        (feedline.Select("table", [4]), "select of table: there is no column 4, only 0 to 3"),
        (feedline.Select("table", [-1]), "select of table: there is no column -1, only 0 to 3"),
        (feedline.Concat("x", ["table", "text"]), "concat of x: it takes numbers, text is str96"),
        (feedline.Concat("whole", ["table"]), "concat of whole: there is an array of that name already"),
        (feedline.Concat("x", ["table", "table"]), "concat of x: name each array once"),
        (
            feedline.Standardize("table", statistics(np.arange(30.0).reshape(10, 3))),
            "the statistics have shape [3], which does not fit rows of shape [4]",
        ),
        (
            feedline.Standardize("floats", statistics(np.arange(40.0).reshape(10, 4))),
            "the statistics have shape [4], which does not fit rows of shape []",
        ),
    ],
)
def test_what_it_does_not_take_is_one_sentence(transform, why):
    with pytest.raises(UsageError, match=re.escape(why)):
        transform.outputs(SPECS)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_named(label):
    labels = np.array([0, 1, label, 2] + [0] * 6)
    with pytest.raises(DataError, match=f"oneHot of x: {label} in row 102 is none of 3 classes"):
        applied(feedline.OneHot("x", 3), x=labels)


def test_what_are_no_statistics_is_one_sentence(tmp_path):
    path = tmp_path / "s.npz"

    def refused(error, why):
        with pytest.raises(error, match=re.escape(why)) as caught:
            feedline.Standardize("x", path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(InputMissingError, "cannot be read (No such file or directory): write it with feedline stats")
    path.write_bytes(b"mean")
    refused(DataError, "holds no mean and std")
    np.savez(path, mean=np.zeros(200), std=np.ones(200))
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refused(DataError, "holds no mean and std")
    for place in range(0, 600, 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with contextlib.suppress(DataError):
            feedline.Standardize("x", path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("mean.npy", bytes(65 << 20))
    refused(DataError, "mean has 68157440 bytes")
    np.savez(path, mean=np.zeros(0), std=np.zeros(0))
    refused(DataError, "mean holds no numbers")
    np.savez(path, mean=np.zeros(2, complex), std=np.ones(2))
    refused(DataError, "mean holds no numbers")
    np.savez(path, mean=np.zeros(2))
    refused(DataError, "holds no mean and std")
    np.savez(path, mean=np.zeros(2), std=np.array([{}], object))
    refused(DataError, "holds no mean and std")
    np.savez(path, mean=np.zeros(2), std=np.ones(3))
    refused(DataError, "mean has shape [2] and std [3]")
    np.savez(path, mean=np.zeros(2), std=[1, np.nan])
    refused(DataError, "mean or std is not finite")
    np.savez(path, mean=np.zeros(2), std=[1, -1])
    refused(DataError, "a standard deviation is negative")
    np.savez(path, mean=np.zeros(2), std=[1, 0])
    refused(DataError, "the standard deviation at [1] is 0, the same value in every row")


def test_a_value_that_is_not_finite_is_named():
    moments = Moments((2,), -1)
    moments.add(np.zeros((5, 2)))
    with pytest.raises(DataError, match="row 7 holds nan: correct it, or leave the row out"):
        moments.add(np.array([[0, 1], [2, 3], [0, np.nan]]))
    with pytest.raises(UsageError, match=re.escape("axis: rows of shape [2] have no axis 1")):
        Moments((2,), 1)
