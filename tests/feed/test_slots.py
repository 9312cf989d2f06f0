"""Slots: aligned memory that is reused when nobody holds it, and only then."""

import gc
import threading

import numpy as np
import pytest

from feedline.feed.slots import ALIGNMENT, Pool, aligned, allocate

HOLDS = {
    "itself": lambda memory: memory,
    "a slice": lambda memory: memory[8:16],
    "a view of a view": lambda memory: memory.view(np.float32).reshape(2, -1)[1:].T,
    "an ndarray over its buffer": lambda memory: np.ndarray((4,), np.int32, memory, 16),
    "a memoryview": memoryview,
    "an ndarray of a memoryview": lambda memory: np.asarray(memoryview(memory))[4:],
    "a DLPack import": lambda memory: np.from_dlpack(memory.view(np.int32)[2:]),
}


def address(memory):
    return memory.__array_interface__["data"][0]


@pytest.mark.parametrize(("size", "expected"), [(0, 0), (1, 64), (63, 64), (64, 64), (65, 128), (25_000, 25_024)])
def test_sizes_round_up_to_the_alignment(size, expected):
    assert aligned(size) == expected


@pytest.mark.parametrize("size", [1, 63, 64, 65, 4097, 1 << 20])
def test_memory_starts_on_a_boundary(size):
    memory = allocate(size)
    assert memory.shape == (size,)
    assert address(memory) % ALIGNMENT == 0


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_memory_is_not_reused_while_it_is_held_by(hold):
    pool = Pool(64, kept=4)
    first = pool.take()
    first[:] = 7
    where = address(first)
    held = hold(first)
    del first
    others = [pool.take() for _ in range(3)]
    for other in others:
        other[:] = 9
    assert where not in map(address, others)
    assert b"\x09" not in bytes(memoryview(held).tobytes())


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_memory_is_reused_as_soon_as_it_is_no_longer_held_by(hold):
    pool = Pool(64, kept=4)
    first = pool.take()
    where = address(first)
    held = hold(first)
    del first
    del held
    assert address(pool.take()) == where


def test_memory_held_in_a_cycle_comes_back_after_a_garbage_collection():
    pool = Pool(64, kept=4)
    cycle = [pool.take()]
    where = address(cycle[0])
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert address(pool.take()) == where


def test_all_held_slots_are_different_memory():
    pool = Pool(64, kept=2)
    held = [pool.take() for _ in range(20)]
    for number, memory in enumerate(held):
        memory[:] = number
    assert [set(memory.tolist()) for memory in held] == [{number} for number in range(20)]


def test_no_more_memory_than_agreed_is_kept_for_later():
    made = []

    def counted(size):
        made.append(size)
        return allocate(size)

    pool = Pool(64, kept=2, allocate=counted)
    held = [pool.take() for _ in range(10)]
    held.clear()
    held = [pool.take() for _ in range(10)]
    assert len(made) == 10 + 8
    assert set(made) == {64}


def test_threads_never_share_memory():
    pool = Pool(64, kept=8)
    spoiled = []

    def work(number):
        for _ in range(500):
            memory = pool.take()
            memory[:] = number
            if set(memory.tolist()) != {number}:
                spoiled.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not spoiled
