"""Which replica works: the one that holds the Lease. The others watch, so that they can go on within seconds.

Who holds it may write until `valid_until`, by a clock that also runs while the process is stopped; it is looked at
before each write. An overlap of two holders would be harmless even so: names are fixed, and every status write is
guarded by the version that was read.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from feedline_operator.cluster import Cluster
from feedline_operator.errors import ClusterError, ExistsError, GoneError

LEASE_SECONDS: Final = 15
RENEW_DEADLINE_SECONDS: Final = 10
RETRY_SECONDS: Final = 2
_CALL_SECONDS: Final = 3

logger = logging.getLogger(__name__)


class Elector:
    """Holds the Lease, or waits for it.

    Parameters
    ----------
    namespace, name
        Where the Lease is.
    identity
        This replica, unlike any other, also unlike itself before a restart.
    """

    def __init__(self, namespace: str, name: str, identity: str) -> None:
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._valid_until = 0.0
        # What was read last and when, by our own clock: clocks of two nodes are never compared.
        self._seen: tuple[Any, float] = (None, 0.0)

    def leading(self) -> bool:
        """Return whether this replica may write now."""
        return time.monotonic() < self._valid_until

    def seconds_left(self) -> float:
        """Return how long it may write if the Lease is not renewed."""
        return max(self._valid_until - time.monotonic(), 0.0)

    async def run(self, cluster: Cluster, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `lead` whenever this replica holds the Lease, and cancel it when it does not any more."""
        try:
            while True:
                await self._until_held(cluster)
                logger.info("leading as %s", self._identity)
                work = asyncio.create_task(lead(), name="lead")
                try:
                    await self._while_held(cluster, work)
                finally:
                    self._valid_until = 0.0
                    work.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await work
                logger.warning("not leading any more; standing by")
        finally:
            self._valid_until = 0.0

    async def release(self, cluster: Cluster) -> None:
        """Give the Lease up, so that another replica need not wait for its end."""
        self._valid_until = 0.0
        with contextlib.suppress(ClusterError, TimeoutError):
            async with asyncio.timeout(_CALL_SECONDS):
                lease = await cluster.get_lease(self._namespace, self._name)
                if lease["spec"].get("holderIdentity") == self._identity:
                    await cluster.replace_lease({**lease, "spec": {**lease["spec"], "holderIdentity": ""}})

    async def _until_held(self, cluster: Cluster) -> None:
        while not await self._try(cluster):  # noqa: ASYNC110 - the Lease is polled, nobody tells us
            await asyncio.sleep(RETRY_SECONDS * random.uniform(1.0, 1.2))  # noqa: S311

    async def _while_held(self, cluster: Cluster, work: asyncio.Task[None]) -> None:
        while self.leading():
            await asyncio.wait({work}, timeout=RETRY_SECONDS)
            if work.done():
                work.result()
                return
            if not self.leading():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.seconds_left()):
                    await self._try(cluster)

    async def _try(self, cluster: Cluster) -> bool:
        """Take or renew the Lease; whatever goes wrong, it was not renewed."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                held = await self._take(cluster)
        except (ClusterError, TimeoutError) as error:
            logger.info("the Lease was not renewed: %r", error)
            return False
        if held:
            self._valid_until = began + RENEW_DEADLINE_SECONDS
        elif self.leading():
            # Somebody else took it: there is nothing to wait for.
            self._valid_until = 0.0
        return held

    async def _take(self, cluster: Cluster) -> bool:
        try:
            lease = await cluster.get_lease(self._namespace, self._name)
        except GoneError:
            with contextlib.suppress(ExistsError):
                await cluster.create_lease(self._body(None))
                return True
            return False
        holder = lease["spec"].get("holderIdentity")
        if holder and holder != self._identity and not self._expired(lease):
            return False
        await cluster.replace_lease(self._body(lease))
        return True

    def _expired(self, lease: Any) -> bool:
        mark = (lease["spec"].get("holderIdentity"), lease["spec"].get("renewTime"))
        if mark != self._seen[0]:
            self._seen = (mark, time.monotonic())
        duration = lease["spec"].get("leaseDurationSeconds") or LEASE_SECONDS
        return time.monotonic() - self._seen[1] > duration

    def _body(self, lease: Any) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = {} if lease is None else lease["spec"]
        taken = old.get("holderIdentity") != self._identity
        metadata = {"namespace": self._namespace, "name": self._name} if lease is None else lease["metadata"]
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": now,
                "acquireTime": now if taken else old.get("acquireTime", now),
                "leaseTransitions": old.get("leaseTransitions", 0) + (1 if taken and lease is not None else 0),
            },
        }
