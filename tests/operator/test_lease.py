"""The election, against a Lease in memory, in simulated time."""

import asyncio
import contextlib
import copy
import itertools

import pytest
from simulation.clock import now, simulate

from feedline_operator import lease
from feedline_operator.errors import ExistsError, GoneError, StaleError, UnreachableError
from feedline_operator.lease import Elector


@pytest.fixture(autouse=True)
def _simulated_clock(monkeypatch):
    class Clock:
        monotonic = staticmethod(lambda: asyncio.get_running_loop().time())

    monkeypatch.setattr(lease, "time", Clock)


class Leases:
    """The API server, as far as one Lease goes; it can be away, slow, or lose an answer."""

    def __init__(self, document=None):
        self.document = document
        self.away = False
        self.slow_seconds = 0.0
        self.lose_answer = False
        self.writes = 0
        self._versions = itertools.count(1)

    async def get_lease(self, namespace, name):
        await self._arrive()
        if self.document is None:
            raise GoneError("not there")
        return copy.deepcopy(self.document)

    async def create_lease(self, body):
        await self._arrive()
        if self.document is not None:
            raise ExistsError("there already")
        return self._keep(body)

    async def replace_lease(self, body):
        await self._arrive()
        if body["metadata"]["resourceVersion"] != self.document["metadata"]["resourceVersion"]:
            raise StaleError("changed")
        return self._keep(body)

    @property
    def holder(self):
        return self.document["spec"]["holderIdentity"]

    def _keep(self, body):
        version = str(next(self._versions))
        self.document = {**copy.deepcopy(body), "metadata": {**body["metadata"], "resourceVersion": version}}
        self.writes += 1
        if self.lose_answer:
            raise UnreachableError("no answer")
        return self.document

    async def _arrive(self):
        await asyncio.sleep(self.slow_seconds)
        if self.away:
            raise UnreachableError("no answer")


class Replica:
    """An elector that runs, and when it led."""

    def __init__(self, leases, name):
        self.leases = leases
        self.elector = Elector("feedline-system", "feedline-operator", name)
        self.led = []
        self.task = asyncio.create_task(self.elector.run(leases, self._lead))

    async def _lead(self):
        self.led.append([now(), None])
        try:
            await asyncio.Event().wait()
        finally:
            self.led[-1][1] = now()

    async def stop(self):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def stop(*replicas):
    for replica in replicas:
        await replica.stop()


def test_the_first_takes_it_and_renews_it():
    async def main():
        leases = Leases()
        replica = Replica(leases, "a")
        await asyncio.sleep(60)
        assert replica.elector.leading()
        assert 8 <= replica.elector.seconds_left() <= 10
        assert len(replica.led) == 1
        assert leases.holder == "a"
        assert leases.document["spec"]["leaseDurationSeconds"] == 15
        assert leases.document["spec"]["leaseTransitions"] == 0
        assert 25 <= leases.writes <= 32
        await stop(replica)
        assert not replica.elector.leading()

    simulate(main())


def test_of_two_only_one_leads():
    async def main():
        leases = Leases()
        replicas = [Replica(leases, "a"), Replica(leases, "b")]
        await asyncio.sleep(120)
        assert [len(replica.led) for replica in replicas] == [1, 0]
        await stop(*replicas)

    simulate(main())


def test_who_creates_it_second_does_not_have_it():
    async def main():
        leases = Leases()
        leases.slow_seconds = 1.0
        replicas = [Replica(leases, "a"), Replica(leases, "b")]
        await asyncio.sleep(10)
        assert sorted(len(replica.led) for replica in replicas) == [0, 1]
        await stop(*replicas)

    simulate(main())


def test_without_the_api_server_nobody_leads_after_ten_seconds():
    async def main():
        leases = Leases()
        replica = Replica(leases, "a")
        await asyncio.sleep(60)
        leases.away, since = True, now()
        await asyncio.sleep(30)
        assert not replica.elector.leading()
        assert 8 <= replica.led[0][1] - since <= 10
        leases.away = False
        await asyncio.sleep(5)
        assert replica.elector.leading()
        assert len(replica.led) == 2
        await stop(replica)

    simulate(main())


