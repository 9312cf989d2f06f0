"""Many pieces of a file by one system call: the same bytes as by many, and nothing else brought into memory."""

import contextlib
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from cold import PAGE, eventually, on_disk, pages, touched, warm
from hypothesis import given
from hypothesis import strategies as st

from feedline.files import aio as reads
from feedline.files.aio import Queue, begin, read

SIZE = 4 << 20
CONTENT = np.random.default_rng(3).integers(0, 256, SIZE - 1000, np.uint8)
"""Of the file, whose last page is not full."""
FAR_APART = np.random.default_rng(4).permutation(np.arange(0, SIZE - 64 * 1024, 32 * PAGE))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Return the path of a file of some MB."""
    path = tmp_path_factory.mktemp("reads") / "content"
    path.write_bytes(CONTENT.tobytes())
    return path


@pytest.fixture(scope="module")
def descriptor(path):
    """Return a descriptor of the file that reads what is asked for alone, as those of feeds do."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        yield file.fileno()


@pytest.fixture
def cold(path, descriptor):
    """Return the descriptor, nothing of the file in memory."""
    on_disk(path)
    return descriptor


# What the kernel of another machine, or a container's seccomp profile, may refuse.
NO_SUCH_CALL = 100_000
KERNELS = {"takes lists": {}, "knows no queue": {"_SETUP": NO_SUCH_CALL}, "takes no list": {"_SUBMIT": NO_SUCH_CALL}}


