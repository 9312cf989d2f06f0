"""Carries plans out: one pipeline at a time, several pipelines at once, and comes back later when a call fails.

The order is that of `Plan`: status, actions, Events. A crash between any two of them leaves something that the next
look at the pipeline completes.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from feedline.contract import KIND
from feedline_operator.attend import attend
from feedline_operator.build import lost_image_volumes
from feedline_operator.cluster import Cluster
from feedline_operator.errors import (
    ChildRefusedError,
    ExistsError,
    GoneError,
    InvalidError,
    NamespaceGoesError,
    RefusedError,
    StaleError,
)
from feedline_operator.events import EventReader, Teller
from feedline_operator.metrics import Metrics
from feedline_operator.progress import Progress
from feedline_operator.queue import WorkQueue
from feedline_operator.reconcile import (
    CreateJob,
    CreateService,
    DeleteJob,
    DeletePipeline,
    EvictPod,
    Observed,
    Plan,
    Policy,
    Refusal,
    name_taken,
    owned_by,
    reconcile,
    service_taken,
)
from feedline_operator.store import Key, Store
from feedline_operator.untrusted import clean

_REMEMBERED: Final = 4096
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Workers:
    """Workers on one queue.

    Parameters
    ----------
    instance
        This replica's name, for Events.
    clock
        The time; another one in tests.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        cluster: Cluster,
        progress: Progress,
        metrics: Metrics,
        policy: Policy,
        instance: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._queue = queue
        self._cluster = cluster
        self._progress = progress
        self._metrics = metrics
        self._policy = policy
        self._teller = Teller(cluster, KIND, instance)
        self._clock = clock
        self._events = EventReader(cluster)
        self._evicted: dict[str, None] = {}  # uids, in the order in which they were

    async def run(self, count: int) -> None:
        """Look at every pipeline, then at those that change, until cancelled."""
        for key in self._store.known():
            self._queue.add(key)
        try:
            await attend(self._queue, self._reconcile, self._metrics.reconciled, count)
        finally:
            await self._progress.close()

    async def _reconcile(self, key: Key) -> None:
        observed = self._store.observe(key)
        if observed is None:
            self._progress.follow(key, None)
            self._events.forget(key)
            return
        now = self._clock()
        plan = reconcile(observed, now, self._policy)
        pipeline = await self._write_status(observed, plan)
        try:
            await self._act(key, plan)
            await self._teller.tell(pipeline, plan.transitions)
        except NamespaceGoesError:
            await self._let_go(key)
            return
        self._progress.follow(key, plan.ask)
        if plan.again is not None:
            self._queue.add_after(key, (plan.again - now).total_seconds())
        if plan.look_at:
            await self._look(key, observed, plan)
        else:
            self._events.forget(key)

    async def _write_status(self, observed: Observed, plan: Plan) -> Any:
        if plan.status is None:
            return observed.pipeline
        pipeline = await self._cluster.patch_status("pipeline", observed.pipeline, plan.status)
        self._store.put("pipeline", pipeline)
        self._metrics.status_written(observed.pipeline, pipeline)
        return pipeline

    async def _act(self, key: Key, plan: Plan) -> None:
        for action in plan.actions:
            match action:
                case CreateService(body):
                    await self._create(key, self._service, body)
                case EvictPod(name, uid):
                    await self._evict(key, name, uid)
                case CreateJob(body):
                    self._store.put("job", await self._create(key, self._job, body))
                    # The first status is that of the created Job.
                    self._queue.add(key)
                case DeleteJob(uid):
                    with contextlib.suppress(GoneError):
                        await self._cluster.delete_job(*key, uid)
                case DeletePipeline(uid, version):
                    with contextlib.suppress(GoneError):
                        await self._cluster.delete("pipeline", *key, uid, version)

    async def _evict(self, key: Key, name: str, uid: str) -> None:
        # News of it may be late, and the next look would ask for it once more.
        if uid in self._evicted:
            return
        with contextlib.suppress(GoneError, StaleError):
            await self._cluster.evict_pod(key.namespace, name, uid)
        self._evicted[uid] = None
        while len(self._evicted) > _REMEMBERED:
            del self._evicted[next(iter(self._evicted))]

    async def _create(self, key: Key, create: Callable[[Key, Any], Awaitable[T]], body: Any) -> T:
        """Create what a pipeline needs; why that is refused is told in its status."""
        try:
            return await create(key, body)
        except (RefusedError, InvalidError) as error:
            await self._refused(key, Refusal(clean(str(error)), invalid=isinstance(error, InvalidError)))
            raise ChildRefusedError(str(error)) from error

    async def _service(self, key: Key, body: Any) -> None:
        try:
            await self._cluster.create_service(body)
        except ExistsError:
            service = await self._cluster.get_service(key.namespace, body["metadata"]["name"])
            _require_owned(service, body, service_taken)

    async def _job(self, key: Key, body: Any) -> Any:
        try:
            job = await self._cluster.create_job(body)
        except ExistsError:
            job = await self._cluster.get_job(*key)
            _require_owned(job, body, name_taken)
        if lost_image_volumes(body, job):
            # The Job is stopped once the pipeline's status says so.
            raise InvalidError("image volumes need Kubernetes 1.35; use a persistentVolumeClaim instead")
        return job

    async def _refused(self, key: Key, refusal: Refusal) -> None:
        self._store.tell(key, refusal)
        observed = self._store.observe(key)
        if observed is not None:
            plan = reconcile(observed, self._clock(), self._policy)
            await self._teller.tell(await self._write_status(observed, plan), plan.transitions)

    async def _let_go(self, key: Key) -> None:
        """Delete the Job in a namespace that is being deleted, which would else stay.

        Kubernetes deletes pods first, and the Job controller keeps one that has ended until another takes its place,
        which is refused (with backoffLimitPerIndex; seen on 1.36).
        """
        observed = self._store.observe(key)
        if observed is None or observed.job is None:
            return
        if owned_by(observed.job, observed.pipeline["metadata"]["uid"]):
            logger.info("%s/%s: its namespace is being deleted, and its Job with it", *key)
            with contextlib.suppress(GoneError):
                await self._cluster.delete_job(*key, observed.job["metadata"]["uid"])

    async def _look(self, key: Key, observed: Observed, plan: Plan) -> None:
        warnings, again = await self._events.read(key, plan.look_at)
        if warnings is not None and warnings != observed.warnings:
            self._store.tell(key, warnings)
            self._queue.add(key)
        self._queue.add_after(key, again)


def _require_owned(found: Any, wanted: Any, taken: Callable[[Any], str]) -> None:
    """Refuse what has the name of a pipeline's own, and is of somebody else."""
    if not owned_by(found, wanted["metadata"]["ownerReferences"][0]["uid"]):
        raise RefusedError(taken(found)) from None
