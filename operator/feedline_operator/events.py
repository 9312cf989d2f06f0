"""Events: ours about pipelines and sweeps, and those of others that tell why a Job and its pods do not run."""

import asyncio
import hashlib
import logging
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from feedline.contract import API_GROUP, API_VERSION, FOLLOWING_EVENTS, KIND
from feedline_operator.cluster import Cluster
from feedline_operator.errors import ExistsError, GoneError, InvalidError, NamespaceGoesError, RefusedError
from feedline_operator.ratelimit import TokenBucket
from feedline_operator.reconcile import Transition, Warned
from feedline_operator.store import Key
from feedline_operator.untrusted import clean

COMPONENT: Final = "feedline-operator"
_FIRST_DELAY: Final = 30.0
_LONGEST_DELAY: Final = 300.0
_KEPT: Final = 5
# Apart from the limit for all else: a thousand pipelines that wait must not hold up the Job of the next one.
_LISTS_PER_SECOND: Final = 5
_LISTS_AT_ONCE: Final = 10
# In the pod's own status, and fresher there.
_KNOWN_OTHERWISE: Final = frozenset({"FailedScheduling", "Failed", "BackOff"})
_FOLLOWING: Final = re.compile("|".join(FOLLOWING_EVENTS), re.IGNORECASE)

logger = logging.getLogger(__name__)


def event_body(
    pipeline: Mapping[str, Any], transition: Transition, component: str, instance: str, kind: str = KIND
) -> dict[str, Any]:
    """Return the Event about a transition; telling the same one again makes the same name."""
    metadata = pipeline["metadata"]
    told = f"{metadata['uid']} {metadata['resourceVersion']} {transition.reason} {transition.message}"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "namespace": metadata["namespace"],
            "name": f"{metadata['name']}.{hashlib.sha256(told.encode()).hexdigest()[:16]}",
        },
        "involvedObject": {
            "apiVersion": f"{API_GROUP}/{API_VERSION}",
            "kind": kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": transition.kind,
        "reason": transition.reason,
        "message": transition.message,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": instance,
    }


class Teller:
    """Writes Events about objects of one kind.

    Parameters
    ----------
    kind
        Theirs.
    instance
        This replica's name.
    """

    def __init__(self, cluster: Cluster, kind: str, instance: str) -> None:
        self._cluster, self._kind, self._instance = cluster, kind, instance

    async def tell(self, thing: Mapping[str, Any], transitions: tuple[Transition, ...]) -> None:
        """Write an Event about each transition; one that is not taken is let be.

        Raises
        ------
        ClusterError
            Nobody answers, or the namespace is being deleted.
        """
        for transition in transitions:
            body = event_body(thing, transition, COMPONENT, self._instance, self._kind)
            try:
                await self._cluster.create_event(body)
            except ExistsError:
                pass
            except NamespaceGoesError:
                raise
            except (RefusedError, InvalidError, GoneError) as error:
                # An Event is a courtesy.
                logger.info("no Event: %s", error)


class EventReader:
    """Lists the warnings about a pipeline's Job and pods, ever more rarely, since each LIST costs the server a scan."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._next: dict[Key, tuple[float, float]] = {}
        self._limit = TokenBucket(_LISTS_PER_SECOND, _LISTS_AT_ONCE)

    def forget(self, key: Key) -> None:
        """Begin anew with the shortest delay."""
        self._next.pop(key, None)

    async def read(self, key: Key, uids: tuple[str, ...]) -> tuple[tuple[Warned, ...] | None, float]:
        """Return the warnings, and in how many seconds to ask again; None where it is too soon to ask.

        Causes come first, before what only follows from them, and of these the newest.
        """
        now = asyncio.get_running_loop().time()
        due, delay = self._next.get(key, (now, _FIRST_DELAY))
        if now < due:
            return None, due - now
        if not self._limit.take_now(min(len(uids), _LISTS_AT_ONCE)):
            return None, random.uniform(1.0, 5.0)  # noqa: S311
        self._next[key] = (now + delay, min(delay * 2, _LONGEST_DELAY))
        found = [event for uid in uids for event in await self._cluster.list_events(key.namespace, uid)]
        return _warnings(found), delay


def _warnings(events: list[Mapping[str, Any]]) -> tuple[Warned, ...]:
    newest = sorted(events, key=_time, reverse=True)
    # Time-outs follow from what failed before, are told again and again, and may bear the same reason.
    causes_first = sorted(newest, key=lambda event: bool(_FOLLOWING.search(event.get("message") or "")))
    by_reason: dict[str, Warned] = {}
    for event in causes_first:
        reason = clean(event.get("reason") or "", 64)
        if reason not in _KNOWN_OTHERWISE:
            by_reason.setdefault(reason, Warned(reason, clean(event.get("message") or reason)))
    return tuple(by_reason.values())[:_KEPT]


def _time(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