@contextlib.contextmanager
def kernel(changes):
    """Change numbers of system calls, for a thread that has no queue yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reads, "_of_thread", threading.local())
        for name, value in changes.items():
            patch.setattr(reads, name, value)
        yield


@pytest.fixture(params=KERNELS.values(), ids=KERNELS)
def any_kernel(request):
    """Run the test with each kind of kernel."""
    with kernel(request.param):
        yield


def target(count, length, fill=0xEE):
    """Return memory for pieces, ``[count, length]`` uint8, and where each begins."""
    out = np.full((count, length), fill, np.uint8)
    return out, out.__array_interface__["data"][0] + length * np.arange(count)


@pytest.mark.parametrize("changes", KERNELS.values(), ids=KERNELS)
@given(pieces=st.lists(st.integers(0, len(CONTENT) + 3 * PAGE), min_size=1, max_size=40), length=st.integers(1, 9000))
def test_pieces_come_to_their_places_as_far_as_the_file_goes(descriptor, changes, pieces, length):
    with kernel(changes):
        out, addresses = target(2 * len(pieces), length)
        counts = read(descriptor, np.array(pieces), length, addresses[1::2])
    for offset, count, piece in zip(pieces, counts.tolist(), out[1::2], strict=True):
        assert count == max(0, min(length, len(CONTENT) - offset))
        assert (piece[:count] == CONTENT[offset : offset + count]).all()
        assert (piece[count:] == 0xEE).all()
    assert (out[::2] == 0xEE).all(), "what lies between was written to"


@pytest.mark.usefixtures("any_kernel")
def test_there_may_be_more_pieces_than_one_call_takes(cold):
    offsets = np.random.default_rng(5).integers(0, len(CONTENT) - 100, 2 * reads._AT_ONCE + 77)
    out, addresses = target(len(offsets), 100)
    assert (read(cold, offsets, 100, addresses) == 100).all()
    assert (out == CONTENT[offsets[:, None] + np.arange(100)]).all()


@pytest.mark.usefixtures("any_kernel")
def test_no_pieces_are_none(descriptor):
    assert len(read(descriptor, np.empty(0, np.intp), 100, np.empty(0, np.intp))) == 0


@pytest.mark.usefixtures("any_kernel")
def test_where_nothing_can_be_read_each_piece_says_why(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    out, addresses = target(3, 10)
    try:
        assert read(folder, np.arange(3), 10, addresses).tolist() == [-errno.EISDIR] * 3
    finally:
        os.close(folder)
    assert read(folder, np.arange(3), 10, addresses).tolist() == [-errno.EBADF] * 3
    assert (out == 0xEE).all()


def test_the_order_in_which_the_kernel_is_done_does_not_matter(descriptor, monkeypatch):
    wait = Queue.wait
    monkeypatch.setattr(Queue, "wait", lambda queue, least: tuple(part[::-1] for part in wait(queue, least)))
    offsets = len(CONTENT) - np.array([100, 3, 50, 0, 20])
    assert read(descriptor, offsets, 60, target(5, 60)[1]).tolist() == [60, 3, 50, 0, 20]


@pytest.mark.usefixtures("any_kernel")
def test_a_piece_that_fails_does_not_keep_the_others(descriptor):
    out, addresses = target(3, 10)
    addresses[1] = PAGE  # no process has memory there
    assert read(descriptor, np.array([0, 50, 100]), 10, addresses).tolist() == [10, -errno.EFAULT, 10]
    assert (out[0] == CONTENT[:10]).all()
    assert (out[2] == CONTENT[100:110]).all()
    assert read(descriptor, np.array([200, 250, 300]), 10, target(3, 10)[1]).tolist() == [10, 10, 10]


# --- beginning without waiting -------------------------------------------------------------------------------------------------


def begun(descriptor, offsets, lengths):
    copied = np.empty(64 * 1024, np.uint8)
    return begin(descriptor, offsets, np.broadcast_to(lengths, offsets.shape), copied.__array_interface__["data"][0])


def test_what_was_begun_comes_into_memory_and_nothing_else(path, cold):
    assert begun(cold, FAR_APART, 2 * PAGE) < 0.5
    asked_for = touched(FAR_APART, 2 * PAGE, len(pages(path)))
    eventually(lambda: pages(path)[asked_for].mean() > 0.98)
    assert not pages(path)[~asked_for].any()


def test_of_pieces_that_are_in_memory_all_are_said_to_be(path, cold):
    warm(path)
    assert begun(cold, FAR_APART, 2 * PAGE) > 0.98


def test_a_piece_counts_as_in_memory_only_as_a_whole(path, cold):
    half = FAR_APART[::2]
    begun(cold, half, PAGE)
    there = touched(half, PAGE, len(pages(path)))
    eventually(lambda: pages(path)[there].mean() > 0.98)
    assert begun(cold, half, PAGE) > 0.98
    # Of the other half nothing is there, and of this one the first page of two.
    assert begun(cold, FAR_APART, 2 * PAGE) < 0.5
    eventually(lambda: begun(cold, FAR_APART, 2 * PAGE) > 0.98)


def test_pieces_may_differ_in_length_and_be_more_than_one_call_takes(path, cold):
    offsets = np.arange(0, SIZE - 4 * PAGE, PAGE // 2)
    lengths = np.resize([1, PAGE, 3 * PAGE], len(offsets))
    assert len(offsets) > 2 * reads._AT_ONCE
    warm(path)
    assert begun(cold, offsets, lengths) > 0.98


@pytest.mark.parametrize("taken", [0, 1], ids=["no list", "one list"])
def test_what_a_file_system_will_not_begin_is_asked_for_by_advice(path, cold, monkeypatch, taken):
    """Not every file system knows RWF_NOWAIT."""
    told, run = [], Queue.run

    def sometimes(queue, *arguments):
        told.append(arguments)
        return run(queue, *arguments) if len(told) <= taken else None

    monkeypatch.setattr(Queue, "run", sometimes)
    offsets = np.random.default_rng(6).permutation(np.arange(0, SIZE - PAGE, PAGE)[:1000])
    assert begun(cold, offsets, PAGE) is None
    eventually(lambda: pages(path)[:1000].mean() > 0.98)
    assert not pages(path)[1000:].any()


@pytest.mark.parametrize("refused", ["_SETUP", "_SUBMIT"])
def test_without_lists_pieces_are_asked_for_by_advice(path, cold, refused):
    with kernel({refused: NO_SUCH_CALL}):
        assert begun(cold, FAR_APART, PAGE) is None
    asked_for = touched(FAR_APART, PAGE, len(pages(path)))
    eventually(lambda: pages(path)[asked_for].mean() > 0.98)
    assert not pages(path)[~asked_for].any()


# --- queues and threads --------------------------------------------------------------------------------------------------------


def queues():
    """Return the kernel's queues of this process, each of which it maps somewhere in it."""
    return {line.split("-")[0] for line in Path("/proc/self/maps").read_text().splitlines() if "[aio]" in line}


