"""What people come with, TensorFlow: threads that fill a RandomShuffleQueue, their rows, their errors, their end."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import feedline
from feedline.classic import load
from feedline.errors import DataError, UsageError

tf = pytest.importorskip("tensorflow")

from feedline.classic.tensorflow import ThreadRunner, batches  # noqa: E402 - needs tensorflow

pytestmark = pytest.mark.trainer

ROWS = 2005


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    rows = np.arange(ROWS)
    np.save(folder / "features.npy", np.broadcast_to(rows[:, None, None], (ROWS, 5, 5)).astype(np.float32))
    np.save(folder / "labels.npy", rows.astype(np.int32).reshape(ROWS, 1))
    np.save(folder / "names.npy", np.array([f"é-{row}" for row in rows]))
    return {name: folder / f"{name}.npy" for name in ("features", "labels", "names")}


@pytest.fixture(params=[False, True], ids=["mapped", "in memory"])
def either(paths, request):
    return load(paths, 0, ROWS, in_memory=request.param)


@pytest.fixture
def arrays(paths):
    return load(paths, 0, ROWS, in_memory=False)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    gc.collect()
    assert set(threading.enumerate()) <= before


def rows_of(epoch):
    """Return the rows of an epoch's batches, and see that the arrays of each row belong together."""
    rows = []
    for batch in epoch:
        numbers = batch["labels"].numpy()[:, 0]
        features = np.broadcast_to(numbers[:, None, None], (len(numbers), 5, 5))
        np.testing.assert_array_equal(batch["features"].numpy(), features)
        assert [name.decode() for name in batch["names"].numpy()] == [f"é-{number}" for number in numbers]
        rows += numbers.tolist()
    return rows


def until_it_raises(take):
    while True:
        take()


def until_full(runner):
    deadline = time.monotonic() + 300
    while runner.queue.size() < runner.capacity:
        assert time.monotonic() < deadline


def threads_have_ended(runner):
    return not any(thread.is_alive() for thread in runner._threads)


def test_two_epochs_hold_every_row_once_each_in_an_order_of_its_own(either):
    epochs = batches(either, 32, last_batch="keep")

    first, second = rows_of(epochs), rows_of(epochs)
    assert len(epochs) == 63
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second
    assert first != sorted(first)


def test_dropping_the_last_batch_omits_the_rows_that_do_not_fill_it(arrays):
    epochs = batches(arrays, 32)

    rows = rows_of(epochs)
    assert len(epochs) == 62
    assert len(rows) == len(set(rows)) == 62 * 32


@pytest.mark.parametrize("last_batch", ["drop", "keep"])
def test_rows_come_in_file_order_without_shuffle(arrays, last_batch):
    rows = rows_of(batches(arrays, 32, shuffle=False, threads=2, last_batch=last_batch))

    assert rows == list(range(2005 if last_batch == "keep" else 1984))


def test_one_thread_gives_the_order_that_the_seed_decides(arrays):
    in_memory = {"capacity": 3000, "min_after_dequeue": 2900}  # holds all rows, so that timing has no say
    one, again, other = (batches(arrays, 32, threads=1, seed=seed, **in_memory) for seed in (1, 1, 2))

    first = rows_of(one)
    assert first == rows_of(again)
    assert first != rows_of(other)


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (20, {}),
        (ROWS, {"capacity": 8, "min_after_dequeue": 0}),
        (ROWS, {"capacity": 40, "min_after_dequeue": 39}),
        (ROWS, {"threads": 1}),
        (3, {"threads": 8, "min_after_dequeue": 1}),
    ],
    ids=["fewer rows than must stay", "a queue of one batch", "a batch at a time from the top", "one thread", "idle"],
)
def test_any_queue_gives_every_row_once(arrays, rows, options):
    few = {name: array[:rows] for name, array in arrays.items()}

    assert sorted(rows_of(batches(few, min(8, rows), last_batch="keep", **options))) == list(range(rows))


def test_a_row_waits_until_enough_rows_are_there_to_mix_with(arrays):
    rows = rows_of(batches(arrays, 1, capacity=1384, min_after_dequeue=1000, threads=1))

    assert max(rows[:5]) - min(rows[:5]) > 32


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "u8", "i8", "f2", "f8", "c8", "S3", "U3", "M8[ns]", "g"])
def test_every_dtype_of_a_file_comes_through(dtype):
    values = np.arange(20).astype(dtype)

    (batch,) = batches({"values": values}, 20, shuffle=False)
    told = batch["values"].numpy().tolist()
    assert told == (values.tolist() if values.dtype.kind in "biufc" and dtype != "g" else texts(values))


def texts(values):
    return [value.encode() for value in values.astype(np.str_).tolist()]


def test_components_have_the_dtypes_of_the_files(arrays):
    with ThreadRunner({**arrays, "codes": np.full(ROWS, b"ab"), "days": np.zeros(ROWS, "M8[D]")}) as runner:
        batch = runner.dequeue(32)

    assert {name: (value.dtype, value.shape) for name, value in batch.items()} == {
        "features": (tf.float32, (32, 5, 5)),
        "labels": (tf.int32, (32, 1)),
        "names": (tf.string, (32,)),
        "codes": (tf.string, (32,)),
        "days": (tf.string, (32,)),
    }
    assert batch["days"][0] == b"1970-01-01"
    assert {value.device.rsplit("/", 1)[1] for value in batch.values()} == {"device:CPU:0"}


def test_the_queue_is_a_random_shuffle_queue_of_the_size_asked_for(arrays):
    with ThreadRunner(arrays, capacity=50, min_after_dequeue=10) as runner:
        assert isinstance(runner.queue, tf.queue.RandomShuffleQueue)
        until_full(runner)


