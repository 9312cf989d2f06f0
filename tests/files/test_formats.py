"""Arrays in files that are no `.npy`: the same rows as from one, and one sentence where they cannot be mapped."""

import contextlib
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import feedline
from feedline import Stored
from feedline.errors import DataError, FeedlineError, InputMissingError

ROWS = 300


def rows(dtype="float32", shape=(7, 3)):
    return np.arange(ROWS * int(np.prod(shape))).reshape(ROWS, *shape).astype(dtype)


def as_npy(path, array):
    np.save(path, array)
    return path


def as_raw(path, array, offset=12):
    path.write_bytes(b"x" * offset + array.tobytes())
    return Stored(path, format="Raw", dtype=array.dtype.str, shape=array.shape[1:], offset=offset)


def as_npz(path, array):
    np.savez(path, other=np.zeros(3), features=array)
    return Stored(f"{path}.npz", member="features")


def as_hdf5(path, array):
    with h5py.File(path, "w", userblock_size=512) as file:
        file["other"] = np.zeros(3)
        file["group/features"] = array
    return Stored(path, format="Hdf5", member="/group/features")


def as_safetensors(path, array):
    save_file({"other": np.zeros(3, np.int8), "features": array}, f"{path}.safetensors")
    return Stored(f"{path}.safetensors", member="features")


WRITERS = {"raw": as_raw, "npz": as_npz, "hdf5": as_hdf5, "safetensors": as_safetensors}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """Return a function that writes an array in a format, and the name of the format."""
    return lambda array, name="features": WRITERS[request.param](tmp_path / name, array)


@pytest.mark.parametrize("residency", ["auto", "mapped", "read", "memory"])
@pytest.mark.parametrize("shuffle", ["full", "block", "none"])
def test_a_feed_gives_the_same_batches_as_from_npy_files(written, tmp_path, residency, shuffle):
    options = {"block_rows": 5, "window": 4} if shuffle == "block" else {}
    batches = {}
    for name, source in (("npy", as_npy(tmp_path / "a.npy", rows())), ("other", written(rows()))):
        arrays = feedline.open_arrays({"features": source}, residency=residency)
        assert (arrays.rows, arrays["features"].row_shape, arrays["features"].dtype) == (ROWS, (7, 3), np.float32)
        with feedline.Feed(arrays, 32, shuffle=shuffle, seed=3, **options) as feed:
            batches[name] = [batch["features"].copy() for _ in range(2) for batch in feed]
    np.testing.assert_array_equal(batches["other"], batches["npy"])


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "bool", "float64"])
def test_every_dtype_comes_as_it_is(written, dtype):
    array = rows(dtype, (5,))
    arrays = feedline.open_arrays({"features": written(array)}, rows=(10, 200))
    np.testing.assert_array_equal(arrays["features"].read(0, 190), array[10:200])


def test_a_run_goes_on_from_its_state_in_another_process(written):
    arrays = feedline.open_arrays({"features": written(rows())})
    with feedline.Feed(arrays, 16, seed=1) as feed:
        epoch = iter(feed)
        for _ in range(5):
            next(epoch)
        state = json.loads(json.dumps(feed.state()))
        rest = [batch["features"].copy() for batch in epoch]
    again = pickle.loads(pickle.dumps(arrays))
    with feedline.Feed(again, 16, seed=1, state=state) as feed:
        np.testing.assert_array_equal([batch["features"].copy() for batch in feed], rest)


def test_several_files_are_one_array_and_go_with_npy_files(tmp_path):
    whole = rows("uint16", (4,))
    for number, part in enumerate(np.split(whole, 3)):
        as_raw(tmp_path / f"train-{number}.bin", part, offset=0)
    raw = Stored(tmp_path / "train-*.bin", format="Raw", dtype="uint16", shape=[4])
    labels = as_npy(tmp_path / "labels.npy", np.arange(ROWS))
    arrays = feedline.open_arrays({"tokens": raw, "labels": labels})
    with feedline.Feed(arrays, 50, seed=2) as feed:
        for batch in feed:
            np.testing.assert_array_equal(batch["tokens"], whole[batch["labels"]])


