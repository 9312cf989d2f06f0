"""The parts of the operator, put together: who knows whom, what starts when, what ends first."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self

from feedline_operator.cluster import Cluster, connect
from feedline_operator.health import Health
from feedline_operator.lease import Elector
from feedline_operator.metrics import Metrics
from feedline_operator.progress import Progress
from feedline_operator.queue import WorkQueue
from feedline_operator.ratelimit import TokenBucket
from feedline_operator.reconcile import Policy, Sample
from feedline_operator.resync import Resync
from feedline_operator.series import PipelineSeries
from feedline_operator.settings import Settings
from feedline_operator.slim import Kind
from feedline_operator.store import Key, Store
from feedline_operator.sweeper import SETTLE_SECONDS, Sweeper
from feedline_operator.worker import Workers

_DRAIN_SECONDS: Final = 5.0
_SWEEPS_AT_ONCE: Final = 4

logger = logging.getLogger(__name__)


class App:
    """A running operator, but for the watches, which call `seen`."""

    def __init__(self, settings: Settings, cluster: Cluster, metrics: Metrics, elector: Elector) -> None:
        self._settings = settings
        self._cluster = cluster
        self._metrics = metrics
        self._elector = elector
        self._queue, self._sweeps = WorkQueue(), WorkQueue()
        self._store = Store(lambda sweep: self._sweeps.add_after(sweep, SETTLE_SECONDS))
        namespaces: tuple[str | None, ...] = settings.namespaces or (None,)
        self._resync = Resync(self._store, self._queue, self._sweeps, cluster, namespaces, settings.resync_seconds)
        self._progress = Progress(settings.status_interval_seconds, self._sampled)
        self._tasks: list[asyncio.Task[None]] = []
        self._health = Health(self._queue, self._sweeps, self._resync, elector, metrics, self._tasks)
        metrics.registry.register(PipelineSeries(self._store, elector.leading))
        self._workers = Workers(
            self._store,
            self._queue,
            cluster,
            self._progress,
            metrics,
            Policy(settings.images, settings.security),
            settings.identity,
        )
        self._sweeper = Sweeper(self._store, self._sweeps, self._queue, cluster, metrics, settings.identity)
        self._close_server: Callable[[], Awaitable[None]] | None = None

    @classmethod
    async def start(cls, settings: Settings) -> Self:
        """Connect, listen, and begin to take part in the election."""
        metrics = Metrics()
        elector = Elector(settings.lease_namespace, settings.lease_name, settings.identity)
        limit = TokenBucket(settings.calls_per_second, settings.calls_burst)
        app = cls(settings, Cluster(await connect(), limit, elector.leading, metrics.called), metrics, elector)
        app._close_server, port = await app._health.serve(settings.port)
        logger.info("metrics and health on port %d", port)
        for name, work in (("resync", app._resync.run()), ("lead", app._lead()), ("lag", app._health.measure())):
            app._tasks.append(asyncio.create_task(work, name=name))
        return app

    async def stop(self) -> None:
        """End the work at hand, give the Lease up, and close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=_DRAIN_SECONDS)
        await self._elector.release(self._cluster)
        if self._close_server is not None:
            await self._close_server()
        await self._cluster.close()

    def seen(self, kind: Kind, type_: str | None, thing: Mapping[str, Any]) -> None:
        """Take news from a watch: an object that is there (None after a LIST), has changed, or is DELETED."""
        self._metrics.watched(kind, type_ or "LISTED")
        key = self._store.remove(kind, thing) if type_ == "DELETED" else self._store.put(kind, thing)
        if key is not None:
            (self._sweeps if kind == "sweep" else self._queue).add(key)
        elif type_ is None:
            # Listed anew and known already: the watch had a gap.
            self._resync.arm()

    async def _lead(self) -> None:
        await self._resync.synced.wait()
        await self._elector.run(self._cluster, self._work)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._workers.run(self._settings.workers), name="pipelines")
            group.create_task(self._sweeper.run(_SWEEPS_AT_ONCE), name="sweeps")

    def _sampled(self, key: Key, sample: Sample) -> None:
        self._store.tell(key, sample)
        self._queue.add(key)
