"""HDF5 files become `.npy` files, whatever way their datasets lie; what cannot be is one sentence, and leaves nothing."""

import shlex

import h5py
import numpy as np
import pytest

import feedline
from feedline.errors import FeedlineError
from feedline.pack import datasets, pack

ROWS = np.arange(500 * 6, dtype=np.float32).reshape(500, 2, 3)


def written(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, made in datasets.items():
            make = made if callable(made) else (lambda group, made=made: group.create_dataset("x", data=made))
            make(file.create_group(name))
    return path


LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (7, 2, 3)},
    "compressed": {"chunks": (7, 2, 3), "compression": "gzip", "shuffle": True},
    "resizable": {"maxshape": (None, 2, 3)},
    "big-endian": {"dtype": ">f4"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_however_a_dataset_lies_its_rows_are_the_same(tmp_path, layout):
    path = written(tmp_path / "a.h5", g=lambda group: group.create_dataset("x", data=ROWS, **LAYOUTS[layout]))
    packed = pack([path], tmp_path / "out")
    assert [(file.path.name, file.shape) for file in packed.files] == [("g.x.npy", (500, 2, 3))]
    arrays = feedline.open_arrays(tmp_path / "out")
    np.testing.assert_array_equal(arrays["g.x"].read(0, 500), ROWS)


def test_several_files_are_one_array(tmp_path):
    paths = [written(tmp_path / f"{number}.hdf5", g=part) for number, part in enumerate(np.split(ROWS, 2))]
    pack(paths, tmp_path / "out")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "g.x.npy"), ROWS)


def test_text_of_any_length_is_left_out_and_said(tmp_path):
    path = written(tmp_path / "a.h5", g=ROWS, names=["a", "bc"])
    packed = pack([path], tmp_path / "out", dry_run=True)
    assert packed.said == (f"names/x in {path} is no numbers or fixed-width text, and was left out.",)
    assert [file.path.name for file in packed.files] == ["g.x.npy"]
    assert not (tmp_path / "out").exists()


def view():
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("not-there.h5", "x", (4,))
    return layout


def test_long_narrow_chunks_are_not_read_as_whole_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "_MOST_BYTES", 600)
    path = written(tmp_path / "a.h5", g=lambda group: group.create_dataset("x", data=ROWS, chunks=(500, 1, 1)))
    (found,) = datasets.members([path])[0]["g.x"]
    assert found.rows == 25
    pack([path], tmp_path / "out")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "g.x.npy"), ROWS)


@pytest.mark.filterwarnings("error")
def test_enums_booleans_text_and_arrays_of_arrays_are_plain_npy_files(tmp_path):
    made = {
        "flag": np.arange(6) % 2 == 0,
        "text": np.array([b"ab", b"c"]),
        "enum": lambda group: group.create_dataset("x", data=[0, 1], dtype=h5py.enum_dtype({"A": 0, "B": 1}, "u1")),
        "array": lambda group: group.create_dataset("x", shape=(5,), dtype=np.dtype(("<f4", (3,)))),
    }
    pack([written(tmp_path / "a.h5", **made)], tmp_path / "out")
    found = {path.stem: np.load(path) for path in (tmp_path / "out").glob("*.npy")}
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == {
        "flag.x": (np.dtype(bool), (6,)),
        "text.x": (np.dtype("S2"), (2,)),
        "enum.x": (np.dtype("u1"), (2,)),
        "array.x": (np.dtype("f4"), (5, 3)),
    }
    np.testing.assert_array_equal(found["text.x"], [b"ab", b"c"])


@pytest.mark.parametrize("layout", ["chunked", "compressed", "big-endian"])
def test_what_a_refusal_says_works(tmp_path, layout):
    path = written(tmp_path / "a b.h5", g=lambda group: group.create_dataset("x", data=ROWS, **LAYOUTS[layout]))
    with pytest.raises(FeedlineError) as refused:
        feedline.open_arrays({"x": path})
    command = shlex.split(str(refused.value).partition("`")[2].partition("`")[0])
    assert command[:2] == ["feedline", "pack"]
    pack(command[2:3], tmp_path / "out")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "g.x.npy"), ROWS)


def damaged(path):
    written(path, g=lambda group: group.create_dataset("x", data=ROWS, chunks=(50, 2, 3), compression="gzip"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = b"\0" * (len(content) - len(content) // 2)
    path.write_bytes(content)


REFUSED = {
    "no HDF5": (lambda path: path.write_bytes(b"x" * 100), "is no HDF5 file, or damaged"),
    "damaged": (damaged, "is no HDF5 file, or damaged"),
    "in other files": (
        lambda path: written(
            path, g=lambda group: group.create_dataset("x", (4,), "f4", external=[("/etc/hosts", 0, 16)])
        ),
        "g/x lies in other files",
    ),
    "a view of others": (
        lambda path: written(path, g=lambda group: group.create_virtual_dataset("x", view())),
        "g/x lies in other files",
    ),
    "no space": (
        lambda path: written(path, g=lambda group: group.create_dataset("x", data=h5py.Empty("f4"))),
        "holds no",
    ),
    "nothing in it": (lambda path: written(path, g=lambda group: None), "holds no datasets of numbers"),
    "text alone": (lambda path: written(path, g=["a", "b"]), "holds no datasets of numbers"),
    "two of one name": (
        lambda path: written(path, **{"a.b": ROWS, "a": lambda group: group.create_dataset("b.x", data=ROWS)}),
        "is no name for a file: rename that dataset",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_packed_is_one_sentence_and_leaves_nothing(case, tmp_path):
    make, told = REFUSED[case]
    make(tmp_path / "a.h5")
    with pytest.raises(FeedlineError, match=told) as caught:
        pack([tmp_path / "a.h5"], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_go_together_are_refused(tmp_path):
    one, other = written(tmp_path / "a.h5", g=ROWS), written(tmp_path / "b.h5", g=ROWS[:, :1])
    with pytest.raises(FeedlineError, match=r"g/x does not continue that of .*a\.h5"):
        pack([one, other], tmp_path / "out")
    third = written(tmp_path / "c.h5", h=ROWS)
    with pytest.raises(FeedlineError, match="have other names than those of"):
        pack([one, third], tmp_path / "out")