def test_each_thread_has_a_queue_of_its_own_and_it_ends_with_the_thread(descriptor):
    before, at_once = queues(), threading.Barrier(5, timeout=20)
    right = []

    def reading(seed):
        random = np.random.default_rng(seed)
        for _ in range(20):
            offsets = random.integers(0, len(CONTENT) - 300, 700)
            out, addresses = target(len(offsets), 300)
            counts = read(descriptor, offsets, 300, addresses)
            right.append((counts == 300).all() and (out == CONTENT[offsets[:, None] + np.arange(300)]).all())
        at_once.wait()
        at_once.wait()

    threads = [threading.Thread(target=reading, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    at_once.wait()
    meanwhile = queues() - before
    at_once.wait()
    for thread in threads:
        thread.join()
    assert len(meanwhile) == 4
    assert len(right) == 80
    assert all(right)
    eventually(lambda: not queues() & meanwhile)


def test_a_thread_asks_for_a_queue_once(descriptor, monkeypatch):
    asked = []

    def none_left(depth):
        asked.append(depth)
        raise OSError(errno.EAGAIN, "io_setup")

    with kernel({"Queue": none_left}):
        for _ in range(3):
            assert (read(descriptor, np.arange(9), 5, target(9, 5)[1]) == 5).all()
    assert asked == [reads._AT_ONCE]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_reads_though_the_queue_is_its_parents(descriptor):
    offsets = np.arange(0, 6000, 7)

    def is_right():
        out, addresses = target(len(offsets), 300)
        counts = read(descriptor, offsets, 300, addresses)
        return bool((counts == 300).all() and (out == CONTENT[offsets[:, None] + np.arange(300)]).all())

    assert is_right()
    child = os.fork()
    if child == 0:
        os._exit(0 if is_right() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_right()


@pytest.mark.parametrize("changes", [{"_SETUP": -1}, {"_SETUP": NO_SUCH_CALL}], ids=["by us", "by the kernel"])
def test_a_queue_that_cannot_be_had_is_an_error_with_its_number(changes):
    with kernel(changes), pytest.raises(OSError, match="io_setup") as refused:
        Queue(8)
    assert refused.value.errno == errno.ENOSYS


def test_a_queue_longer_than_the_machine_allows_is_refused():
    most = int(Path("/proc/sys/fs/aio-max-nr").read_text())
    with pytest.raises(OSError, match="io_setup") as refused:
        Queue(2 * most)
    assert refused.value.errno in (errno.EAGAIN, errno.EINVAL, errno.ENOMEM)


def test_some_of_the_requests_of_a_queue_can_be_begun_with(descriptor):
    queue = Queue(4)
    out, addresses = target(4, 10)
    queue.requests["file"], queue.requests["length"] = descriptor, 10
    queue.requests["offset"], queue.requests["address"] = [0, 100, len(CONTENT) - 4, 300], addresses
    assert queue.submit(np.array([2, 0])) == 2
    numbers, results = queue.wait(2)
    assert dict(zip(numbers.tolist(), results.tolist(), strict=True)) == {2: 4, 0: 10}
    assert (out[0] == CONTENT[:10]).all()
    assert (out[[1, 3]] == 0xEE).all()
