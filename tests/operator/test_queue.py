"""The queue of keys, in simulated time."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.clock import now, simulate

from feedline_operator.attend import attend
from feedline_operator.queue import WorkQueue
from feedline_operator.store import Key

A, B, C = (Key("team", name) for name in "abc")


async def take(queue, seconds=0.0):
    """Return the next key, None if none comes within this time."""
    try:
        async with asyncio.timeout(seconds):
            return await queue.get()
    except TimeoutError:
        return None


def test_a_key_that_is_added_twice_is_worked_on_once():
    async def main():
        queue = WorkQueue()
        for key in (A, B, A, A, B):
            queue.add(key)
        assert len(queue) == 2
        return [await queue.get(), await queue.get(), await take(queue, 5)]

    assert simulate(main()) == [A, B, None]


def test_who_begins_to_work_finds_that_nothing_has_waited_for_him():
    async def main():
        queue = WorkQueue()
        queue.add(A)
        queue.add(B)
        await asyncio.sleep(400)
        assert queue.oldest_seconds() == 400
        waited = []

        async def reconcile(_):
            waited.append(queue.oldest_seconds())

        worker = asyncio.create_task(attend(queue, reconcile, lambda *_: None, 1))
        await asyncio.sleep(5)
        worker.cancel()
        assert waited == [0, 0], "of the other one, while the first is worked on, and of none"

    simulate(main())


def test_a_key_comes_back_if_it_was_added_while_it_was_worked_on():
    async def main():
        queue = WorkQueue()
        queue.add(A)
        assert await queue.get() == A
        queue.add(A)
        queue.add(A)
        assert await take(queue, 5) is None, "worked on by two at once"
        queue.done(A)
        assert await take(queue) == A
        queue.done(A)
        assert await take(queue, 5) is None

    simulate(main())


def test_a_delayed_key_comes_when_it_is_due_and_once():
    async def main():
        queue, began = WorkQueue(), now()
        queue.add_after(A, 30)
        queue.add_after(A, 10)
        queue.add_after(A, 20)
        queue.add_after(B, -5)
        assert await queue.get() == B
        queue.done(B)
        assert await queue.get() == A
        assert now() - began == 10
        queue.done(A)
        assert await take(queue, 100) is None

    simulate(main())


def test_a_key_that_is_due_while_it_is_worked_on_waits_for_its_end():
    async def main():
        queue = WorkQueue()
        queue.add(A)
        await queue.get()
        queue.add_after(A, 1)
        assert await take(queue, 5) is None
        queue.done(A)
        assert await take(queue) == A

    simulate(main())


def test_who_waits_is_woken():
    async def main():
        queue = WorkQueue()
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(1)
        queue.add(A)
        queue.add(B)
        queue.add_after(C, 2)
        return set(await asyncio.gather(*workers))

    assert simulate(main()) == {A, B, C}


def test_the_delay_of_a_failing_key_grows_and_is_bounded():
    async def main():
        queue = WorkQueue()
        delays = [queue.retry(A) for _ in range(40)]
        longest = [min(2.0**n, 300) for n in range(40)]
        assert all(most / 2 <= delay <= most for delay, most in zip(delays, longest, strict=True))
        queue.forget(A)
        assert queue.retry(A) <= 1
        assert queue.retry(B, at_least=60) == 60

    simulate(main())


def test_a_failure_of_one_key_delays_no_other():
    async def main():
        queue, began = WorkQueue(), now()
        queue.retry(A, at_least=60)
        queue.add(B)
        assert await queue.get() == B
        assert await queue.get() == A
        assert now() - began == 60

    simulate(main())


def test_the_age_of_the_oldest_key():
    async def main():
        queue = WorkQueue()
        assert queue.oldest_seconds() == 0
        queue.add(A)
        await asyncio.sleep(5)
        queue.add(B)
        queue.add(A)
        assert queue.oldest_seconds() == 5
        await queue.get()
        assert queue.oldest_seconds() == 0

    simulate(main())


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "after", "retry"]), st.integers(0, 5), st.integers(0, 4)),
    max_size=25,
)


@settings(max_examples=60)
@given(STEPS, st.integers(1, 4))
def test_every_key_is_worked_on_after_it_was_last_added_and_by_one_at_a_time(steps, workers):
    async def main():
        queue, working, ended = WorkQueue(), set(), {}

        async def work():
            while True:
                key = await queue.get()
                assert key not in working
                working.add(key)
                began = now()
                await asyncio.sleep(3)
                working.remove(key)
                ended[key] = began
                queue.done(key)

        tasks = [asyncio.create_task(work()) for _ in range(workers)]
        added = {}
        for name, how, seconds, pause in steps:
            key = Key("team", name)
            match how:
                case "add":
                    queue.add(key)
                case "after":
                    queue.add_after(key, seconds)
                case "retry":
                    queue.retry(key)
            added[key] = now()
            await asyncio.sleep(pause)
        await asyncio.sleep(2000)
        assert not [task for task in tasks if task.done()]
        assert len(queue) == 0
        assert all(ended[key] >= time for key, time in added.items())
        for task in tasks:
            task.cancel()

    simulate(main())
