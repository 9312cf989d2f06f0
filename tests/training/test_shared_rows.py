"""Rows that several processes of a machine have in memory once: filled by the first, mapped by the others, and gone."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from feedline.errors import DataError
from feedline.files import open_arrays
from feedline.training.shared_rows import SharedRows


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "labels").mkdir(parents=True)
    np.save(folder / "features.npy", np.arange(4000.0, dtype=np.float32).reshape(1000, 4))
    for part, rows in enumerate(np.split(np.arange(1000, dtype=np.int64), [300, 700])):
        np.save(folder / "labels" / f"part-{part}.npy", rows)
    return folder


def opened(data, told, *, is_first):
    return open_arrays(data, (100, 900), "memory", SharedRows(told, is_first=is_first))


def taken(array, rows):
    return array.read(rows.start, rows.stop)


def test_the_others_have_the_rows_of_the_first_and_no_memory_of_their_own(data, tmp_path):
    first = opened(data, tmp_path / "rows.json", is_first=True)
    other = opened(data, tmp_path / "rows.json", is_first=False)
    for name, array in open_arrays(data, (100, 900)).items():
        expected = taken(array, range(800))
        np.testing.assert_array_equal(taken(first[name], range(800)), expected)
        np.testing.assert_array_equal(taken(other[name], range(800)), expected)
    here = {name: array._parts[0] for name, array in first.items()}
    there = {name: array._parts[0] for name, array in other.items()}
    assert not any(array.flags.writeable for array in there.values())
    for name, array in here.items():
        array[5] += 1  # as nobody does: it is the same memory
        np.testing.assert_array_equal(there[name], array)


def wait_for_rows(data, told, pipe):
    pipe.send("waits")
    other = opened(data, told, is_first=False)
    pipe.send(int(taken(other["labels"], range(7, 8))[0]))
    pipe.recv()
    pipe.send(int(taken(other["labels"], range(799, 800))[0]))


def hold_rows(data, told, pipe):
    rows = opened(data, told, is_first=True)
    pipe.send(rows.rows)
    time.sleep(600)


def test_they_wait_for_the_first_and_keep_the_rows_when_it_is_killed(data, tmp_path):
    context = multiprocessing.get_context("fork")
    told = tmp_path / "rows.json"
    (ours, theirs), (first_ours, first_theirs) = context.Pipe(), context.Pipe()
    other = context.Process(target=wait_for_rows, args=(data, told, theirs))
    other.start()
    assert ours.recv() == "waits"
    assert not ours.poll(0.5)
    first = context.Process(target=hold_rows, args=(data, told, first_theirs))
    first.start()
    assert first_ours.recv() == 800
    assert ours.recv() == 107
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    ours.send("go on")
    assert ours.recv() == 899
    other.join()
    assert other.exitcode == 0
    # Nothing of it is in a file system, so nothing can be left behind there.
    assert not [path for path in Path("/dev/shm").iterdir() if path.name.startswith("feedline-features")]


def test_what_cannot_be_read_is_not_handed_on(data, tmp_path):
    path = data / "features.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError):
        opened(data, tmp_path / "rows.json", is_first=True)
    assert not (tmp_path / "rows.json").exists()