@pytest.mark.parametrize(
    "array",
    [
        rows("complex64", (2,)),
        rows("int16", (3,)).view([("a", "i2"), ("b", "i2"), ("c", "i2")]).reshape(ROWS),
        np.array([f"row {row}" for row in range(ROWS)], "S8"),
    ],
    ids=["complex", "compound", "text"],
)
def test_hdf5_types_that_numpy_has_come_as_they_are(tmp_path, array):
    found = feedline.open_arrays({"features": as_hdf5(tmp_path / "a", array)})["features"]
    np.testing.assert_array_equal(found.read(0, ROWS), array)


def test_hdf5_arrays_of_arrays_and_links_are_what_they_lead_to(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (ROWS,), np.dtype(("<f4", (3,))))[...] = rows("float32", (3,))
        file["hard"] = file["x"]
        file["soft"] = h5py.SoftLink("/x")
    for member in ("x", "hard", "soft"):
        found = feedline.open_arrays({"x": Stored(tmp_path / "a.h5", member=member)})["x"]
        np.testing.assert_array_equal(found.read(0, ROWS), rows("float32", (3,)))


def test_a_file_that_is_replaced_while_it_is_opened_is_the_one_that_was_opened(tmp_path, monkeypatch):
    source, other = as_npz(tmp_path / "a", rows()), as_npz(tmp_path / "b", rows("uint8", (1,)))
    real = zipfile.ZipFile

    def replacing(*arguments):
        if Path(other.path).exists():
            Path(other.path).replace(source.path)
        return real(*arguments)

    monkeypatch.setattr(zipfile, "ZipFile", replacing)
    np.testing.assert_array_equal(feedline.open_arrays({"x": source})["x"].read(0, ROWS), rows())


def test_the_only_member_needs_no_name(tmp_path):
    np.savez(tmp_path / "one.npz", x=rows())
    np.testing.assert_array_equal(feedline.open_arrays({"x": tmp_path / "one.npz"})["x"].read(0, ROWS), rows())


@given(offset=st.integers(0, 70), count=st.integers(1, 40), width=st.integers(1, 9), bits=st.sampled_from([8, 16, 64]))
def test_raw_rows_may_begin_at_any_byte(tmp_path_factory, offset, count, width, bits):
    path = tmp_path_factory.mktemp("raw") / "a.bin"
    array = np.arange(count * width).reshape(count, width).astype(f"int{bits}")
    arrays = feedline.open_arrays({"a": as_raw(path, array, offset)})
    with feedline.Feed(arrays, 1, shuffle="none", last_batch="keep") as feed:
        np.testing.assert_array_equal(np.concatenate([batch["a"] for batch in feed]), array)


def test_a_file_that_is_cut_short_ends_in_a_sentence(written):
    source = written(rows())
    arrays = feedline.open_arrays({"features": source})
    os.truncate(source.path, 2000)
    with feedline.Feed(arrays, 16) as feed, pytest.raises(FeedlineError, match="was cut short"):
        list(feed)


# --- what cannot be -------------------------------------------------------------------------------------------------


def raw(path, **said):
    path.write_bytes(bytes(1000))
    return Stored(path, **{"format": "Raw", "dtype": "float32", **said})


def npz(path, save=np.savez_compressed, **said):
    save(path, x=rows())
    return Stored(f"{path}.npz", **said)


def objects(path):
    np.savez(path, x=np.array([{}, []], object))
    return Stored(f"{path}.npz")


def fortran(path):
    np.savez(path, x=np.asfortranarray(rows("float32", (4,))))
    return Stored(f"{path}.npz")


def damaged(path):
    source = npz(path, np.savez)
    content = Path(source.path).read_bytes()
    Path(source.path).write_bytes(b"oops" + content[4:])
    return source


def patched(path, place, content, at=b"PK\3\4", central=None):
    """Write other bytes into the local header of the only member, and into its entry of the directory."""
    source = npz(path, np.savez)
    whole = bytearray(Path(source.path).read_bytes())
    for magic, where in ((at, place), *([(b"PK\1\2", central)] if central is not None else [])):
        begin = whole.rfind(magic) + where
        whole[begin : begin + len(content)] = content
    Path(source.path).write_bytes(whole)
    return source