def test_the_tail_comes_by_dequeue_up_to_and_then_the_rows_are_at_their_end(arrays):
    with ThreadRunner(arrays) as runner:
        full = [runner.dequeue(1000), runner.dequeue(1000)]
        with pytest.raises(tf.errors.OutOfRangeError):
            runner.dequeue(1000)
        tail = runner.dequeue_up_to(1000)
        with pytest.raises(tf.errors.OutOfRangeError):
            runner.dequeue_up_to(1000)

    assert tail["labels"].shape[0] == 5
    assert sorted(rows_of([*full, tail])) == list(range(ROWS))


def test_an_op_in_a_function_ends_with_out_of_range_after_the_last_row(arrays):
    with ThreadRunner(arrays) as runner:
        step = tf.function(lambda: runner.queue.dequeue_many(5))
        taken = []
        with pytest.raises(tf.errors.OutOfRangeError):
            until_it_raises(lambda: taken.append(step()))

    assert sorted(rows_of(taken)) == list(range(ROWS))


class Failing:
    """An array whose rows cannot be read from `bad` on."""

    def __init__(self, bad):
        self.rows = np.arange(ROWS)
        self.bad = bad
        self.dtype, self.shape = self.rows.dtype, self.rows.shape

    def __len__(self):
        return ROWS

    def __getitem__(self, rows):
        if rows.stop > self.bad:
            raise OSError(f"no row {self.bad}")
        return self.rows[rows]


@pytest.mark.parametrize("bad", [0, 600, ROWS - 1], ids=["the first row", "a row", "the last row"])
@pytest.mark.parametrize("take", [ThreadRunner.dequeue, ThreadRunner.dequeue_up_to], ids=["dequeue", "up to"])
def test_what_a_thread_raised_comes_from_dequeue_and_again_from_the_end_of_the_block(bad, take):
    runner = ThreadRunner({"rows": Failing(bad)})
    with pytest.raises(OSError) as at_the_end, runner, pytest.raises(OSError, match=f"no row {bad}") as at_dequeue:
        until_it_raises(lambda: take(runner, 32))

    assert at_the_end.value is at_dequeue.value
    assert threads_have_ended(runner)


def test_what_a_thread_raised_comes_from_an_epoch():
    with pytest.raises(OSError, match="no row 1500"):
        list(batches({"rows": Failing(1500)}, 32))


def in_a_block(body):
    with ThreadRunner({"rows": Failing(0)}) as runner:
        runner._threads[0].join()
        body(runner)


def a_bare_op(runner):
    until_it_raises(tf.function(lambda: runner.queue.dequeue_many(32)))


def an_error_of_its_own(_):
    raise KeyError


@pytest.mark.parametrize(
    ("body", "error"),
    [(lambda _: None, OSError), (a_bare_op, OSError), (an_error_of_its_own, KeyError)],
    ids=["takes nothing", "is ended by a bare op", "raises an error of its own"],
)
def test_what_a_thread_raised_comes_from_the_end_of_a_block_that(body, error):
    with pytest.raises(error):
        in_a_block(body)


def leave(how):
    if how == "Ctrl-C":
        signal.raise_signal(signal.SIGINT)
    elif how == "an error":
        raise KeyError


@pytest.mark.parametrize("how", ["its end", "an error", "Ctrl-C"])
def test_leaving_early_ends_threads_that_are_blocked_on_a_full_queue(arrays, how):
    with contextlib.suppress(KeyError, KeyboardInterrupt), ThreadRunner(arrays) as runner:
        until_full(runner)
        leave(how)

    assert threads_have_ended(runner)


def test_threads_end_with_an_epoch_that_is_left_or_forgotten(arrays):
    for _ in batches(arrays, 32):
        break

    closed = iter(batches(arrays, 32))
    next(closed)
    closed.close()

    forgotten = ThreadRunner(arrays)
    threads = forgotten._threads
    del forgotten
    gc.collect()
    assert not any(thread.is_alive() for thread in threads)


def test_a_program_that_leaves_an_epoch_open_ends(paths):
    program = (
        "import sys; from pathlib import Path; from feedline.classic import load, tensorflow;"
        "epoch = iter(tensorflow.batches(load({'labels': Path(sys.argv[1])}, 0, 2005, False), 32)); next(epoch)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(feedline.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program, paths["labels"]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("batch_size", "options", "error", "told"),
    [
        (
            32,
            {"min_after_dequeue": 1384},
            UsageError,
            r"loader\.classic\.queue\.minAfterDequeue: must be below capacity \(got 1384 and 1384\)",
        ),
        (32, {"capacity": 0}, UsageError, "minAfterDequeue: must be below capacity"),
        (32, {"min_after_dequeue": -1}, UsageError, "minAfterDequeue >= 0"),
        (32, {"threads": 0}, UsageError, "threads >= 1"),
        (1385, {}, UsageError, r"loader\.batchSize: must be from 1 to loader\.classic\.queue\.capacity 1384"),
        (0, {}, UsageError, r"loader\.batchSize: must be from 1"),
        (2006, {"capacity": 3000}, DataError, "a batch of 2006 is larger than the data"),
    ],
    ids=["min at capacity", "no capacity", "min below 0", "no thread", "batch above capacity", "no batch", "few rows"],
)
def test_bad_arguments_are_told_before_the_first_batch(arrays, batch_size, options, error, told):
    with pytest.raises(error, match=told):
        batches(arrays, batch_size, **options)


def test_a_runner_refuses_what_its_queue_cannot_hold(arrays):
    with pytest.raises(UsageError, match="must be below capacity"):
        ThreadRunner(arrays, capacity=10)
    with ThreadRunner(arrays) as runner, pytest.raises(UsageError, match="capacity 1384"):
        runner.dequeue(1385)
