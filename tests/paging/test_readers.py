"""Threads that read from a disk far away: as many as keep it busy, all of them done before anything is said."""

import os
import threading
import time

import numpy as np
import pytest
from cold import eventually
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline.errors import DataError, StorageError
from feedline.paging import readers
from feedline.paging.readers import Readers

READERS = {
    "before the first slot": (0, 0, 8),
    "a disk that is near": (50_000, 100e-6, 10),
    "one that is far": (800, 10e-3, 16),
    "one that could do with more": (6400, 10e-3, 64),
    "one that would take any number": (1e9, 1.0, 64),
    "rows in memory": (1e6, 1e-6, 8),
}


@pytest.mark.parametrize(("rate", "latency", "wanted"), READERS.values(), ids=READERS)
def test_reads_under_way_are_twice_what_littles_law_asks_for(rate, latency, wanted):
    assert readers.readers(rate, latency) == wanted


@given(st.integers(1, 64), st.floats(1e-5, 1.0))
def test_reads_under_way_grow_until_more_bring_no_more(busy, latency):
    """A disk that answers `busy` at a time in `latency` seconds is kept busy, and not asked for much more."""
    wanted = readers.readers(0, 0)
    for _ in range(5):
        wanted = readers.readers(min(wanted, busy) / latency, latency)
    assert min(64, max(8, 2 * busy)) <= wanted <= min(64, max(8, 2 * busy + 1))


# --- many threads at one slot ------------------------------------------------------------------------------------------------


class Rows:
    """Stands for an array whose rows say which they are; calls `reading` with each part that is read."""

    def __init__(self, reading=lambda rows: None):
        self.parts = []
        self._reading = reading

    def take_past_mapping(self, rows, out):
        """Read a part of a slot."""
        self._reading(rows)
        out[:] = rows[:, None]
        self.parts.append(rows)


@pytest.fixture
def pool():
    """Return the threads, and end them."""
    pool = Readers()
    yield pool
    pool.close()


@pytest.mark.parametrize("count", [1, 3, 8, 100, 5000])
def test_a_slot_is_read_in_parts_each_row_once(pool, count):
    rows = np.random.default_rng(1).permutation(count)
    array, out = Rows(), np.empty((count, 1), np.int64)
    pool.take(array, rows, out)
    assert (out[:, 0] == rows).all()
    assert np.sort(np.concatenate(array.parts)).tolist() == list(range(count))
    assert len(array.parts) >= min(count, 8)


def test_as_many_parts_are_read_at_once_as_are_wanted(pool, monkeypatch):
    """The second slot would wait for ever if it had fewer."""
    monkeypatch.setattr("feedline.paging.readers.readers", lambda rate, latency: 23)
    pool.take(Rows(), np.arange(8), np.empty((8, 1), np.int64))
    assert pool.wanted == 23
    all_at_once = threading.Barrier(23, timeout=20)
    array = Rows(lambda rows: all_at_once.wait())
    pool.take(array, np.arange(23), np.empty((23, 1), np.int64))
    assert len(array.parts) == 23


def test_an_error_is_raised_once_no_thread_writes_to_the_slot_any_more(pool):
    failed = threading.Event()

    def reading(rows):
        if 0 in rows:
            failed.set()
            raise StorageError("row 0 cannot be read")
        failed.wait()
        time.sleep(0.05)  # as a disk would take

    array = Rows(reading)
    with pytest.raises(StorageError, match="row 0 cannot be read"):
        pool.take(array, np.arange(8), np.empty((8, 1), np.int64))
    assert len(array.parts) == 7


@pytest.mark.parametrize(("hit_seconds", "from_disk"), [(0.0, 100), (float("inf"), 0)], ids=["slow", "quick"])
def test_rows_that_took_longer_than_memory_does_came_from_the_disk(pool, monkeypatch, hit_seconds, from_disk):
    monkeypatch.setattr("feedline.paging.readers.HIT_SECONDS", hit_seconds)
    assert pool.take(Rows(), np.arange(100), np.empty((100, 1), np.int64)) == from_disk


def test_threads_end_when_they_are_closed_while_they_read():
    pool, going_on = Readers(), threading.Event()
    one = threading.Thread(
        target=pool.take, args=(Rows(lambda rows: going_on.wait(20)), np.arange(8), np.empty((8, 1)))
    )
    one.start()
    eventually(lambda: len(running()) == 8)
    pool.close()
    going_on.set()
    one.join()
    eventually(lambda: not running())


# --- what is left of them ------------------------------------------------------------------------------------------------------


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith("feedline-read")]


def closed(feed):
    feed.close()


def dropped(feed):
    del feed


def failed(feed):
    os.utime(feed.arrays["features"].files[0].path)
    with pytest.raises(DataError, match="was written to"):
        sum(1 for _ in range(20) for _ in feed)


@pytest.mark.parametrize("end", [closed, dropped, failed], ids=lambda end: end.__name__)
def test_threads_that_read_end_with_their_feed(numbered, end):
    eventually(lambda: not running())
    ends = [feedline.Feed(numbered(500, row_shape=(20, 20), residency="read"), 10)]
    assert next(iter(ends[0]))["features"].shape == (10, 20, 20)
    assert 0 < len(running()) <= readers.MOST_READERS
    end(ends.pop())
    eventually(lambda: not running())