def zip64(path, offset):
    """Write an archive whose directory says that its member begins at a byte of 64 bits."""
    source = npz(path, np.savez)
    whole = bytearray(Path(source.path).read_bytes())
    entry = whole.rfind(b"PK\1\2")
    name_length, extra_length = struct.unpack_from("<HH", whole, entry + 28)
    struct.pack_into("<I", whole, entry + 42, 0xFFFFFFFF)
    extra = struct.pack("<HHQ", 1, 8, offset)
    end = entry + 46 + name_length
    whole[end : end + extra_length] = extra
    struct.pack_into("<H", whole, entry + 30, len(extra))
    directory = whole.rfind(b"PK\5\6")
    struct.pack_into("<I", whole, directory + 12, directory - entry)
    Path(source.path).write_bytes(whole)
    return source


def text(path):
    with zipfile.ZipFile(f"{path}.npz", "w") as archive:
        archive.writestr("readme", "no array")
    return Stored(f"{path}.npz")


def linked(path):
    other = hdf5(path.with_name("other.h5"), lambda file: file.create_dataset("x", data=rows()))
    return hdf5(path, lambda file: file.__setitem__("x", h5py.ExternalLink(other.path, "x")), "x")


def hdf5(path, make, member=None):
    with h5py.File(path, "w") as file:
        make(file)
    return Stored(path, format="Hdf5", member=member)


def tensors(path, header, content=b"\0" * 64):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content)
    return Stored(path, format="Safetensors")


def tensor(dtype="F32", shape=(4, 4), offsets=(0, 64)):
    return {"__metadata__": {}, "x": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


def chunked(file, **options):
    file.create_dataset("x", data=rows(), **{"chunks": (10, 7, 3), **options})


def of_type(file, kind, data):
    """Make a dataset of a type that h5py itself would not write."""
    space = h5py.h5s.create_simple((len(data),))
    dataset = h5py.h5d.create(file.id, b"x", kind, space)
    with contextlib.suppress(TypeError, OSError):
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data, mtype=kind)


def half_floats(file):
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    of_type(file, kind, np.arange(4, dtype=np.uint16))


def shifted(file):
    kind = h5py.h5t.STD_U16LE.copy()
    kind.set_precision(12)
    kind.set_offset(4)
    of_type(file, kind, np.arange(4, dtype=np.uint16))


def padded(file):
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(6)
    kind.set_strpad(h5py.h5t.STR_SPACEPAD)
    of_type(file, kind, np.array([b"ab    "] * 4, "S6"))


def tagged(file, tag):
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(tag)
    of_type(file, kind, np.zeros(4, "V8"))


