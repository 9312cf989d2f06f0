"""Which files make an array, whether they go together, and what in them is not read."""

import logging
import resource
import subprocess
import sys

import numpy as np
import pytest

import feedline
from feedline.errors import DataError, InputMissingError


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def labels(arrays, name="labels"):
    return arrays[name].read(0, arrays.rows).tolist()


def test_only_a_star_stands_for_other_characters(tmp_path):
    """In a shell's patterns, [1] would be any character of a set: another file than the one that is named."""
    save(tmp_path / "run1-0.npy", [9, 9])
    save(tmp_path / "run[1]-0.npy", [1])
    save(tmp_path / "run[1]-1.npy", [2])

    assert labels(feedline.open_arrays({"labels": tmp_path / "run[1]-*.npy"})) == [1, 2]
    assert labels(feedline.open_arrays({"labels": tmp_path / "run[1]-0.npy"})) == [1]


@pytest.mark.parametrize("pattern", ["q?-*.npy", "[!x]*.npy", "{a,b}*.npy", "**.npz"])
def test_what_else_a_shell_knows_matches_nothing(tmp_path, pattern):
    save(tmp_path / "q1-0.npy", [1])
    with pytest.raises(InputMissingError, match="no file matches"):
        feedline.open_arrays({"labels": tmp_path / pattern})


def test_names_that_tie_as_numbers_have_an_order_all_the_same(tmp_path):
    for name, value in (("p1", 1), ("p01", 0), ("p001", -1), ("p2", 2)):
        save(tmp_path / f"{name}.npy", [value])

    assert labels(feedline.open_arrays({"labels": tmp_path / "p*.npy"})) == [-1, 0, 1, 2]


def test_files_of_two_arrays_have_the_same_rows_one_by_one(tmp_path):
    for number, (features, targets) in enumerate([(3, 2), (2, 3)]):
        save(tmp_path / "features" / f"{number}.npy", np.zeros((features, 4)))
        save(tmp_path / "labels" / f"{number}.npy", np.zeros(targets))

    with pytest.raises(DataError, match=r"labels/0\.npy: has 2 rows where \S+/features/0\.npy has 3"):
        feedline.open_arrays(tmp_path)


def test_arrays_of_several_files_have_as_many_each(tmp_path):
    for number in range(3):
        save(tmp_path / "features" / f"{number}.npy", np.zeros((2, 4)))
    for number in range(2):
        save(tmp_path / "labels" / f"{number}.npy", np.zeros(3))

    with pytest.raises(DataError, match="features has 3 files and labels has 2"):
        feedline.open_arrays(tmp_path)


def test_one_file_beside_several_is_fine(tmp_path):
    for number in range(3):
        save(tmp_path / "features" / f"{number}.npy", np.zeros((2, 4)))
    save(tmp_path / "labels.npy", np.arange(6))

    assert labels(feedline.open_arrays(tmp_path)) == [0, 1, 2, 3, 4, 5]


def test_a_shard_that_is_missing_in_one_array_is_noticed(tmp_path):
    for number in (0, 1, 3):
        save(tmp_path / f"features-{number}.npy", np.zeros((2, 4)))
    for number in (0, 1, 2):
        save(tmp_path / f"labels-{number}.npy", np.zeros(2))

    with pytest.raises(DataError, match=r"labels-2\.npy: stands where \S+/features-3\.npy stands"):
        feedline.open_arrays({"features": tmp_path / "features-*.npy", "labels": tmp_path / "labels-*.npy"})


def test_shards_that_are_numbered_otherwise_go_together(tmp_path):
    for number in range(3):
        save(tmp_path / f"features-{number:04}.npy", np.zeros((2, 4)))
        save(tmp_path / f"labels-{number}-of-3.npy", np.full(2, number))

    arrays = feedline.open_arrays({"features": tmp_path / "features-*.npy", "labels": tmp_path / "labels-*.npy"})
    assert labels(arrays) == [0, 0, 1, 1, 2, 2]


def test_what_lies_behind_the_last_row_is_told_once(tmp_path, caplog):
    with (tmp_path / "labels.npy").open("wb") as file:
        np.save(file, np.arange(3))
        np.save(file, np.arange(5))
    with caplog.at_level(logging.WARNING, "feedline"):
        assert labels(feedline.open_arrays(tmp_path)) == [0, 1, 2]

    [record] = caplog.records
    assert record.getMessage() == (
        f"{tmp_path / 'labels.npy'}: the 168 bytes behind its last row are not read, another array begins there: "
        "save each array to a file of its own"
    )


def test_bytes_behind_the_last_row_are_told_with_the_number_of_files(tmp_path, caplog):
    for number in range(3):
        with save(tmp_path / "labels" / f"{number}.npy", [number]).open("ab") as file:
            file.write(b"12345")
    with caplog.at_level(logging.WARNING, "feedline"):
        feedline.open_arrays(tmp_path)

    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/labels/0.npy: the 5 bytes behind its last row are not read; so it is with 2 other files"
    ]


def test_a_header_with_numpys_own_integers_is_read(tmp_path):
    text = "{'descr': '<i8', 'fortran_order': False, 'shape': (np.int64(3),), }"
    text = text.ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + np.arange(3).tobytes()
    (tmp_path / "labels.npy").write_bytes(content)

    assert labels(feedline.open_arrays(tmp_path)) == [0, 1, 2]


MANY = """
import sys, feedline
arrays = feedline.open_arrays(sys.argv[1])
with feedline.Feed(arrays, 10, threads=1) as feed:
    print(sum(len(batch["labels"]) for batch in feed))
"""


@pytest.mark.parametrize("hard", [400, 5000], ids=["one descriptor a file", "the soft limit is raised"])
def test_many_files_need_one_descriptor_each_and_take_what_the_system_gives(tmp_path, hard):
    for number in range(300):
        save(tmp_path / "labels" / f"{number}.npy", [number])
    soft = min(hard, 400) if hard == 400 else 128
    done = subprocess.run(
        [sys.executable, "-c", MANY, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    assert (done.stdout, done.stderr) == ("300\n", "")


def test_too_many_files_are_one_sentence(tmp_path):
    for number in range(300):
        save(tmp_path / "labels" / f"{number}.npy", [number])
    done = subprocess.run(
        [sys.executable, "-c", MANY, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)),
    )
    assert "too many files are open: raise the hard limit, `ulimit -Hn`, or join them to fewer" in done.stderr
