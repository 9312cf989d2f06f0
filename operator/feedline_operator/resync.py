"""LIST everything, now and then, and put right what the watches missed.

A watch that had a gap says nothing of what was deleted meanwhile, and kopf replays only the survivors. The first
time also tells when the store is complete, before which nobody may decide anything.
"""

import asyncio
import logging
from typing import Any, Final

from feedline_operator.cluster import Cluster
from feedline_operator.errors import ClusterError, GoneError, RefusedError
from feedline_operator.queue import WorkQueue
from feedline_operator.slim import Kind
from feedline_operator.store import Store

KINDS: Final[tuple[Kind, ...]] = ("sweep", "pipeline", "job", "pod")
_AFTER_RELIST_SECONDS: Final = 3.0
_AFTER_MISSED_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


class Resync:
    """Compares the store with the cluster.

    Parameters
    ----------
    namespaces
        What the operator watches; (None,) for all.
    interval_seconds
        Time from one time to the next when nothing is amiss.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        sweeps: WorkQueue,
        cluster: Cluster,
        namespaces: tuple[str | None, ...],
        interval_seconds: float,
    ) -> None:
        self._store = store
        self._queue, self._sweeps = queue, sweeps
        self._cluster = cluster
        self._namespaces = namespaces
        self._interval = interval_seconds
        self._armed = asyncio.Event()
        self._unread: set[str | None] = set()  # namespaces whose sweeps were refused when they were listed last
        self.synced = asyncio.Event()
        self.missed_in_a_row = 0
        """Times, one after the other, that it found what the watches should have told."""

    def arm(self) -> None:
        """List soon: a watch was opened anew, and may have missed a deletion."""
        if self.synced.is_set():
            self._armed.set()

    async def run(self) -> None:
        """List now and then until cancelled."""
        await self._first()
        while True:
            pause = _AFTER_MISSED_SECONDS if self.missed_in_a_row else self._interval
            relisted = await self._wait(pause)
            if relisted:
                await asyncio.sleep(_AFTER_RELIST_SECONDS)
                self._armed.clear()
            try:
                missed = sum([await self._compare(kind) for kind in KINDS])
            except ClusterError as error:
                logger.warning("not everything could be listed: %s", error)
                continue
            # A gap in a watch is no fault of the watch, if it is open again.
            self.missed_in_a_row = 0 if not missed or relisted else self.missed_in_a_row + 1

    async def _first(self) -> None:
        while not self.synced.is_set():
            try:
                for kind in KINDS:
                    await self._load(kind)
            except ClusterError as error:
                logger.warning("the cluster cannot be read yet: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self.synced.set()

    async def _load(self, kind: Kind) -> None:
        async for thing in self._all(kind):
            self._store.put(kind, thing)

    async def _compare(self, kind: Kind) -> int:
        """Return how much the watches of a kind had not told some seconds after the LIST had it."""
        mark = self._store.now()
        present: set[str] = set()
        unknown = []
        async for thing in self._all(kind):
            present.add(thing["metadata"]["uid"])
            if not self._store.has(kind, thing):
                unknown.append(thing)
        gone = [thing for thing in self._store.missing(kind, present, mark) if not self._is_unread(kind, thing)]
        if unknown or gone:
            await asyncio.sleep(_GRACE_SECONDS)
        late = [key for thing in unknown if (key := self._store.put(kind, thing)) is not None]
        lost = [key for thing in gone if (key := self._store.remove(kind, thing)) is not None]
        for key in (*late, *lost):
            (self._sweeps if kind == "sweep" else self._queue).add(key)
        if late or lost:
            logger.info("the watch of %ss had missed %d changes and %d deletions", kind, len(late), len(lost))
        return len(late) + len(lost)

    async def _all(self, kind: Kind) -> Any:
        for namespace in self._namespaces:
            try:
                async for thing in self._cluster.list_all(kind, namespace):
                    yield thing
            except (GoneError, RefusedError) as error:
                if kind != "sweep":
                    raise
                # Whoever keeps definitions and rights by hand may not have those of sweeps: pipelines go on without.
                logger.warning("TrainingSweeps cannot be listed: %s; apply the newer definitions and rights", error)
                self._unread.add(namespace)
            else:
                self._unread.discard(namespace)

    def _is_unread(self, kind: Kind, thing: Any) -> bool:
        """Return whether nobody can say if a thing is there still."""
        return kind == "sweep" and not self._unread.isdisjoint((None, thing["metadata"]["namespace"]))

    async def _wait(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._armed.wait()
        except TimeoutError:
            return False
        return True
