"""What a disk and memory give, measured for real: that it is measured and of what, not how much it is."""

import errno
import math
import os
from pathlib import Path

import numpy as np
import pytest
from cold import forget, on_disk, pages

import feedline
from feedline.contract import ExitCode
from feedline.errors import EnvironmentInvalidError, InputMissingError, StorageError
from feedline.files.aio import Queue
from feedline.paging import disk as calibrate
from feedline.paging.disk import DEPTH, DiskLimits, copied_bytes_per_second, disk_limits, largest_file, reads_per_second
from feedline.paging.limits import limits_of

ROWS, WIDTH = 27_000, 2500
PAGE = 4096
BRIEFLY = 0.04


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a file of 67 MB, and labels."""
    folder = tmp_path_factory.mktemp("calibrate")
    np.save(folder / "features.npy", np.random.default_rng(0).integers(0, 256, (ROWS, WIDTH), np.uint8))
    np.save(folder / "labels.npy", np.arange(ROWS, dtype=np.int32))
    return on_disk(folder)


@pytest.fixture
def path(folder):
    """Return the path of the large file."""
    return folder / "features.npy"


@pytest.fixture
def requests(monkeypatch):
    """Return what is asked of the disk: arrays of offsets, each with the length of its reads and how many were free."""
    seen, submit = [], Queue.submit

    def seen_submit(queue, numbers):
        chosen = queue.requests[numbers]
        seen.append((chosen["offset"].copy(), chosen["length"].copy(), len(queue.requests)))
        return submit(queue, numbers)

    monkeypatch.setattr(Queue, "submit", seen_submit)
    return seen


def is_measured(number):
    return math.isfinite(number) and number > 0


@pytest.mark.parametrize(("row_bytes", "read_bytes"), [(1, PAGE), (PAGE, PAGE), (WIDTH + PAGE, 2 * PAGE)])
def test_a_disk_is_measured_by_reads_of_whole_pages(path, row_bytes, read_bytes):
    limits = disk_limits(path, row_bytes, seconds=BRIEFLY)
    assert limits.read_bytes == read_bytes
    assert is_measured(limits.reads_per_second)
    assert is_measured(limits.bytes_per_second)
    assert limits.break_even_bytes == limits.bytes_per_second / limits.reads_per_second


def test_it_is_read_at_random_and_then_in_order(path, requests):
    disk_limits(path, WIDTH, seconds=BRIEFLY)
    size = path.stat().st_size
    at_random = np.concatenate([offsets for offsets, lengths, depth in requests if depth == DEPTH])
    in_order = np.concatenate([offsets for offsets, lengths, depth in requests if depth != DEPTH])
    for offsets in (at_random, in_order):
        assert (offsets % PAGE == 0).all()
        assert ((offsets >= 0) & (offsets < size - PAGE)).all()
    assert len(np.unique(at_random)) > min(len(at_random), size // PAGE) / 2
    steps = np.diff(in_order)
    assert set(steps[steps > 0].tolist()) == {1 << 20}
    assert all((lengths == (PAGE if depth == DEPTH else 1 << 20)).all() for _, lengths, depth in requests)


@pytest.mark.parametrize("depth", [1, 8, 128])
def test_so_many_reads_are_kept_under_way(path, requests, depth):
    assert is_measured(reads_per_second(path, PAGE, depth, BRIEFLY))
    assert len(requests[0][0]) == depth
    assert {queue for _, _, queue in requests} == {depth}


def descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_measuring_brings_nothing_into_memory_and_leaves_no_descriptor(path):
    forget(path)
    before = descriptors()
    disk_limits(path, WIDTH, seconds=BRIEFLY)
    assert pages(path).mean() < 0.1
    assert descriptors() == before


def test_the_break_even_is_what_is_read_in_order_in_the_time_of_a_request():
    assert DiskLimits(1000, PAGE, 50_000_000).break_even_bytes == 50_000


def test_memory_is_measured_by_all_threads_together():
    assert is_measured(copied_bytes_per_second(1, seconds=0.01))
    assert is_measured(copied_bytes_per_second(3, seconds=0.01))


# --- what cannot be measured ---------------------------------------------------------------------------------------------------


def failing(error):
    def opened(*arguments, **options):
        raise OSError(error, os.strerror(error))

    return opened


def test_a_file_system_without_a_way_past_the_page_cache_is_the_environments_fault(path, monkeypatch):
    monkeypatch.setattr(calibrate.os, "open", failing(errno.EINVAL))
    with pytest.raises(
        EnvironmentInvalidError, match=f"^{path}: its file system cannot be read past the page cache$"
    ) as error:
        disk_limits(path, WIDTH, BRIEFLY)
    assert error.value.exit_code == ExitCode.ENVIRONMENT == 78


def test_a_file_that_cannot_be_opened_is_missing(folder):
    with pytest.raises(InputMissingError, match=r"other.npy: cannot be opened \(No such file or directory\)"):
        disk_limits(folder / "other.npy", WIDTH, BRIEFLY)


def test_a_kernel_without_queues_is_the_environments_fault(path, monkeypatch):
    monkeypatch.setattr(calibrate, "Queue", failing(errno.ENOSYS))
    with pytest.raises(EnvironmentInvalidError, match=r"gives no queue to read it \(Function not implemented\)"):
        disk_limits(path, WIDTH, BRIEFLY)


def test_a_disk_that_fails_is_said_to(path, monkeypatch):
    wait = Queue.wait

    def failed(queue, least):
        numbers, results = wait(queue, least)
        results[:1] = -errno.EIO
        return numbers, results

    monkeypatch.setattr(Queue, "wait", failed)
    with pytest.raises(StorageError, match=r"features.npy: cannot be read \(Input/output error\)"):
        disk_limits(path, WIDTH, BRIEFLY)


def test_a_disk_that_takes_no_requests_is_said_to(path, monkeypatch):
    monkeypatch.setattr(Queue, "submit", lambda queue, numbers: -1)
    with pytest.raises(StorageError, match="cannot be read past the page cache"):
        disk_limits(path, WIDTH, BRIEFLY)


def test_the_largest_file_of_a_folder_is_measured_wherever_it_lies(folder, tmp_path):
    (tmp_path / "link.npy").symlink_to(folder / "features.npy")
    inner = tmp_path / "some" / "where"
    inner.mkdir(parents=True)
    with (inner / "large.npy").open("wb") as file:
        file.truncate(calibrate.LEAST_BYTES)
    (tmp_path / "small.npy").write_bytes(b"1")
    assert largest_file(tmp_path) == inner / "large.npy"
    assert largest_file(folder) == folder / "features.npy"


def test_a_folder_without_a_large_file_is_refused(tmp_path):
    for name in ("empty", "small"):
        (tmp_path / name).mkdir()
    with (tmp_path / "small" / "a.npy").open("wb") as file:
        file.truncate(calibrate.LEAST_BYTES - 1)
    for name in ("empty", "small"):
        with pytest.raises(InputMissingError, match="holds no file of 64 MiB") as error:
            largest_file(tmp_path / name)
        assert error.value.exit_code == ExitCode.NO_INPUT


# --- what a run is held against ------------------------------------------------------------------------------------------------


def test_where_all_fits_only_memory_is_measured(folder, requests):
    limits = limits_of(feedline.open_arrays(folder), threads=1, memory_bytes=10 << 30)
    assert is_measured(limits.memcpy)
    assert limits.disk_random is limits.disk_sequential is None
    assert requests == []


def test_where_it_does_not_the_disk_is_measured_too(folder, requests):
    limits = limits_of(feedline.open_arrays(folder), threads=1, memory_bytes=64 << 20)
    assert is_measured(limits.memcpy)
    assert is_measured(limits.disk_random)
    assert is_measured(limits.disk_sequential)
    assert requests[0][1].tolist() == [PAGE] * DEPTH


def test_of_rows_in_memory_no_disk_is_measured(folder, requests):
    limits = limits_of(feedline.open_arrays(folder, residency="memory"), threads=1, memory_bytes=64 << 20)
    assert limits.disk_random is limits.disk_sequential is None
    assert requests == []


def test_small_arrays_are_no_reason_to_measure_a_disk(folder, requests):
    """They are kept, though there be so many that they do not fit."""
    arrays = feedline.open_arrays({f"labels-{number}": folder / "labels.npy" for number in range(9)})
    limits = limits_of(arrays, threads=1, memory_bytes=16 * 4 * ROWS)
    assert limits.disk_random is limits.disk_sequential is None
    assert requests == []


FILES = {"of one row": (1, 3_000_000), "of a page": (1, PAGE), "below a mebibyte": (300, WIDTH), "above": (600, WIDTH)}


@pytest.mark.parametrize("shape", FILES.values(), ids=FILES)
def test_many_small_files_do_not_keep_a_run_from_starting(save, shape):
    paths = [save(f"part-{number}", np.zeros(shape, np.uint8)) for number in range(4)]
    assert is_measured(limits_of(feedline.open_arrays({"features": paths}), threads=1, memory_bytes=4000).memcpy)


def test_large_rows_take_little_memory_to_measure(save, requests):
    arrays = feedline.open_arrays({"features": save("features", np.zeros((4, 20_000_000), np.uint8))})
    limits_of(arrays, threads=1, memory_bytes=64 << 20)
    assert all(lengths.max(initial=0) * depth <= 64 << 20 for _, lengths, depth in requests)


def test_of_a_disk_that_cannot_be_measured_nothing_is_said(folder, monkeypatch):
    arrays = feedline.open_arrays(folder)
    monkeypatch.setattr(calibrate.os, "open", failing(errno.EINVAL))
    limits = limits_of(arrays, threads=1, memory_bytes=64 << 20)
    assert is_measured(limits.memcpy)
    assert limits.disk_random is limits.disk_sequential is None
