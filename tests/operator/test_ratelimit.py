"""The token bucket, in simulated time."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.clock import now, simulate

from feedline_operator.ratelimit import TokenBucket


def test_a_burst_is_free_and_the_rest_comes_at_the_rate():
    async def main():
        bucket, began, times = TokenBucket(10, 5), now(), []
        for _ in range(8):
            await bucket.take()
            times.append(round(now() - began, 6))
        return times

    assert simulate(main()) == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3]


def test_nobody_saves_more_than_a_burst():
    async def main():
        bucket = TokenBucket(10, 2)
        await asyncio.sleep(1000)
        began = now()
        for _ in range(4):
            await bucket.take()
        return round(now() - began, 6)

    assert simulate(main()) == 0.2


def test_who_comes_first_is_served_first():
    async def main():
        bucket, order = TokenBucket(1, 1), []

        async def take(number):
            await bucket.take()
            order.append(number)

        await asyncio.gather(*(take(number) for number in range(5)))
        return order

    assert simulate(main()) == [0, 1, 2, 3, 4]


@settings(max_examples=50)
@given(st.lists(st.floats(0, 3), max_size=40), st.integers(1, 5), st.integers(1, 4))
def test_in_no_time_are_there_more_than_the_rate_and_one_burst(pauses, rate, burst):
    async def main():
        bucket, times = TokenBucket(rate, burst), []
        for pause in pauses:
            await asyncio.sleep(pause)
            await bucket.take()
            times.append(now())
        for first in range(len(times)):
            for last in range(first, len(times)):
                assert last - first + 1 <= burst + rate * (times[last] - times[first]) + 1e-6

    simulate(main())


def test_who_does_not_wait_takes_only_what_is_there():
    async def main():
        bucket = TokenBucket(2, 3)
        assert not bucket.take_now(4)
        assert bucket.take_now(3)
        assert not bucket.take_now(1)
        await asyncio.sleep(0.5)
        assert bucket.take_now(1)

    simulate(main())
