"""Carries the plans of sweeps out: one sweep at a time, several at once. What takes long runs in a thread beside.

The order is that of `SweepPlan`: status, changes, deletions, Events, new trials. A crash between any two of them leaves
something that the next look at the sweep completes: a trial exists or does not, and its name is its number.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from feedline.contract import SWEEP_KIND
from feedline.sweeps import suggest
from feedline_operator.attend import attend
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
from feedline_operator.events import Teller
from feedline_operator.metrics import Metrics
from feedline_operator.queue import WorkQueue
from feedline_operator.reconcile import Refusal, owned_by
from feedline_operator.reconcile.observed import deleting
from feedline_operator.slim import Kind
from feedline_operator.store import Key, Store
from feedline_operator.sweeps import (
    ChangeTrial,
    ObservedSweep,
    SweepPlan,
    build,
    name_taken,
    reconcile_sweep,
    sweep_in,
    trials_of,
)
from feedline_operator.untrusted import clean

_FIRST_HOLD: Final = 2.0
_LONGEST_HOLD: Final = 300.0
SETTLE_SECONDS: Final = 1.0
"""Trials tell of themselves one by one; what several say in a moment is looked at once."""


class Sweeper:
    """Workers on sweeps.

    Parameters
    ----------
    queue, pipelines
        Sweeps to look at, and where pipelines wait to be looked at.
    instance
        This replica's name, for Events.
    clock
        The time; another one in tests.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        pipelines: WorkQueue,
        cluster: Cluster,
        metrics: Metrics,
        instance: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._queue = queue
        self._pipelines = pipelines
        self._cluster = cluster
        self._metrics = metrics
        self._teller = Teller(cluster, SWEEP_KIND, instance)
        self._clock = clock
        self._held: dict[Key, tuple[float, float]] = {}  # until when nothing is created after a refusal, and how long
        self._unchanged: dict[Key, tuple[str, str]] = {}  # of a sweep's uid, why a trial could not be changed

    async def run(self, count: int) -> None:
        """Look at every sweep, then at those that change, until cancelled."""
        for sweep in self._store.sweeps():
            self._queue.add(Key(sweep["metadata"]["namespace"], sweep["metadata"]["name"]))
        await attend(self._queue, self._reconcile, self._metrics.reconciled, count)

    async def _reconcile(self, key: Key) -> None:
        observed = self._store.observe_sweep(key)
        if observed is None:
            self._held.pop(key, None)
            self._unchanged.pop(key, None)
            return
        now = self._clock()
        plan = await asyncio.to_thread(
            reconcile_sweep, replace(observed, unchanged=self._unchanged_of(key, observed.sweep)), now
        )
        document = await self._write_status(observed, plan)
        with contextlib.suppress(NamespaceGoesError):  # what is in it goes along
            refused = [why for change in plan.changes if (why := await self._change(key, change))]
            self._note_refused(key, document, refused)
            for pipeline in plan.lost:
                await self._delete("pipeline", pipeline)
            await self._teller.tell(document, plan.transitions)
            for index in plan.start if self._may_begin(key, observed) else ():
                await self._begin(key, document, index)
            if plan.delete:
                await self._delete("sweep", document)
            if refused:  # nothing else waits for it, and it is tried again
                raise ChildRefusedError(refused[0])
        if plan.again is not None:
            self._queue.add_after(key, (plan.again - now).total_seconds())

    def _unchanged_of(self, key: Key, document: Any) -> str:
        uid, told = self._unchanged.get(key, ("", ""))
        return told if uid == document["metadata"]["uid"] else ""

    def _note_refused(self, key: Key, document: Any, refused: list[str]) -> None:
        """Note which changes were refused; that there are some, or none any more, is told soon."""
        if bool(refused) != bool(self._unchanged_of(key, document)):
            self._queue.add_after(key, 0.0)
        self._unchanged[key] = document["metadata"]["uid"], refused[0] if refused else ""

    async def _change(self, key: Key, change: ChangeTrial) -> str:
        """Change a trial; return why the API server does not let it be changed, "" where it does."""
        try:
            self._take(await self._cluster.patch_pipeline(key.namespace, change.name, change.uid, change.change))
        except NamespaceGoesError:
            raise
        except (RefusedError, InvalidError) as error:
            return f"{change.name} could not be changed: {clean(str(error))}"
        except GoneError:
            pass
        return ""

    async def _delete(self, kind: Kind, thing: Any) -> None:
        metadata = thing["metadata"]
        seen = metadata["uid"], metadata["resourceVersion"]
        with contextlib.suppress(GoneError):
            await self._cluster.delete(kind, metadata["namespace"], metadata["name"], *seen)

    async def _write_status(self, observed: ObservedSweep, plan: SweepPlan) -> Any:
        if plan.status is None:
            return observed.sweep
        sweep = await self._cluster.patch_status("sweep", observed.sweep, plan.status)
        self._store.put("sweep", sweep)
        self._metrics.sweep_written(observed.sweep, sweep)
        return sweep

    async def _begin(self, key: Key, document: Any, index: int) -> None:
        """Create a trial; why it is refused is told in the sweep's status at the next look."""
        observed = self._store.observe_sweep(key)
        if observed is None or observed.sweep["metadata"]["uid"] != document["metadata"]["uid"]:
            raise GoneError(f"the sweep {key.name} is gone")
        if deleting(observed.sweep) or observed.sweep["metadata"]["generation"] != document["metadata"]["generation"]:
            raise StaleError(f"the sweep {key.name} has changed since it was decided what to begin")
        body = await asyncio.to_thread(_next_trial, observed, index)
        if body is None:
            raise StaleError("the trial that was to be confirmed is gone")
        try:
            try:
                pipeline = await self._cluster.create_pipeline(body)
            except ExistsError:
                pipeline = await self._cluster.get_pipeline(key.namespace, body["metadata"]["name"])
                if not owned_by(pipeline, document["metadata"]["uid"]):
                    raise RefusedError(name_taken(pipeline, key.name)) from None
        except NamespaceGoesError:
            raise
        except (RefusedError, InvalidError) as error:
            # Nothing of it may be invalid, since all was checked: where some were taken, it is a policy of the cluster.
            is_final = isinstance(error, InvalidError) and not observed.trials
            self._hold(key, document, Refusal(clean(str(error)), invalid=is_final))
            raise ChildRefusedError(str(error)) from error
        self._take(pipeline)
        self._held.pop(key, None)
        self._store.tell_sweep(key, document["metadata"]["uid"], None)

    def _hold(self, key: Key, document: Any, refusal: Refusal) -> None:
        """Note why a trial was refused, to be told at once, and create none for a while."""
        _, before = self._held.get(key, (0.0, _FIRST_HOLD / 2))
        delay = min(2 * before, _LONGEST_HOLD)
        self._held[key] = _now() + delay, delay
        self._store.tell_sweep(key, document["metadata"]["uid"], refusal)
        self._queue.add_after(key, 0.0)

    def _may_begin(self, key: Key, observed: ObservedSweep) -> bool:
        """Return whether it is time to create trials: a refusal is not asked for again and again."""
        until, _ = self._held.get(key, (0.0, 0.0))
        if observed.refusal is None or _now() >= until:
            return True
        self._queue.add_after(key, until - _now())
        return False

    def _take(self, pipeline: Any) -> None:
        """Keep a trial as it was written; the watch will tell nothing new of it, so that it is looked at at once."""
        self._store.put("pipeline", pipeline)
        self._pipelines.add(Key(pipeline["metadata"]["namespace"], pipeline["metadata"]["name"]))


def _next_trial(observed: ObservedSweep, index: int) -> dict[str, Any] | None:
    """Return the pipeline of a trial, with parameters that are chosen by what is known of the others.

    None where it is to confirm a trial that is gone.
    """
    sweep = sweep_in(observed.sweep)
    others = trials_of(observed.sweep, sweep, observed.trials)
    values = suggest(sweep, index, [trial for _, trial in others])
    return None if values is None else build(observed.sweep, sweep, index, values, others)


def _now() -> float:
    return asyncio.get_running_loop().time()
