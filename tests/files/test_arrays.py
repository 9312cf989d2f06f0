"""Opening `.npy` files: which files make which arrays, and that their rows come back as they were saved."""

import os
import pickle
import shutil
import warnings

import numpy as np
import pytest

import feedline
from feedline.errors import DataError, InputMissingError, UsageError

STRUCTURED = np.dtype([("when", "M8[ms]"), ("größe", "<f4", (2,)), ("kind", "S3")], align=True)

DTYPES = {
    **{name: np.arange(50).astype(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32")},
    **{name: np.arange(50).astype(name) for name in ("int64", "uint64", "float16", "float32", "float64", "longdouble")},
    "complex64": np.arange(50) * np.complex64(1 + 2j),
    "bool": np.arange(50) % 3 == 0,
    "bytes": np.array([f"row {number}" for number in range(50)], "S9"),
    "text": np.array([f"Zeile {number} ✓" for number in range(50)]),
    "dates": np.arange(50).astype("M8[D]"),
    "durations": np.arange(50).astype("m8[ns]"),
    "raw bytes": np.arange(150, dtype=np.uint8).view("V3"),
    "structured": np.array([(number, (number, -number), b"ab") for number in range(50)], STRUCTURED),
    "rows of one axis": np.arange(350.0).reshape(50, 7),
    "rows of three axes": np.arange(50 * 24).reshape(50, 2, 3, 4),
    "rows of length one": np.arange(50.0).reshape(50, 1, 1),
    "one column in Fortran order": np.asfortranarray(np.arange(50.0)),
}


@pytest.mark.parametrize("residency", ["mapped", "memory"])
@pytest.mark.parametrize("rows", DTYPES.values(), ids=DTYPES)
def test_rows_come_back_as_they_were_saved(save, rows, residency):
    with warnings.catch_warnings(action="ignore"):  # numpy's, on headers that an old numpy cannot read
        path = save("a", rows)
    array = feedline.open_arrays({"a": path}, residency=residency)["a"]
    assert (array.dtype, array.row_shape, array.rows) == (rows.dtype, rows.shape[1:], 50)
    back = array.read(10, 30)
    assert (back.dtype, back.shape) == (rows.dtype, rows[10:30].shape)
    assert (back == rows[10:30]).all()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)], ids=str)
def test_every_version_of_the_format_is_read(tmp_path, version):
    rows = np.arange(12.0).reshape(4, 3)
    with (tmp_path / "a.npy").open("wb") as file, warnings.catch_warnings(action="ignore"):
        np.lib.format.write_array(file, rows, version)
    assert feedline.open_arrays(tmp_path)["a"].read(0, 4).tolist() == rows.tolist()


def test_a_name_in_latin_1_is_read_as_numpy_wrote_it(save):
    array = feedline.open_arrays({"a": save("a", np.zeros(3, [("größe", "<f4")]))})["a"]
    assert array.dtype.names == ("größe",)


def test_a_file_of_python_2_numpy_order_of_keys_and_spaces_is_read(tmp_path):
    header = b"{'shape':(2,),   'descr':'<i2','fortran_order':False}\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\1\0\2\0")
    assert feedline.open_arrays(tmp_path)["a"].read(0, 2).tolist() == [1, 2]


@pytest.mark.parametrize("residency", ["mapped", "memory"])
def test_bytes_after_the_last_row_are_ignored(save, residency):
    path = save("a", np.arange(3))
    with path.open("ab") as file:
        file.write(b"trailer")
    assert feedline.open_arrays({"a": path}, residency=residency)["a"].read(0, 3).tolist() == [0, 1, 2]


def test_a_directory_is_its_files_and_folders_of_files(save, tmp_path):
    save("labels", np.arange(4))
    save("features/part-1", np.arange(3.0))
    save("features/part-2", np.arange(3.0, 4.0))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not data")
    arrays = feedline.open_arrays(tmp_path)
    assert {name: array.read(0, 4).tolist() for name, array in arrays.items()} == {
        "features": [0, 1, 2, 3],
        "labels": [0, 1, 2, 3],
    }


