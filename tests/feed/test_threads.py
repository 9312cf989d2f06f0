"""What a feed takes of the machine: threads, descriptors and memory, bounded while it runs and gone afterwards."""

import gc
import os
import signal
import sys
import threading
import time

import numpy as np
import psutil
import pytest

import feedline
from feedline.errors import DataError, EnvironmentInvalidError, UsageError
from feedline.feed import gather, slots


@pytest.fixture(autouse=True)
def small_slots(monkeypatch):
    """Make slots of a few batches, so that a small epoch passes through many of them."""
    monkeypatch.setattr(gather, "SLOT_BYTES", 4096)


@pytest.fixture
def nothing_left():
    """Return a function that tells which gather threads and how many descriptors are left of those made meanwhile."""
    process = psutil.Process()
    gc.collect()
    before = process.num_fds()

    def left():
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("feedline")]
        return threads, process.num_fds() - before

    return left


class Counting:
    """Memory for slots that is counted."""

    def __init__(self):
        self.made = 0

    def __call__(self, size):
        self.made += 1
        return slots.allocate(size)


def started(feed):
    """Start the epoch, so that threads run."""
    next(iter(feed))
    return feed


def read_on(feed):
    """Read until what was gathered ahead is used up."""
    for _ in range(20):
        list(feed)


def wait_until(holds):
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true within 20 s"
        time.sleep(0.001)


def test_no_thread_runs_before_the_first_batch(numbered, nothing_left):
    feed = feedline.Feed(numbered(500), 10, threads=3)
    iter(feed)
    assert nothing_left()[0] == []
    started(feed)
    wait_until(lambda: len(nothing_left()[0]) == 3)  # the first of them is enough for a batch
    feed.close()


