"""Sweeps, against lists in memory, in simulated time."""

import asyncio
import contextlib

import pytest
from simulation.clock import now, simulate
from simulation.documents import job, pipeline, pod

from feedline_operator.errors import GoneError, RefusedError, UnreachableError
from feedline_operator.queue import WorkQueue
from feedline_operator.resync import Resync
from feedline_operator.store import Key, Store

KEY = Key("team", "digits")


class Lists:
    """The API server, as far as lists go."""

    def __init__(self, **things):
        self.things = {"sweep": [], "pipeline": [], "job": [], "pod": [], **things}
        self.away = False
        self.lists = []
        self.during = None

    async def list_all(self, kind, namespace):
        self.lists.append((round(now()), kind, namespace))
        await asyncio.sleep(0.1)
        if self.away:
            raise UnreachableError("no answer")
        for thing in list(self.things[kind]):
            yield thing
        if self.during:
            self.during(kind)


@contextlib.asynccontextmanager
async def running(lists, namespaces=(None,), store=None):
    """List everything every ten minutes, once the first is done."""
    store, queue = store or Store(), WorkQueue()
    resync = Resync(store, queue, WorkQueue(), lists, namespaces, 600)
    task = asyncio.create_task(resync.run())
    await asyncio.wait_for(resync.synced.wait(), 60)
    try:
        yield resync, store, queue
    finally:
        assert not task.done()
        task.cancel()


def test_the_first_listing_fills_the_store_before_anybody_decides():
    async def main():
        lists = Lists(pipeline=[pipeline()], job=[job()], pod=[pod()])
        async with running(lists) as (_, store, queue):
            observed = store.observe(KEY)
            assert observed.job is not None
            assert len(observed.pods) == 1
            assert len(queue) == 0

    simulate(main())


def test_the_first_listing_goes_on_until_the_cluster_can_be_read():
    async def main():
        lists = Lists(pipeline=[pipeline()])
        lists.away, began = True, now()
        asyncio.get_running_loop().call_later(20, lambda: setattr(lists, "away", False))
        async with running(lists) as (_, store, _):
            assert 20 < now() - began < 26
            assert store.known() == [KEY]

    simulate(main())


def test_a_deletion_that_no_watch_told_is_found_and_told():
    async def main():
        lists = Lists(pipeline=[pipeline()], job=[job()])
        async with running(lists) as (resync, store, queue):
            lists.things["job"].clear()
            await asyncio.sleep(600)
            assert store.observe(KEY).job is not None, "before its time"
            await asyncio.sleep(10)
            assert store.observe(KEY).job is None
            assert await queue.get() == KEY
            assert resync.missed_in_a_row == 1

    simulate(main())


def test_a_change_that_no_watch_told_is_found_and_told():
    async def main():
        lists = Lists(pipeline=[pipeline()])
        async with running(lists) as (resync, store, queue):
            lists.things["job"] = [job()]
            await asyncio.sleep(610)
            assert store.observe(KEY).job is not None
            assert await queue.get() == KEY
            assert resync.missed_in_a_row == 1

    simulate(main())


def test_what_the_watch_tells_within_some_seconds_was_not_missed():
    async def main():
        lists, store = Lists(pipeline=[pipeline()], pod=[pod()]), Store()
        async with running(lists, store=store) as (resync, _, queue):
            lists.things |= {"job": [job()], "pod": []}
            loop = asyncio.get_running_loop()
            loop.call_later(603, store.put, "job", job())
            loop.call_later(608, store.remove, "pod", pod())
            await asyncio.sleep(620)
            assert resync.missed_in_a_row == 0
            assert len(queue) == 0

    simulate(main())


def test_what_came_while_the_list_was_read_is_not_gone():
    async def main():
        lists, store = Lists(pipeline=[pipeline()]), Store()
        async with running(lists, store=store) as (resync, _, _):
            lists.during = lambda kind: store.put("pod", pod()) if kind == "pod" else None
            await asyncio.sleep(620)
            assert len(store.observe(KEY).pods) == 1
            assert resync.missed_in_a_row == 0

    simulate(main())