def test_hidden_files_are_not_data(save, tmp_path):
    save("parts/a", np.arange(2))
    shutil.copy(save("b", np.arange(2)), tmp_path / "._b.npy")
    (tmp_path / "parts" / "._a.npy").write_bytes(b"a resource fork")
    assert set(feedline.open_arrays(tmp_path)) == {"b", "parts"}
    assert feedline.open_arrays({"a": tmp_path / "parts" / "*.npy"}).rows == 2


def test_a_file_and_a_folder_of_the_same_name_are_refused(save, tmp_path):
    save("a", np.arange(2))
    save("a/part", np.arange(2))
    with pytest.raises(UsageError, match=r"both a\.npy and a/ would be named a"):
        feedline.open_arrays(tmp_path)


SOURCES = {
    "a pattern": lambda folder: f"{folder}/p/*.npy",
    "a narrower pattern": lambda folder: folder / "p" / "part-*.npy",
    "a list": lambda folder: [f"{folder}/p/part-{number}.npy" for number in (1, 2, 9, 10, 11)],
    "a list of a pattern": lambda folder: [folder / "p" / "*.npy"],
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_many_files_are_one_array_in_natural_order(save, tmp_path, source):
    for number, rows in zip((10, 1, 2, 11, 9), (4, 1, 2, 5, 3), strict=True):
        save(f"p/part-{number}", np.full((rows, 2), number))
    array = feedline.open_arrays({"a": source(tmp_path)})["a"]
    assert array.read(0, 15)[:, 0].tolist() == [1, 2, 2, *[9] * 3, *[10] * 4, *[11] * 5]


def test_a_list_keeps_its_own_order(save):
    paths = [save(f"part-{number}", np.array([number])) for number in (3, 1, 2)]
    assert feedline.open_arrays({"a": paths})["a"].read(0, 3).tolist() == [3, 1, 2]


@pytest.mark.parametrize("row_shape", [(), (3,), (300, 300, 3)], ids=["one element", "small", "above the scratch"])
def test_many_files_give_the_rows_of_one(save, row_shape):
    lengths = [1, 4, 2, 9]
    whole = np.random.default_rng(0).integers(0, 255, (sum(lengths), *row_shape)).astype(np.float64)
    cuts = np.split(whole, np.cumsum(lengths)[:-1])
    one = feedline.open_arrays({"a": save("whole", whole)})["a"]
    many = feedline.open_arrays({"a": [save(f"part-{number}", cut) for number, cut in enumerate(cuts)]})["a"]
    rows = np.array([15, 0, 7, 7, 1, 4, 5, 14, 3])
    taken = [np.empty((len(rows), one.row_bytes), np.uint8) for _ in (one, many)]
    one.take(rows, taken[0])
    many.take(rows, taken[1])
    assert taken[0].tobytes() == taken[1].tobytes() == whole[rows].tobytes()


RANGES = {
    "none": (None, range(30)),
    "a pair": ((5, 12), range(5, 12)),
    "an open pair": ((25, None), range(25, 30)),
    "a slice": (slice(3, 29), range(3, 29)),
    "an open slice": (slice(None, 4), range(4)),
    "within one file": ((11, 13), range(11, 13)),
    "from one file's start to its end": ((10, 20), range(10, 20)),
    "the last row": ((29, 30), range(29, 30)),
}


@pytest.mark.parametrize(("rows", "expected"), RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("residency", ["mapped", "memory"])
def test_a_range_of_rows_counts_over_all_files(save, rows, expected, residency):
    parts = [save(f"part-{number}", np.arange(10 * number, 10 * number + 10)) for number in range(3)]
    arrays = feedline.open_arrays({"a": parts, "b": save("b", np.arange(30.0))}, rows=rows, residency=residency)
    assert arrays.rows == len(expected)
    for array in arrays.values():
        assert array.read(0, arrays.rows).tolist() == list(expected)


BAD_RANGES = {
    "empty": ((5, 5), UsageError, "got start 5, stop 5"),
    "backwards": ((5, 2), UsageError, "got start 5, stop 2"),
    "negative": ((-5, None), UsageError, "got start -5"),
    "negative stop": (slice(0, -1), UsageError, "stop -1"),
    "a step": (slice(0, 10, 2), UsageError, "a step of 2"),
    "past the end": ((0, 31), DataError, "stop is 31, but the arrays have 30 rows"),
    "after the end": ((30, None), UsageError, "got start 30, stop 30"),
}


@pytest.mark.parametrize(("rows", "error", "told"), BAD_RANGES.values(), ids=BAD_RANGES)
def test_a_range_that_is_not_there_is_refused(save, rows, error, told):
    with pytest.raises(error, match=told):
        feedline.open_arrays({"a": save("a", np.arange(30))}, rows=rows)


def test_rows_in_memory_do_not_change_with_the_file(save):
    path = save("a", np.arange(10))
    arrays = feedline.open_arrays({"a": path}, residency="memory")
    save("a", np.zeros(10, int))
    os.truncate(path, 0)
    arrays.verify()
    assert arrays["a"].read(0, 10).tolist() == list(range(10))


def test_the_size_of_the_rows_is_told(numbered):
    assert numbered(100, rows=(0, 40)).bytes == 40 * (5 * 5 * 4 + 4 + 12)


def test_arrays_pickle_as_what_they_were_opened_with(numbered):
    arrays = numbered(20, rows=(5, 15), residency="memory")
    again = pickle.loads(pickle.dumps(arrays))
    assert list(again) == ["features", "labels", "names"]
    assert again["labels"].read(0, 10).tolist() == list(range(5, 15))
    assert len(pickle.dumps(arrays)) < 2000


def test_a_pickle_of_many_files_does_not_depend_on_files_that_came_later(save, tmp_path):
    save("p/1", np.arange(2))
    pickled = pickle.dumps(feedline.open_arrays({"a": tmp_path / "p" / "*.npy"}))
    save("p/2", np.arange(2))
    assert pickle.loads(pickled).rows == 2


CHANGES = {
    "a value in the first row": lambda features, labels: (np.concatenate([[[9.0]], features[1:]]), labels),
    "a value in the last row": lambda features, labels: (features, np.concatenate([labels[:-1], [7]])),
    "one row less": lambda features, labels: (features[:-1], labels[:-1]),
    "the shape": lambda features, labels: (features[:, 0], labels),
    "the dtype": lambda features, labels: (features, labels.astype(np.uint64)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_fingerprint_tells_other_rows(save, change):
    rows = np.zeros((30, 1)), np.zeros(30, int)

    def fingerprint(features, labels):
        paths = {"features": save("features", features), "labels": save("labels", labels)}
        return feedline.open_arrays(paths).fingerprint()

    assert fingerprint(*rows) == fingerprint(*rows)
    assert fingerprint(*rows) != fingerprint(*change(*rows))


def test_a_fingerprint_does_not_tell_how_rows_are_spread_over_files(save):
    whole = save("whole", np.arange(300))
    parts = [save(f"part-{number}", part) for number, part in enumerate(np.split(np.arange(300), [10, 100]))]
    assert feedline.open_arrays({"a": whole}).fingerprint() == feedline.open_arrays({"a": parts}).fingerprint()


NOT_SOURCES = {
    "a missing directory": (
        lambda folder: folder / "nowhere",
        InputMissingError,
        "nowhere: there is no such directory",
    ),
    "a file": (lambda folder: folder / "a.npy", InputMissingError, "pass a mapping"),
    "an empty directory": (lambda folder: folder / "empty", InputMissingError, "empty: holds no .npy files"),
    "no names": (lambda _: {}, InputMissingError, "at least one array"),
    "no files": (lambda _: {"a": []}, UsageError, r"a path or a list of paths \(got \[\]\)"),
    "nothing for a name": (lambda _: {"a": None}, UsageError, r"a path or a list of paths \(got None\)"),
    "nothing": (lambda _: None, UsageError, "a directory or a mapping"),
    "a pattern of nothing": (lambda folder: {"a": folder / "b*.npy"}, InputMissingError, r"b\*\.npy: no file matches"),
}


@pytest.mark.parametrize(("source", "error", "told"), NOT_SOURCES.values(), ids=NOT_SOURCES)
def test_what_is_no_source_is_refused(save, tmp_path, source, error, told):
    save("a", np.arange(3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=told):
        feedline.open_arrays(source(tmp_path))


def test_an_unknown_residency_is_refused(save):
    with pytest.raises(UsageError, match="residency: must be auto, mapped, read or memory"):
        feedline.open_arrays({"a": save("a", np.arange(3))}, residency="disk")
