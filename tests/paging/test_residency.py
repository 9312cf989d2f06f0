"""How much of the rows is in memory, asked of a real kernel about real files."""

import os
import stat
import traceback
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import feedline
from feedline.files import file as files
from feedline.paging import residency
from feedline.paging.residency import Window, resident_bytes, windows

MIB = 1 << 20
ROWS = 48 * MIB // 4096  # more than is looked at as a whole


@pytest.fixture
def big(save):
    """Return the path of a file of 48 MiB, and the means to drop it from memory."""
    path = save("features", np.ones((ROWS, 4096), np.uint8))

    def drop():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    return path, drop


def opened(path, **options):
    return feedline.open_arrays({"features": path}, **options)


def cold(path, drop, **options):
    """Open a file of which nothing is in memory; skip where the file system keeps it there."""
    arrays = opened(path, **options)
    drop()
    if resident_bytes(arrays) > MIB:
        assert not os.environ.get("CI"), "the kernel does not drop a file from memory here"
        pytest.skip("the kernel does not drop a file from memory here (tmpfs?)")
    return arrays


def read(path, start, stop):
    """Read part of a file, and nothing ahead of it."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for offset in range(start, stop, MIB):
            os.pread(file.fileno(), min(MIB, stop - offset), offset)


def test_it_follows_what_is_read_and_dropped(big):
    path, drop = big
    arrays = cold(path, drop)
    read(path, 0, 24 * MIB)
    assert resident_bytes(arrays) == pytest.approx(24 * MIB, rel=0.02)
    read(path, 24 * MIB, 49 * MIB)
    assert resident_bytes(arrays) == pytest.approx(arrays.bytes, rel=0.02)
    assert arrays.bytes == 48 * MIB
    drop()
    assert resident_bytes(arrays) < MIB


def test_asking_brings_nothing_into_memory(big):
    arrays = cold(*big)
    for _ in range(20):
        resident_bytes(arrays)
    assert resident_bytes(arrays) == 0


def test_only_the_rows_in_use_count(big):
    path, drop = big
    arrays = cold(path, drop, rows=(ROWS // 2, None))
    read(path, 0, 23 * MIB)
    assert resident_bytes(arrays) == 0
    read(path, 24 * MIB, 36 * MIB)
    assert resident_bytes(arrays) == pytest.approx(12 * MIB, rel=0.02)


def test_a_file_that_was_cut_short_is_in_memory_as_far_as_it_goes(big):
    path, _ = big
    arrays = opened(path)
    read(path, 0, 49 * MIB)
    os.truncate(path, 12 * MIB)
    assert resident_bytes(arrays) == pytest.approx(12 * MIB, rel=0.02)
    os.truncate(path, 0)
    assert resident_bytes(arrays) == 0


def test_rows_in_ram_all_are(big):
    path, drop = big
    arrays = opened(path, residency="memory")
    drop()
    assert resident_bytes(arrays) == arrays.bytes


def test_several_files_and_small_arrays_are_looked_at_as_wholes(save):
    paths = [save(f"part-{number}", np.ones((200, 500), np.uint8)) for number in range(3)]
    arrays = feedline.open_arrays({"features": paths, "labels": save("labels", np.ones(600, np.int32))})
    assert resident_bytes(arrays) == arrays.bytes == 600 * 504


def test_a_hundred_gigabytes_cost_no_more_than_one(tmp_path):
    path = tmp_path / "sparse.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (100 << 18, 4096)})
        file.truncate(file.tell() + (100 << 30))
    arrays = opened(path)
    assert resident_bytes(arrays) < MIB * 500  # the page of the header and what was read ahead of it stand for 400 MiB
    for size in (32 * MIB, 1 << 30, 100 << 30, 1 << 50):
        looked_at = windows([size])
        assert len(looked_at) <= 256
        assert sum(window.stop - window.start for window in looked_at) <= 32 * MIB


@pytest.mark.parametrize(
    "sizes",
    [[1], [4096], [100, 5, 100], [40 * MIB], [100 << 30], [100 << 30, 8], [1 << 30] * 40, [1000] * 5000],
    ids=lambda sizes: f"{len(sizes)} of {sizes[0]}",
)
def test_windows_lie_evenly_within_the_parts(sizes):
    looked_at = windows(sizes)
    assert sum(window.weight for window in looked_at) == 256
    assert all(0 <= window.start < window.stop <= sizes[window.part] for window in looked_at)
    # A part of 8 bytes beside 100 GB is too small to be met.
    assert len({window.part for window in looked_at}) == min(len(sizes) - sizes.count(8), 256)
    for before, after in pairwise(looked_at):
        assert (before.part, before.stop) <= (after.part, after.start) or before.part < after.part


def test_there_is_nothing_to_look_at_where_nothing_is_mapped():
    assert windows([]) == []
    assert windows([4096]) == [Window(0, 0, 4096, 256)]


# --- what the kernel does not tell ---------------------------------------------------------------------------------------------


def as_somebody_else(check):
    """Run `check` in a process of another user, and return whether it held."""
    process = os.fork()
    if not process:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os._exit(0 if check() else 1)
        except BaseException:  # noqa: BLE001 - nothing may come back into the test run
            traceback.print_exc()
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nothing_is_known_of_files_of_another_user(big):
    path, drop = big
    arrays = cold(path, drop)
    file = files.File(path)
    path.chmod(0o644)
    # The file is open already, so that no folder keeps the other user away.
    assert as_somebody_else(lambda: resident_bytes(arrays) is not None), "what is known stays known"
    assert as_somebody_else(lambda: not residency._tells_truth(file.fileno()))
    path.chmod(0o646)
    assert as_somebody_else(lambda: residency._tells_truth(file.fileno()))


def test_a_file_of_the_system_is_told_of_only_to_who_may_write_it():
    path = Path(os.__file__)
    status = path.stat()
    may_write = os.geteuid() in (0, status.st_uid) or bool(stat.S_IMODE(status.st_mode) & 0o002)
    if not may_write and os.access(path, os.W_OK):
        pytest.skip("the group may write the standard library here")
    with path.open("rb") as file:
        assert residency._tells_truth(file.fileno()) == may_write


def test_where_the_kernel_does_not_tell_nothing_is_said(big, monkeypatch):
    monkeypatch.setattr(residency, "_tells_truth", lambda descriptor: False)
    assert resident_bytes(opened(big[0])) is None