def test_after_a_miss_it_sweeps_sooner_and_counts_the_misses_in_a_row():
    async def main():
        lists = Lists(pipeline=[pipeline()])
        async with running(lists) as (resync, _, _):
            found = []
            for wait, pods in ((615, [pod()]), (75, [pod(), pod(name="b")]), (75, None)):
                lists.things["pod"] = pods or lists.things["pod"]
                await asyncio.sleep(wait)
                found.append(resync.missed_in_a_row)
            assert found == [1, 2, 0]

    simulate(main())


def test_a_watch_that_was_opened_anew_brings_a_sweep_at_once_and_is_no_fault():
    async def main():
        lists = Lists(pipeline=[pipeline()], job=[job()])
        async with running(lists) as (resync, store, _):
            lists.things["job"].clear()
            for _ in range(50):
                resync.arm()
            await asyncio.sleep(12)
            assert store.observe(KEY).job is None
            assert resync.missed_in_a_row == 0
            swept = len(lists.lists)
            await asyncio.sleep(500)
            assert len(lists.lists) == swept, "one gap, one sweep"

    simulate(main())


def test_before_the_first_listing_nothing_has_to_be_swept_again():
    async def main():
        lists = Lists()
        resync = Resync(Store(), WorkQueue(), WorkQueue(), lists, (None,), 600)
        resync.arm()
        task = asyncio.create_task(resync.run())
        await asyncio.sleep(100)
        assert len(lists.lists) == 4
        task.cancel()

    simulate(main())


def test_a_listing_that_fails_removes_nothing_and_the_next_one_goes_on():
    async def main():
        lists = Lists(pipeline=[pipeline()], job=[job()])
        async with running(lists) as (_, store, _):
            lists.away = True
            await asyncio.sleep(610)
            assert store.observe(KEY).job is not None
            lists.away, lists.things["job"] = False, []
            await asyncio.sleep(610)
            assert store.observe(KEY).job is None

    simulate(main())


def test_each_namespace_is_listed():
    async def main():
        lists = Lists()
        async with running(lists, ("a", "b")):
            assert {(kind, namespace) for _, kind, namespace in lists.lists} == {
                (kind, namespace) for kind in ("sweep", "pipeline", "job", "pod") for namespace in "ab"
            }

    simulate(main())


SWEEP = {
    "metadata": {"namespace": "a", "name": "rates", "uid": "rates", "resourceVersion": "7"},
    "spec": {},
    "status": {},
}


@pytest.mark.parametrize("namespaces", [(None,), ("a",), ("b", "a")])
def test_sweeps_that_cannot_be_listed_for_once_are_not_forgotten(namespaces):
    class Refusing(Lists):
        refuses = False

        async def list_all(self, kind, namespace):
            if self.refuses and kind == "sweep" and namespace in (None, "a"):
                raise RefusedError("Unauthorized")
            async for thing in super().list_all(kind, namespace):
                if namespace in (None, thing["metadata"]["namespace"]):
                    yield thing

    async def main():
        lists = Refusing(sweep=[SWEEP])
        async with running(lists, namespaces) as (resync, store, _):
            lists.refuses = True
            await asyncio.sleep(610)
            assert store.sweeps() == [SWEEP]
            assert resync.missed_in_a_row == 0
            lists.refuses = False
            await asyncio.sleep(610)
            newer = {**SWEEP, "metadata": {**SWEEP["metadata"], "resourceVersion": "8"}}
            assert store.put("sweep", newer) == Key("a", "rates")
            lists.things["sweep"] = []
            await asyncio.sleep(610)
            assert store.sweeps() == []

    simulate(main())


def test_a_cluster_that_does_not_know_sweeps_is_worked_in_without_them():
    class Older(Lists):
        async def list_all(self, kind, namespace):
            if kind == "sweep":
                raise GoneError("the server could not find the requested resource")
            async for thing in super().list_all(kind, namespace):
                yield thing

    async def main():
        async with running(Older(pipeline=[pipeline()])) as (_, store, _):
            assert store.known() == [KEY]

    simulate(main())