def external(file):
    file.create_dataset("x", shape=(4,), dtype="f4", external=[("elsewhere.bin", 0, 16)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("x", layout)


REFUSED = {
    "raw, not whole rows": (lambda path: raw(path, shape=(7,)), r"no multiple of a row of 28 bytes .*20 are left over"),
    "raw, no row": (lambda path: raw(path, offset=998), r"no row of 4 bytes \(float32\) from byte 998 on"),
    "raw, big-endian": (lambda path: raw(path, dtype=">f4"), "is big-endian"),
    "raw, no dtype": (lambda path: raw(path, dtype=None), "format Raw needs dtype"),
    "raw, an unknown dtype": (lambda path: raw(path, dtype="float31"), "'float31' is no dtype"),
    "raw, objects": (lambda path: raw(path, dtype="O"), "cannot be read from a file"),
    "raw, a shape of nothing": (lambda path: raw(path, shape=(0,)), "lengths of at least 1"),
    "raw, a .npy file": (
        lambda path: np.save(f"{path}.npy", rows()) or Stored(f"{path}.npy", format="Raw", dtype="uint8"),
        "is a .npy file, whose header would become rows",
    ),
    "raw, no integers": (lambda path: raw(path, shape=(1.5,)), "shape must be integers"),
    "no path": (lambda path: Stored(5), "path: must be a path"),
    "a member of a pattern": (
        lambda path: Stored(path.with_name("a.n*"), member="x"),
        "the pattern tells none: give format",
    ),
    "raw, a negative offset": (lambda path: raw(path, offset=-4), "offset must be at least 0"),
    "a dtype of what says it itself": (lambda path: npz(path, dtype="f4"), "are of format Raw; Npz says them itself"),
    "a member of what has none": (lambda path: raw(path, member="x"), "a member is of format Npz, Hdf5 or Safetensors"),
    "an unknown format": (lambda path: raw(path, format="Zarr"), "format must be one of Npy, Raw, Npz"),
    "npz, compressed": (npz, r"x: is compressed.*feedline pack .*\.npz FOLDER"),
    "npz, no such member": (lambda path: npz(path, np.savez, member="y"), "has no y, but x"),
    "npz, which member": (
        lambda path: as_npz(path, rows()).path and Stored(f"{path}.npz"),
        "holds features, other: say",
    ),
    "npz, objects": (objects, "x: holds Python objects"),
    "npz, in Fortran order": (fortran, "x: is in Fortran order"),
    "npz, damaged": (damaged, "is damaged|damaged one"),
    "npz, encrypted": (lambda path: patched(path, 6, b"\1\0", at=b"PK\3\4", central=8), "is encrypted"),
    "npz, beyond the file": (lambda path: zip64(path, 2**64 - 16), "is damaged where it begins|damaged one"),
    "npz, a local header that is too long": (lambda path: patched(path, 28, b"\xff\xff"), "is damaged where it begins"),
    "npz, no array in it": (text, "readme: this is no .npy"),
    "hdf5, in chunks": (lambda path: hdf5(path, chunked), r"x: lies in chunks of \[10, 7, 3\].*feedline pack"),
    "hdf5, compressed": (
        lambda path: hdf5(path, lambda file: chunked(file, compression="gzip")),
        "in chunks and compressed by gzip",
    ),
    "hdf5, strings": (
        lambda path: hdf5(path, lambda file: file.create_dataset("x", data=["a", "bc"])),
        "x: is not of numbers, or fixed-width text",
    ),
    "hdf5, floats that numpy has not": (lambda path: hdf5(path, half_floats), "is not of numbers"),
    "hdf5, bits that are shifted": (lambda path: hdf5(path, shifted), "is not of numbers"),
    "hdf5, text padded by spaces": (lambda path: hdf5(path, padded), "is not of numbers"),
    "hdf5, a tag that would end numpy": (
        lambda path: hdf5(path, lambda file: tagged(file, b"NUMPY:M8[7D/0]")),
        "is not of",
    ),
    "hdf5, a tag of nothing": (
        lambda path: hdf5(path, lambda file: tagged(file, b"NUMPY:nonsense")),
        "is not of numbers",
    ),
    "hdf5, references": (
        lambda path: hdf5(path, lambda file: file.create_dataset("x", (3,), h5py.ref_dtype)),
        "is not of numbers",
    ),
    "hdf5, no space": (
        lambda path: hdf5(path, lambda file: file.create_dataset("x", data=h5py.Empty("f4"))),
        "is not of",
    ),
    "hdf5, big-endian": (
        lambda path: hdf5(path, lambda file: file.create_dataset("x", data=rows(">f4"))),
        r"is big-endian.*feedline pack",
    ),
    "hdf5, a group": (
        lambda path: hdf5(path, lambda file: file.create_group("g/x"), "g"),
        "has no dataset g, but nothing",
    ),
    "hdf5, a link to another file": (linked, r"lies in another file, .*other\.h5: name that one"),
    "hdf5, never written": (
        lambda path: hdf5(path, lambda file: file.create_dataset("x", (4,), "f4")),
        "was never written to",
    ),
    "hdf5, elsewhere": (lambda path: hdf5(path, external), r"lies in other files \(elsewhere.bin\)"),
    "hdf5, a view": (lambda path: hdf5(path, virtual), "is a view of datasets in other files"),
    "hdf5, a single value": (
        lambda path: hdf5(path, lambda file: file.create_dataset("x", data=1.0)),
        "a single value",
    ),
    "hdf5, no such dataset": (
        lambda path: hdf5(path, lambda file: file.create_dataset("g/x", data=rows()), "g/y"),
        "has no dataset g/y, but g/x",
    ),
    "hdf5, none at all": (lambda path: hdf5(path, lambda file: None), "holds nothing"),
    "hdf5, something else": (
        lambda path: path.write_bytes(b"x" * 99) and Stored(path, format="Hdf5"),
        "is no HDF5 file, or damaged",
    ),
    "safetensors, cut short": (lambda path: tensors(path, tensor(), b"\0" * 32), "the bytes of 'x' are not there"),
    "safetensors, something else": (
        lambda path: path.write_bytes(b"x" * 99) and Stored(path, format="Safetensors"),
        "no safetensors file",
    ),
    "safetensors, no JSON": (lambda path: tensors(path, b"{{{{"), "cannot be read"),
    "safetensors, a list": (lambda path: tensors(path, b"[]"), "cannot be read"),
    "safetensors, no offsets": (
        lambda path: tensors(path, {"x": {"dtype": "F32"}}),
        "its header is damaged at 'x'",
    ),
    "safetensors, forged": (lambda path: tensors(path, tensor(shape=(4, 5))), "the bytes of 'x' are not there"),
    "safetensors, fewer": (lambda path: tensors(path, tensor(shape=(4, 2))), "the bytes of 'x' are not there"),
    "safetensors, negative": (lambda path: tensors(path, tensor(offsets=(-8, 56))), "its header is damaged at 'x'"),
    "safetensors, a dtype that is a list": (
        lambda path: tensors(path, {"x": {"dtype": [], "shape": [4], "data_offsets": [0, 64]}}),
        "its header is damaged at 'x'",
    ),
    "safetensors, a name of many letters": (
        lambda path: tensors(path, {"y" * 10_000 + "\n": {}, "z": {}}),
        r"holds y{79}…, z: say which",
    ),
    "safetensors, bfloat16": (lambda path: tensors(path, tensor("BF16", (4, 8))), "is of dtype bfloat16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_mapped_is_one_sentence(case, tmp_path):
    make, told = REFUSED[case]
    with pytest.raises(FeedlineError, match=told) as caught:
        feedline.open_arrays({"x": make(tmp_path / "file")})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "probably"),
    [(b"\x89HDF\r\n", "HDF5"), (b"PAR1", "Parquet"), (b"\x1f\x8b", "gzip"), (b"123", "format Raw")],
)
def test_what_a_file_probably_is_is_said(tmp_path, content, probably):
    (tmp_path / "a.npy").write_bytes(content + bytes(100))
    with pytest.raises(FeedlineError, match=f"no .npy file.*{probably}"):
        feedline.open_arrays({"a": tmp_path / "a.npy"})


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Return the bytes of a file of each format whose header is read here: that of HDF5 is h5py's to read."""
    folder = tmp_path_factory.mktemp("good")
    sources = {name: WRITERS[name](folder / "a", rows()[:4]) for name in ("npz", "safetensors")}
    return folder, {
        name: (Path(source.path).suffix, Path(source.path).read_bytes()) for name, source in sources.items()
    }


@given(
    kind=st.sampled_from(["npz", "safetensors"]),
    at=st.integers(0, 3000),
    content=st.binary(min_size=1, max_size=8),
    end=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_a_forged_file_gives_rows_or_a_sentence(good, kind, at, content, end):
    folder, files = good
    suffix, whole = files[kind]
    at %= len(whole)
    path = folder / f"forged{suffix}"
    path.write_bytes((whole[:at] + content + whole[at + len(content) :])[:end])
    with contextlib.suppress(DataError, InputMissingError):
        array = feedline.open_arrays({"x": Stored(path, member="features")})["x"]
        assert array.read(0, array.rows).nbytes == array.bytes
