"""What people come with, PyTorch: a map-style Dataset in a DataLoader, its rows, its workers, and their end."""

import contextlib
import gc
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest

import feedline
from feedline.errors import DataError, EnvironmentInvalidError, InputMissingError, UsageError

torch = pytest.importorskip("torch")

from feedline.classic import pytorch as classic  # noqa: E402 - needs torch

pytestmark = pytest.mark.trainer

ROWS = 53


@pytest.fixture
def paths(tmp_path):
    rows = np.arange(ROWS)
    np.save(tmp_path / "features.npy", np.broadcast_to(rows[:, None, None], (ROWS, 5, 5)).astype(np.float32))
    np.save(tmp_path / "labels.npy", rows.astype(np.int32))
    np.save(tmp_path / "names.npy", np.array([f"row-{row}" for row in rows]))
    return {name: tmp_path / f"{name}.npy" for name in ("features", "labels", "names")}


@pytest.fixture
def loader(paths):
    def make(batch_size=10, start=0, stop=ROWS, **changed):
        chosen = {"in_memory": False, "workers": 0, "shuffle": True, "seed": 0, "last_batch": "keep"}
        chosen["device"] = torch.device("cpu")
        return classic.loader(paths, start, stop, batch_size, **{**chosen, **changed})

    return make


def rows_of(epoch):
    """Return the rows of an epoch's batches, and see that the arrays of each row belong together."""
    rows = []
    for batch in epoch:
        numbers = batch["labels"].tolist()
        assert batch["features"].tolist() == [[[number] * 5] * 5 for number in numbers]
        assert batch["names"] == [f"row-{number}" for number in numbers]
        rows += numbers
    return rows


def workers_are_gone(before):
    """Return whether no process is left but those of `before`; ending takes a moment."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if set(psutil.Process().children(recursive=True)) <= before:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("in_memory", [False, True], ids=["mapped", "in memory"])
@pytest.mark.parametrize("workers", [0, 2], ids=["no worker", "two workers"])
def test_two_epochs_hold_every_row_once_each_in_an_order_of_its_own(loader, workers, in_memory):
    epochs = loader(workers=workers, in_memory=in_memory)

    first, second = rows_of(epochs), rows_of(epochs)
    assert len(epochs) == 6
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second


def test_dropping_the_last_batch_omits_the_rows_that_do_not_fill_it(loader):
    epochs = loader(last_batch="drop", workers=2)

    rows = rows_of(epochs)
    assert len(epochs) == 5
    assert len(rows) == len(set(rows)) == 50


def test_the_seed_decides_the_order_whatever_the_workers(loader):
    one, again, other = loader(seed=1), loader(seed=1, workers=2), loader(seed=2)

    first = rows_of(one)
    assert first == rows_of(again)
    assert first != rows_of(other)
    assert rows_of(one) == rows_of(again)


def test_rows_of_a_split_come_in_file_order_without_shuffle(loader):
    assert rows_of(loader(start=20, stop=50, shuffle=False, workers=2)) == list(range(20, 50))


def test_batches_have_the_dtypes_and_shapes_of_the_files(loader):
    batch = next(iter(loader()))

    assert (batch["features"].dtype, batch["features"].shape) == (torch.float32, (10, 5, 5))
    assert (batch["labels"].dtype, batch["labels"].shape) == (torch.int32, (10,))
    assert {type(name) for name in batch["names"]} == {str}


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u2", "i8", "f2", "f8", "c8", "S3", "U3", "M8[ns]", "g", "f4,i2"], ids=lambda dtype: dtype
)
def test_every_dtype_of_a_file_comes_through(loader, paths, dtype):
    np.save(paths["labels"], np.zeros(ROWS, dtype))

    batch = next(iter(loader(workers=1)))
    assert len(batch["labels"]) == 10


def test_mapped_rows_bring_no_warning(loader):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(loader())


def test_the_dataset_is_pickled_without_its_data(paths):
    np.save(paths["features"], np.zeros((ROWS, 100, 100), np.float32))
    rows = classic.Rows(paths, 10, 50, in_memory=False)

    pickled = pickle.dumps(rows)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert len(again) == 40
    assert again[0]["labels"] == rows[0]["labels"] == 10


@pytest.mark.parametrize("leave", ["break", "close", "raise"])
def test_no_worker_is_left_when_an_epoch_is_left_early(loader, leave):
    before = set(psutil.Process().children(recursive=True))
    epoch = iter(loader(workers=2, batch_size=2))
    next(epoch)
    assert len(set(psutil.Process().children(recursive=True)) - before) == 2

    match leave:
        case "break":
            for _ in epoch:
                break
            del epoch
        case "close":
            epoch.close()
        case "raise":
            with contextlib.suppress(KeyboardInterrupt), contextlib.closing(epoch):
                signal.raise_signal(signal.SIGINT)
    gc.collect()
    assert workers_are_gone(before)


def test_no_worker_is_left_after_the_last_batch(loader):
    before = set(psutil.Process().children(recursive=True))

    assert len(list(itertools.islice(loader(workers=2), 6))) == 6
    assert workers_are_gone(before)


LONG = """
import sys
from pathlib import Path
import psutil, torch
from feedline.classic import pytorch as classic

paths = {"labels": Path(sys.argv[1])}
chosen = {"in_memory": False, "shuffle": False, "seed": 0, "last_batch": "drop", "device": torch.device("cpu")}
for step, _ in enumerate(classic.loader(paths, 0, 1_000_000, 1, workers=2, **chosen)):
    if step == 10:
        print(*[child.pid for child in psutil.Process().children()], flush=True)
"""


def test_ctrl_c_leaves_no_worker(paths):
    np.save(paths["labels"], np.zeros(1_000_000, np.int8))
    environment = {**os.environ, "PYTHONPATH": str(Path(feedline.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", LONG, paths["labels"]],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        workers = [int(pid) for pid in process.stdout.readline().split()]
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=300)

    assert len(workers) == 2
    assert process.returncode == -signal.SIGINT, said
    assert not [pid for pid in workers if psutil.pid_exists(pid)]


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"batch_size": 0}, UsageError, "batch_size: must be at least 1"),
        ({"batch_size": 54}, DataError, "a batch of 54 is larger than the data"),
        ({"workers": -1}, UsageError, "workers: must be at least 0"),
        ({"last_batch": "pad"}, UsageError, "last_batch: must be drop or keep"),
        ({"start": 9, "stop": 9}, UsageError, "rows: start must be"),
        ({"stop": 54}, DataError, "rows: stop is 54"),
    ],
    ids=["batch of 0", "batch larger than the data", "workers", "last batch", "no rows", "more rows than there are"],
)
def test_bad_arguments_are_told_before_the_first_batch(loader, changed, error, told):
    with pytest.raises(error, match=told):
        loader(**changed)


def test_a_missing_file_is_told(loader, paths):
    paths["labels"].unlink()

    with pytest.raises(InputMissingError, match=r"labels\.npy: there is no such file"):
        loader()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_told(loader):
    with pytest.raises(EnvironmentInvalidError, match="no CUDA device"):
        loader(device=torch.device("cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_come_on_the_device(loader):
    epochs = loader(device=torch.device("cuda"), workers=2)

    batch = next(iter(epochs))
    assert {batch[name].device.type for name in ("features", "labels")} == {"cuda"}
    assert sorted(rows_of(epochs)) == list(range(ROWS))