def test_a_server_that_does_not_answer_is_one_that_is_away():
    async def main():
        leases = Leases()
        replica = Replica(leases, "a")
        await asyncio.sleep(60)
        leases.slow_seconds, since = 600.0, now()
        await asyncio.sleep(30)
        assert 8 <= replica.led[0][1] - since <= 10
        await stop(replica)

    simulate(main())


def test_another_waits_for_the_end_of_the_lease_by_its_own_clock():
    async def main():
        # The times in it are of a clock that is years ahead.
        spec = {"holderIdentity": "dead", "renewTime": "2099-01-01T00:00:00.000000Z", "leaseDurationSeconds": 15}
        leases = Leases({"metadata": {"resourceVersion": "7"}, "spec": spec})
        began = now()
        replica = Replica(leases, "a")
        await asyncio.sleep(60)
        assert 15 < replica.led[0][0] - began < 18
        assert leases.holder == "a"
        assert leases.document["spec"]["leaseTransitions"] == 1
        await stop(replica)

    simulate(main())


def test_a_lease_that_is_renewed_is_not_taken():
    async def main():
        spec = {"holderIdentity": "alive", "leaseDurationSeconds": 15}
        leases = Leases({"metadata": {"resourceVersion": "0"}, "spec": spec})
        replica = Replica(leases, "a")
        for beat in range(20):
            leases.document["spec"]["renewTime"] = str(beat)
            await asyncio.sleep(10)
        assert replica.led == []
        await stop(replica)

    simulate(main())


def test_a_lease_that_was_given_up_is_taken_at_once():
    async def main():
        leases = Leases()
        first, second = Replica(leases, "a"), Replica(leases, "b")
        await asyncio.sleep(60)
        await first.stop()
        since = now()
        await first.elector.release(leases)
        assert leases.holder == ""
        await asyncio.sleep(5)
        assert second.led[0][0] - since <= 2.4
        await first.elector.release(leases)
        assert leases.holder == "b", "given up by somebody who does not hold it"
        await stop(second)

    simulate(main())


def test_giving_up_does_not_wait_for_a_server_that_is_away():
    async def main():
        leases = Leases()
        replica = Replica(leases, "a")
        await asyncio.sleep(5)
        await replica.stop()
        leases.slow_seconds, since = 600.0, now()
        await replica.elector.release(leases)
        assert now() - since == 3
        leases.slow_seconds, leases.away = 0.0, True
        await replica.elector.release(leases)

    simulate(main())


def test_who_finds_the_lease_with_another_stops_at_once():
    async def main():
        leases = Leases()
        replica = Replica(leases, "a")
        await asyncio.sleep(10)
        leases.document["spec"]["holderIdentity"], since = "b", now()
        await asyncio.sleep(4)
        assert replica.led[0][1] - since <= 2
        await stop(replica)

    simulate(main())


def test_a_renewal_whose_answer_is_lost_is_none_and_the_next_one_is():
    async def main():
        leases = Leases()
        replica = Replica(leases, "a")
        await asyncio.sleep(5)
        leases.lose_answer = True
        await asyncio.sleep(6)
        leases.lose_answer = False
        await asyncio.sleep(60)
        assert len(replica.led) == 1
        await stop(replica)

    simulate(main())


def test_whoever_may_write_is_the_only_one_whatever_happens():
    async def main():
        leases = Leases()
        replicas = [Replica(leases, name) for name in "abc"]

        async def watch():
            while True:
                assert sum(replica.elector.leading() for replica in replicas) <= 1
                await asyncio.sleep(0.25)

        watcher = asyncio.create_task(watch())
        for seconds in (30, 20, 7, 12, 40):
            leases.away = False
            await asyncio.sleep(seconds)
            leases.away = True
            await asyncio.sleep(seconds / 2)
        assert not watcher.done()
        watcher.cancel()
        await stop(*replicas)

    simulate(main())


def test_a_fault_in_the_work_ends_the_process():
    async def main():
        async def fail():
            raise ValueError("a fault")

        elector = Elector("feedline-system", "feedline-operator", "a")
        with pytest.raises(ValueError, match="a fault"):
            await elector.run(Leases(), fail)
        assert not elector.leading()

    simulate(main())