def test_a_thread_that_cannot_be_started_is_told(numbered, monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("feedline-gather"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(EnvironmentInvalidError, match="a thread of the feed cannot be started"):
        next(iter(feedline.Feed(numbered(500), 10, threads=2)))


def closed(feed):
    started(feed).close()


def closed_in_the_middle(feed):
    epoch = iter(feed)
    next(epoch)
    feed.close()


def left_by_its_context(feed):
    with feed:
        list(feed)


def raised_in_its_context(feed):
    def stop_at_once():
        with feed:
            for _ in feed:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stop_at_once()


def dropped(feed):
    started(feed)


def dropped_in_the_middle(feed):
    epoch = iter(feed)
    next(epoch)


def dropped_before_use(feed):
    iter(feed)


def finished(feed):
    assert sum(1 for _ in feed) == 50


ENDS = [
    closed,
    closed_in_the_middle,
    left_by_its_context,
    raised_in_its_context,
    dropped,
    dropped_in_the_middle,
    dropped_before_use,
    finished,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.replace("_", " "))
def test_nothing_is_left_of_a_feed_that_was(numbered, nothing_left, end):
    end(feedline.Feed(numbered(500), 10, threads=3))
    assert nothing_left() == ([], 0)


def test_nothing_is_left_of_a_feed_collected_in_a_cycle(numbered, nothing_left):
    cycle = [started(feedline.Feed(numbered(500), 10))]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert nothing_left() == ([], 0)


def test_nothing_is_left_of_a_feed_that_failed(save, nothing_left):
    def fail():
        path = save("a", np.zeros((500, 10)))
        feed = started(feedline.Feed(feedline.open_arrays({"a": path}), 10, threads=3))
        os.utime(path, ns=(1, 1))
        with pytest.raises(DataError, match="was written to"):
            read_on(feed)
        assert nothing_left()[0] == []

    fail()
    gc.collect()
    assert nothing_left() == ([], 0)


def test_nothing_is_left_of_files_that_were_refused(save, nothing_left):
    paths = {"a": save("a", np.zeros(10)), "b": save("b", np.zeros(9))}
    for _ in range(3):
        with pytest.raises(DataError):
            feedline.open_arrays(paths)
    (paths["b"]).write_bytes(b"bad")
    with pytest.raises(DataError):
        feedline.open_arrays(paths)
    gc.collect()
    assert nothing_left() == ([], 0)


def test_batches_outlive_their_feed(numbered, nothing_left):
    with feedline.Feed(numbered(500), 10) as feed:
        kept = list(feed)
    del feed
    assert nothing_left() == ([], 0)
    assert all((batch["features"][:, 0, 0] == batch["labels"]).all() for batch in kept)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_slow_consumer_holds_so_many_slots_and_no_more(numbered, threads):
    memory = Counting()
    with feedline.Feed(numbered(500), 10, threads=threads, prefetch=4) as feed:
        feed.use_memory(memory)
        for _ in range(10):
            for _, batch in zip(range(7), feed, strict=False):
                wait_until(lambda: feed.stats().queue_depth >= feed.stats().queue_capacity - 10)
                assert batch["labels"].size == 10
        # What is ready or on the way, one in each thread's hands, one at the consumer, one that it lets go.
        per_slot = 4096 // (64 * -(-10 * 100 // 64) + 64 + 128)
        assert memory.made <= feed.stats().queue_capacity // per_slot + threads + 2


def test_memory_is_flat_over_many_epochs(numbered):
    memory = Counting()
    with feedline.Feed(numbered(500), 10, threads=2) as feed:
        feed.use_memory(memory)
        for _ in range(5):
            list(map(len, feed))
        after_five = memory.made
        bound = feed.stats().queue_capacity + 2 + 2
        for _ in range(50):
            for batch in feed:
                del batch
    assert after_five <= memory.made <= bound


def test_a_new_slot_is_made_when_all_are_held(numbered):
    memory = Counting()
    with feedline.Feed(numbered(500), 10, threads=2, prefetch=1) as feed:
        feed.use_memory(memory)
        kept = [batch for _ in range(5) for batch in feed]
        while_held = memory.made
        assert len({batch["labels"].__array_interface__["data"][0] for batch in kept}) == len(kept) == 250
        kept.clear()
        for _ in range(5):
            for batch in feed:
                del batch
        assert while_held <= memory.made <= while_held + feed.stats().queue_capacity


def test_an_error_in_a_thread_comes_at_the_next_batch_and_stays(numbered):
    def out_of_memory(size):
        raise MemoryError(f"no {size} bytes")

    with feedline.Feed(numbered(500), 10, threads=2) as feed:
        feed.use_memory(out_of_memory)
        for _ in range(3):
            with pytest.raises(MemoryError, match=r"no .* bytes"):
                next(iter(feed))


def test_batches_that_were_ready_before_an_error_are_handed_out(numbered):
    memory = Counting()

    def third_fails(size):
        if memory.made == 2:
            raise MemoryError
        return memory(size)

    with feedline.Feed(numbered(500), 10, threads=1, prefetch=100) as feed:
        feed.use_memory(third_fails)
        taken = []
        with pytest.raises(MemoryError):
            taken.extend(batch["labels"].tolist() for batch in feed)
        with feedline.Feed(feed.arrays, 10) as other:
            assert taken == [batch["labels"].tolist() for batch, _ in zip(other, taken, strict=False)]
            assert taken


def test_ctrl_c_while_waiting_leaves_nothing(numbered, nothing_left):
    main, go_on = threading.main_thread().ident, threading.Event()

    def interrupting(size):
        signal.pthread_kill(main, signal.SIGINT)
        go_on.wait()
        return slots.allocate(size)

    feed = feedline.Feed(numbered(500), 10, threads=1)
    feed.use_memory(interrupting)
    with pytest.raises(KeyboardInterrupt):
        next(iter(feed))
    go_on.set()
    feed.close()
    del feed
    gc.collect()
    assert nothing_left() == ([], 0)


def test_a_feed_closed_by_its_own_threads_does_not_hang(numbered, nothing_left):
    feed = feedline.Feed(numbered(500), 10, threads=2)

    def closing(size):
        # As a garbage collection that happens to run in a gather thread would.
        feed.close()
        return slots.allocate(size)

    feed.use_memory(closing)
    with pytest.raises(UsageError, match="the feed is closed"):
        list(feed)
    wait_until(lambda: nothing_left()[0] == [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("use", ["the same iterator", "a new iterator", "the garbage collector"])
def test_a_forked_process_gets_one_sentence_and_harms_nothing(numbered, use):
    with feedline.Feed(numbered(500), 10) as feed:
        epoch = iter(feed)
        next(epoch)
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if use == "the same iterator":
                    next(epoch)
                elif use == "a new iterator":
                    epoch.close()
                    next(iter(feed))
                else:
                    del epoch, feed
                    gc.collect()
                    os.write(writes, b"collected")
            except UsageError as error:
                os.write(writes, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writes)
        with os.fdopen(reads) as pipe:
            told = pipe.read()
        if use == "the garbage collector":
            assert told == "collected"
        else:
            assert told == "a Feed cannot be used in a forked process: make it there, or pickle it over"
        assert len(list(epoch)) == 49


def test_a_feed_left_open_does_not_keep_the_interpreter(numbered, tmp_path, python):
    numbered(500)
    program = """
import feedline
feed = feedline.Feed(feedline.open_arrays("."), 10)
epoch = iter(feed)
print(len(next(epoch)))
"""
    ended = python(program)
    assert (ended.code, ended.output, ended.errors) == (0, "3\n", "")


def test_importing_feedline_loads_no_framework(python):
    ended = python("import sys, feedline; print(*sorted({name.split('.')[0] for name in sys.modules}))")
    heavy = {"torch", "tensorflow", "keras", "yaml", "prometheus_client", "typer", "rich", "jsonschema", "http"}
    assert "numpy" in ended.output.split()
    assert heavy.isdisjoint(ended.output.split())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_data(tmp_path, python):
    # Sparse, and no larger than it must be: a shuffled read of a hole fills the page cache with all of it.
    rows, row_bytes = 1_600_000, 256
    header = str({"descr": "<f4", "fortran_order": False, "shape": (rows, 64)}).ljust(117).encode() + b"\n"
    with (tmp_path / "a.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        file.truncate(file.tell() + rows * row_bytes)
    program = """
import feedline
from feedline.feed import slots
made = []
def counted(size):
    made.append(size)
    return slots.allocate(size)
with feedline.Feed(feedline.open_arrays("."), 256, threads=2) as feed:
    feed.use_memory(counted)
    for _ in range(3):
        for _, batch in zip(range(100), feed):
            assert not batch["a"][0].any()
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Anonymous:"):
            print(int(line.split()[1]) * 1024, sum(made), len(feed))
"""
    anonymous, of_slots, steps = map(int, python(program).output.split())
    assert steps == rows // 256
    assert of_slots <= 10 * (4 << 20)
    assert anonymous <= 100 * 2**20 + of_slots + 2 * 4 * rows
