"""The life of an iterator: the newest one wins, and an exception from outside, whenever it comes, leaves a good feed."""

import contextlib
import itertools
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import feedline
from feedline.errors import UsageError
from feedline.feed import gather, slots
from feedline.order.permutation import permutation

FEED = str(Path(feedline.__file__).parent / "feed")
ROWS, BATCH = 60, 10


def rows_of(epoch):
    return [batch["labels"].tolist() for batch in epoch]


def in_order(rows, batch_size, seed, epoch):
    drawn = permutation(rows, seed, epoch).tolist()
    return [drawn[start : start + batch_size] for start in range(0, rows, batch_size)]


def older(feed):
    """Return an iterator in the middle of an epoch."""
    iterator = iter(feed)
    next(iterator)
    return iterator


def test_the_newest_iterator_wins_and_starts_the_next_epoch(numbered):
    with feedline.Feed(numbered(100), 10) as feed:
        first = older(feed)
        assert rows_of(feed) == in_order(100, 10, 0, 1)
        with pytest.raises(UsageError, match="of an epoch that was left, a newer one of the same feed was started"):
            next(first)
        assert rows_of(feed) == in_order(100, 10, 0, 2)


def test_an_iterator_that_was_never_used_takes_no_epoch(numbered):
    with feedline.Feed(numbered(100), 10) as feed:
        unused = iter(feed)
        assert rows_of(feed) == in_order(100, 10, 0, 0)
        with pytest.raises(UsageError, match="a newer one of the same feed was started"):
            next(unused)


def test_two_iterators_at_once_are_refused(numbered):
    with feedline.Feed(numbered(100), 10) as feed, pytest.raises(UsageError, match="two at a time need two feeds"):
        list(zip(feed, feed, strict=True))


def test_an_iterator_that_waits_in_another_thread_ends_when_a_newer_one_starts(numbered):
    held, go_on = threading.Event(), threading.Event()
    told = []

    def slow(size):
        held.set()
        go_on.wait(60)
        return slots.allocate(size)

    def wait_for_a_batch():
        try:
            list(feed)
        except UsageError as error:
            told.append(str(error))

    with feedline.Feed(numbered(100), 10, threads=1) as feed:
        feed.use_memory(slow)
        waiting = threading.Thread(target=wait_for_a_batch)
        waiting.start()
        held.wait(60)
        newer = iter(feed)
        go_on.set()
        assert rows_of(newer) == in_order(100, 10, 0, 0)
        waiting.join(60)
    assert len(told) == 1
    assert "a newer one of the same feed was started" in told[0]


def test_a_state_that_is_restored_ends_the_iterator_at_hand(numbered):
    with feedline.Feed(numbered(100), 10) as feed:
        first = older(feed)
        state = feed.state()
        next(first)
        feed.restore(state)
        with pytest.raises(UsageError, match="a newer one"):
            next(first)
        assert rows_of(feed) == in_order(100, 10, 0, 0)[1:]


def test_a_feed_is_no_list_of_rows(numbered):
    with feedline.Feed(numbered(100), 10) as feed, pytest.raises(UsageError, match="has no single rows, it makes batc"):
        feed[0]


@pytest.fixture
def small_slots(monkeypatch):
    """Make slots of one batch, so that a small epoch passes through many of them."""
    monkeypatch.setattr(gather, "SLOT_BYTES", 1024)


@pytest.fixture
def unstarted():
    """Forget threads whose start was interrupted: CPython goes on to list them as about to start."""
    yield
    threading._limbo.clear()


class Interrupting:
    """Raises at one bytecode of the feed's own code in this thread, the `at`-th since it began.

    Attributes
    ----------
    seen
        Bytecodes so far.
    """

    def __init__(self, at):
        self.at, self.seen = at, 0

    def __enter__(self):
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _call(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(FEED):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._opcode

    def _opcode(self, frame, event, _):
        if event == "opcode":
            self.seen += 1
            if self.seen == self.at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._opcode


def leave_and_go_through(feed):
    """Take some batches, leave the epoch, and go through the next one."""
    next(iter(feed))
    for _ in feed:
        pass


@pytest.mark.usefixtures("small_slots", "unstarted")
def test_an_exception_at_any_bytecode_leaves_a_feed_that_can_go_on(numbered):
    arrays, at = numbered(ROWS), 0
    while True:
        at += 1
        with feedline.Feed(arrays, BATCH, threads=1, seed=3) as feed:
            with Interrupting(at) as interrupting, contextlib.suppress(KeyboardInterrupt):
                leave_and_go_through(feed)
            epochs = [rows_of(feed), rows_of(feed)]
            ended = feed.state()["epoch"]
            assert epochs == [in_order(ROWS, BATCH, 3, ended - 2), in_order(ROWS, BATCH, 3, ended - 1)], at
        if interrupting.seen < at:
            break
    assert at > 500
    assert not [thread for thread in threading.enumerate() if thread.is_alive() and thread.name.startswith("feedline")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("unstarted")
def test_a_thousand_interrupts_at_random_moments_of_a_loop_and_no_hang(numbered):
    """Ctrl-C as it really comes: a signal, between any two bytecodes of the thread that trains."""
    random, interrupts = np.random.default_rng(0), 0
    before = signal.getsignal(signal.SIGALRM)

    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    try:
        with feedline.Feed(numbered(6000), 10, threads=2, seed=3) as feed:
            while interrupts < 1000:
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(20e-6, 3e-3))
                    due = time.monotonic() + 1
                    for _ in itertools.chain.from_iterable(iter(feed) for _ in itertools.count()):
                        if time.monotonic() > due:
                            # CPython drops what is raised within a finalizer of its own, such as a WeakSet's.
                            due += 1
                            signal.setitimer(signal.ITIMER_REAL, 1e-3)
                except KeyboardInterrupt:
                    interrupts += 1
            epochs = [rows_of(feed), rows_of(feed)]
            ended = feed.state()["epoch"]
            assert epochs == [in_order(6000, 10, 3, ended - 2), in_order(6000, 10, 3, ended - 1)]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_interrupt_while_memory_is_given_back_is_not_lost(numbered):
    """A finalizer in Python would swallow it, and print that it was ignored."""
    pool, told = slots.Pool(64, kept=2), []
    view = pool.take()

    def call(frame, event, _):
        told.append(frame.f_code.co_qualname)

    sys.setprofile(call)
    del view
    sys.setprofile(None)
    assert not [name for name in told if "Lease" in name or "Pool" in name]


def test_a_feed_goes_on_after_a_disk_that_failed_once(numbered):
    failing = [OSError("the disk is away")]

    def allocate(size):
        if failing:
            raise failing.pop()
        return slots.allocate(size)

    with feedline.Feed(numbered(100), 10, threads=1) as feed:
        feed.use_memory(allocate)
        with pytest.raises(OSError, match="the disk is away"):
            rows_of(feed)
        assert rows_of(feed) == in_order(100, 10, 0, 0)


def test_counts_go_on_where_threads_are_replaced(numbered):
    with feedline.Feed(numbered(ROWS), BATCH, threads=1) as feed:
        rows_of(feed)
        before = feed.stats().gathered_rows
        feed._working.gatherer.is_torn = True  # as an exception from outside leaves it
        rows_of(feed)
        assert before == ROWS
        assert feed.stats().gathered_rows == 2 * ROWS
