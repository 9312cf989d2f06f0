"""What a disk allows, and the feed's own ways over data that are not in memory."""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from data import ROW_BYTES, Data
from measure import Measure, epochs, pulled

import feedline
from feedline.paging.disk import DEPTH, PAGE, reads_per_second

_FEATURE_BYTES = ROW_BYTES - 4
_STEP_SECONDS = 0.01


def random_reads(rows: Data, _: int) -> Measure:
    """Return a measure of reads of 4 KiB at random places past the page cache, 32 at once, queued in the kernel."""
    return lambda seconds: reads_per_second(rows.paths["features"], PAGE, DEPTH, seconds)


def sequential_reads(rows: Data, _: int) -> Measure:
    """Return a measure of rows read in the order of the file, a mebibyte at a time, through the page cache.

    At its end the file is read again, as in the next epoch: a disk that is rationed gives more in the first second.
    """

    def measure(seconds: float) -> float:
        done, begin = 0, time.monotonic()
        with rows.paths["features"].open("rb", buffering=0) as file:
            while time.monotonic() - begin < seconds:
                if not (piece := file.read(1 << 20)):
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    file.seek(0)
                done += len(piece)
        return done / _FEATURE_BYTES / (time.monotonic() - begin)

    return measure


def feed(rows: Data, batch_size: int, *, residency: Any = "auto", shuffle: Any = "full") -> Measure:
    """Return a measure of the feed's own batches."""
    arrays = feedline.open_arrays(rows.paths, residency=residency)
    batches = feedline.Feed(arrays, batch_size, shuffle=shuffle)
    return pulled(lambda: epochs(batches), batch_size)


def warm(rows: Data, batch_size: int, residency: Any) -> Measure:
    """Return a measure of the feed over a file that is in memory; the first epoch is not measured."""

    def measure(seconds: float) -> float:
        _read(rows.paths["features"], 0, rows.rows)
        arrays = feedline.open_arrays(rows.paths, residency=residency)
        with feedline.Feed(arrays, batch_size) as batches:
            for _ in batches:
                pass
            return pulled(lambda: epochs(batches), batch_size)(seconds)

    return measure


def half(rows: Data, batch_size: int) -> Measure:
    """Return a measure of the rows that the feed takes from the disk while about half of them are in memory.

    Rows in memory cost next to nothing beside the others, so that the disk's limit is what both allow together.
    """

    def measure(seconds: float) -> float:
        _read(rows.paths["features"], 0, rows.rows // 2)
        with feedline.Feed(feedline.open_arrays(rows.paths), batch_size) as batches:
            taken = epochs(batches)
            next(taken)
            before, begin = batches.stats(), time.perf_counter()
            while time.perf_counter() - begin < seconds:
                next(taken)
            after, elapsed = batches.stats(), time.perf_counter() - begin
        return (after.rows_from_disk - before.rows_from_disk) / elapsed

    return measure


def epoch_starts(rows: Data, batch_size: int) -> Measure:
    """Return a measure of the wait for the first batch of later epochs, over the median of fetch and step together.

    An epoch is three tenths of the rows, which no memory of a quarter of them holds; a step takes 10 ms.
    """

    def measure(_: float) -> float:
        arrays = feedline.open_arrays(rows.paths, rows=(0, 3 * rows.rows // 10))
        firsts, others = [], []
        with feedline.Feed(arrays, batch_size) as batches:
            for _epoch in range(3):
                iterator, asked = iter(batches), time.perf_counter()
                for number, _batch in enumerate(iterator):
                    (others if number else firsts).append(time.perf_counter() - asked)
                    time.sleep(_STEP_SECONDS)
                    asked = time.perf_counter()
        return max(firsts[1:]) / (median(others) + _STEP_SECONDS)

    return measure


def _read(path: Path, start: int, stop: int) -> None:
    """Bring some rows into the page cache of this process's memory."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        file.seek(start * _FEATURE_BYTES)
        left = (stop - start) * _FEATURE_BYTES
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            left -= len(piece)
