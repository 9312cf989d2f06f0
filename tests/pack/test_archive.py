"""`feedline pack` over `.npz`: each array becomes a file, as it is."""

import io
import struct
import zipfile

import numpy as np
import pytest

from feedline.errors import DataError, UsageError
from feedline.pack import pack


def loaded(folder, name):
    return np.load(folder / f"{name}.npy", allow_pickle=False)


def array_bytes(array, **keywords):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **keywords)
    return buffer.getvalue()


def test_each_array_of_an_archive_becomes_a_file(tmp_path):
    arrays = {
        "x": np.arange(24, dtype=np.float64).reshape(2, 3, 4),
        "fortran": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(4, 3, 2)),
        "big": np.arange(5, dtype=">i4"),
        "names": np.array(["a", "bcd"]),
        "scalar": np.float32(3.5),
        "empty": np.zeros((0, 3), np.uint8),
        "pairs": np.array([(1, 2.5)], dtype=[("a", ">i2"), ("b", "<f8")]),
    }
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    for source in ("plain", "small"):
        pack([tmp_path / f"{source}.npz"], tmp_path / source)

        for name, array in arrays.items():
            packed = loaded(tmp_path / source, name)
            np.testing.assert_array_equal(packed, array)
            assert packed.dtype == array.dtype.newbyteorder("=")
            assert packed.flags.c_contiguous
        assert {path.stem for path in (tmp_path / source).iterdir()} == arrays.keys()


def test_an_array_larger_than_a_block_comes_out_whole(tmp_path):
    array = np.arange(900_001, dtype=">u4").reshape(-1, 1) * np.uint32([1, 3])
    np.savez_compressed(tmp_path / "t.npz", c=array, fortran=np.asfortranarray(array))
    pack([tmp_path / "t.npz"], tmp_path / "out")

    np.testing.assert_array_equal(loaded(tmp_path / "out", "c"), array)
    np.testing.assert_array_equal(loaded(tmp_path / "out", "fortran"), array)


def test_several_archives_are_read_as_one(tmp_path):
    for name, rows in (("a", 2), ("b", 3)):
        np.savez(tmp_path / f"{name}.npz", x=np.full((rows, 2), rows), y=np.arange(rows, dtype=np.int8))
    pack([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "out")

    assert loaded(tmp_path / "out", "x").tolist() == [[2, 2]] * 2 + [[3, 3]] * 3
    assert loaded(tmp_path / "out", "y").tolist() == [0, 1, 0, 1, 2]


def header(shape, descr="<f8"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("x.npy", array_bytes(np.array([{}, None])), "holds Python objects", id="objects"),
        pytest.param("x.npy", header("(1000000000000,)") + b"12345678", "not what its header says", id="giant"),
        pytest.param("x.npy", header("(-1, -1)") + b"12345678", "not what its header says", id="negative"),
        pytest.param("x.npy", header("(2,)") + b"12345678", "not what its header says", id="too short"),
        pytest.param("x.npy", b"no array", "is no .npy array", id="no array"),
        pytest.param("x.npy", b"", "is no .npy array", id="empty"),
        pytest.param("x.npy", b"\x93NUMPY\x07\x00", "is no .npy array, or damaged", id="version"),
        pytest.param("../x.npy", array_bytes(np.zeros(2)), "is no name for a file", id="a name that leads out"),
        pytest.param("/x.npy", array_bytes(np.zeros(2)), "is no name for a file", id="an absolute name"),
        pytest.param(".x.npy", array_bytes(np.zeros(2)), "is no name for a file", id="a hidden name"),
    ],
)
def test_a_bad_member_is_refused_and_leaves_nothing(tmp_path, name, content, message):
    with zipfile.ZipFile(tmp_path / "t.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.npy", array_bytes(np.zeros(2)))
        archive.writestr(name, content)
    with pytest.raises(DataError) as caught:
        pack([tmp_path / "t.npz"], tmp_path / "out")

    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [pytest.param(slice(-30, None), id="cut"), pytest.param(slice(0, 0), id="empty")])
def test_an_archive_cut_short_is_told_so(tmp_path, damage):
    np.savez(tmp_path / "t.npz", x=np.arange(1000))
    content = (tmp_path / "t.npz").read_bytes()
    (tmp_path / "t.npz").write_bytes(content[: damage.start])
    with pytest.raises(DataError, match=r"is no \.npz archive, or damaged"):
        pack([tmp_path / "t.npz"], tmp_path / "out")


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros(100_000))
    content = bytearray((tmp_path / "t.npz").read_bytes())
    content[5000] ^= 1
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        pack([tmp_path / "t.npz"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archives_that_do_not_continue_each_other_are_not_mixed(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)))
    np.savez(tmp_path / "b.npz", x=np.zeros((2, 4)))
    with pytest.raises(DataError, match="does not continue"):
        pack([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "out")


def test_options_for_tables_are_refused_for_archives(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros(3))
    with pytest.raises(UsageError, match=r"--shuffle-seed does not go with \.npz archives"):
        pack([tmp_path / "t.npz"], tmp_path / "out", shuffle_seed=1)


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(np.dtype([(f"field_{number:04}", "<f4") for number in range(600)]), id="above 10,000 characters"),
        pytest.param(np.dtype([("größe", "<f4"), ("данные", "<i4")]), id="version 3.0"),
    ],
)
def test_a_member_with_an_unusual_header_is_read(tmp_path, dtype):
    array = np.zeros(3, dtype)
    array[dtype.names[0]] = [1, 2, 3]
    np.savez(tmp_path / "t.npz", array=array)
    pack([tmp_path / "t.npz"], tmp_path / "out")

    read = np.load(tmp_path / "out" / "array.npy", max_header_size=1 << 20)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array)
