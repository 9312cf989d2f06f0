"""What the cluster looks like, by name: the newest version of every object that was seen, slim.

Written to by the watches, by the resync and by every answer to a write; read by the workers. Synchronous, owned by the
event loop, and without opinion: it keeps what it is told, unless it has a newer version already.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from feedline.contract import LABEL_PIPELINE
from feedline_operator.reconcile import Observed, Refusal, Sample, Warned, uids
from feedline_operator.reconcile.conditions import is_over
from feedline_operator.slim import SLIM, Kind
from feedline_operator.sweeps import ObservedSweep, sweep_of

_REMEMBERED: Final = 4096
_KEPT_PODS: Final = 10
"""Pods that are gone and whose end is not yet in the status; more are forgotten, the oldest first."""

Object = Mapping[str, Any]


class Key(NamedTuple):
    """Where a pipeline or a sweep is."""

    namespace: str
    name: str


@dataclass
class _Entry:
    """Everything known about one name."""

    pipeline: Object | None = None
    job: Object | None = None
    pods: dict[str, Object] = field(default_factory=dict)
    sample: Sample | None = None
    warnings: tuple[Warned, ...] | None = None
    refusal: Refusal | None = None
    sweep: Object | None = None
    sweep_refusal: Refusal | None = None

    @property
    def empty(self) -> bool:
        return self.pipeline is None and self.job is None and not self.pods and self.sweep is None


def _nobody(_: Key) -> None:
    pass


class Store:
    """Objects by the pipeline or sweep that they are about.

    Parameters
    ----------
    on_sweep
        Called with a sweep one of whose trials has changed, or what is known of it.
    """

    def __init__(self, on_sweep: Callable[[Key], None] = _nobody) -> None:
        self._on_sweep = on_sweep
        self._trials: dict[Key, set[Key]] = defaultdict(set)
        self._by_key: dict[Key, _Entry] = defaultdict(_Entry)
        self._touched: dict[tuple[Kind, str], int] = {}
        self._removed: OrderedDict[str, None] = OrderedDict()
        self._clock = 0

    def put(self, kind: Kind, thing: Object) -> Key | None:
        """Keep an object.

        Returns
        -------
        Key or None
            The pipeline or sweep that it is about, None if the store has this version already or a newer one.
        """
        if thing["metadata"]["uid"] in self._removed:
            # The answer to a write may come after the news that the object is gone.
            return None
        key = key_of(kind, thing)
        entry = self._by_key[key]
        known = _occupant(entry, kind, thing["metadata"]["uid"])
        # Also of another object of that name: the earlier one has the older version.
        if known is not None and "gone" not in known and _version(known) >= _version(thing):
            return None
        slim = SLIM[kind](thing)
        if kind == "pipeline":
            self._put_pipeline(entry, key, slim)
        elif kind == "sweep":
            if entry.sweep is not None and entry.sweep["metadata"]["uid"] != slim["metadata"]["uid"]:
                entry.sweep_refusal = None
            entry.sweep = slim
        elif kind == "job":
            entry.job = slim
            if entry.refusal is not None and not entry.refusal.invalid:
                entry.refusal = None
        else:
            entry.pods[slim["metadata"]["uid"]] = slim
        self._touch(kind, slim["metadata"]["uid"])
        return key

    def _put_pipeline(self, entry: _Entry, key: Key, slim: Object) -> None:
        known, sweep = entry.pipeline, sweep_key(slim)
        if known is not None and known["metadata"]["uid"] != slim["metadata"]["uid"]:
            # Another pipeline of the same name: what was said about the earlier one is void.
            entry.sample = entry.warnings = entry.refusal = None
        if known is not None and (before := sweep_key(known)) is not None and before != sweep:
            self._forget_trial(before, key)
        entry.pipeline = slim
        self._forget_recorded(entry)
        if sweep is not None:
            self._trials[sweep].add(key)
            self._on_sweep(sweep)

    def remove(self, kind: Kind, thing: Object) -> Key | None:
        """Drop an object that is gone; its last state comes with the news. Returns what it is about."""
        key = key_of(kind, thing)
        uid = thing["metadata"]["uid"]
        self._removed[uid] = None
        while len(self._removed) > _REMEMBERED:
            self._removed.popitem(last=False)
        entry = self._by_key.get(key)
        known = None if entry is None else _get(entry, kind, uid)
        if entry is None or known is None or "gone" in known:
            return None
        self._touched.pop((kind, uid), None)
        if kind == "pipeline":
            entry.pipeline = entry.sample = entry.warnings = entry.refusal = None
            entry.pods = {pod_uid: pod for pod_uid, pod in entry.pods.items() if "gone" not in pod}
            if sweep := sweep_key(known):
                self._forget_trial(sweep, key)
            self._free_name(key.namespace)
        elif kind == "sweep":
            entry.sweep = entry.sweep_refusal = None
        elif kind == "job":
            entry.job = entry.warnings = None
        elif entry.pipeline is None:
            del entry.pods[uid]
        else:
            # How the pod ended may not be in the status yet.
            entry.pods[uid] = {**SLIM[kind](thing), "gone": True}
            self._forget_recorded(entry)
        if entry.empty:
            del self._by_key[key]
        return key

    def observe(self, key: Key) -> Observed | None:
        """Return all that is known about a pipeline, None where there is none of that name."""
        entry = self._by_key.get(key)
        if entry is None or entry.pipeline is None:
            return None
        self._forget_recorded(entry)
        return Observed(
            entry.pipeline, entry.job, tuple(entry.pods.values()), entry.sample, entry.warnings, entry.refusal
        )

    def tell(self, key: Key, news: Sample | tuple[Warned, ...] | Refusal) -> None:
        """Keep what was learned about a pipeline besides its objects; void when the pipeline is gone."""
        entry = self._by_key.get(key)
        if entry is None or entry.pipeline is None:
            return
        if isinstance(news, Sample):
            entry.sample = news
            if sweep := sweep_key(entry.pipeline):
                self._on_sweep(sweep)
        elif isinstance(news, Refusal):
            entry.refusal = news
        else:
            entry.warnings = news

    def observe_sweep(self, key: Key) -> ObservedSweep | None:
        """Return all that is known about a sweep, None where there is none of that name."""
        entry = self._by_key.get(key)
        if entry is None or entry.sweep is None:
            return None
        found = (self._by_key.get(trial) for trial in self._trials.get(key, ()))
        trials = tuple((each.pipeline, each.sample) for each in found if each is not None and each.pipeline is not None)
        return ObservedSweep(entry.sweep, trials, entry.sweep_refusal)

    def tell_sweep(self, key: Key, uid: str, refusal: Refusal | None) -> None:
        """Keep why the last trial of a sweep was not taken, or (None) that the next one was."""
        entry = self._by_key.get(key)
        if entry is not None and entry.sweep is not None and entry.sweep["metadata"]["uid"] == uid:
            entry.sweep_refusal = refusal

    def sweeps(self) -> list[Object]:
        """Return the sweeps that there are."""
        return [entry.sweep for entry in self._by_key.values() if entry.sweep is not None]

    def known(self) -> list[Key]:
        """Return the pipelines that there are."""
        return [key for key, entry in self._by_key.items() if entry.pipeline is not None]

    def pipelines(self) -> Iterator[Object]:
        """Iterate over the pipelines that there are."""
        return (entry.pipeline for entry in self._by_key.values() if entry.pipeline is not None)

    def pods(self, key: Key) -> list[Object]:
        """Return the pods of a pipeline that are there."""
        entry = self._by_key.get(key)
        return [] if entry is None else [pod for pod in entry.pods.values() if "gone" not in pod]

    def has(self, kind: Kind, thing: Object) -> bool:
        """Return whether this version of an object, or a newer one, is known."""
        entry = self._by_key.get(key_of(kind, thing))
        known = None if entry is None else _get(entry, kind, thing["metadata"]["uid"])
        return known is not None and _version(known) >= _version(thing)

    def now(self) -> int:
        """Return a mark in the order of the store's changes, for `missing`."""
        return self._clock

    def missing(self, kind: Kind, present: set[str], since: int) -> list[Object]:
        """Return what the store has and a LIST has not: gone, unless it was touched after the LIST began."""
        return [
            thing
            for entry in list(self._by_key.values())
            for thing in _all(entry, kind)
            if thing["metadata"]["uid"] not in present
            and self._touched.get((kind, thing["metadata"]["uid"]), 0) <= since
        ]

    def _touch(self, kind: Kind, uid: str) -> None:
        self._clock += 1
        self._touched[kind, uid] = self._clock

    def _free_name(self, namespace: str) -> None:
        """Have the sweeps of a namespace look again that were refused a trial: it may have been for its name."""
        for key, entry in list(self._by_key.items()):
            if key.namespace == namespace and entry.sweep_refusal is not None:
                entry.sweep_refusal = None
                self._on_sweep(key)

    def _forget_trial(self, sweep: Key, key: Key) -> None:
        trials = self._trials.get(sweep, set())
        trials.discard(key)
        if not trials:
            self._trials.pop(sweep, None)
        self._on_sweep(sweep)

    @staticmethod
    def _forget_recorded(entry: _Entry) -> None:
        attempts = (entry.pipeline or {}).get("status", {}).get("attempts", ())
        recorded = uids(attempt for attempt in attempts if "endTime" in attempt)
        if attempts and entry.pipeline is not None and not is_over(entry.pipeline):
            # What the newest has reported is written when the pipeline ends, for which its Job has to be gone.
            recorded.discard(attempts[0].get("uid"))
        gone = [uid for uid, pod in entry.pods.items() if "gone" in pod]
        for uid in [uid for uid in gone if uid in recorded] + gone[:-_KEPT_PODS]:
            entry.pods.pop(uid, None)


def key_of(kind: Kind, thing: Object) -> Key:
    """Return the pipeline or sweep that an object is about."""
    metadata = thing["metadata"]
    # The Job has the pipeline's name; a copy of it under another name has only its label.
    name = metadata["labels"][LABEL_PIPELINE] if kind == "pod" else metadata["name"]
    return Key(metadata["namespace"], name)


def sweep_key(pipeline: Object) -> Key | None:
    """Return the sweep that a pipeline is a trial of."""
    name = sweep_of(pipeline)
    return None if name is None else Key(pipeline["metadata"]["namespace"], name)


def _occupant(entry: _Entry, kind: Kind, uid: str) -> Object | None:
    """Return what is in the place of an object: there are many pods, and one of each other kind of the name."""
    return entry.pods.get(uid) if kind == "pod" else _only(entry, kind)


def _only(entry: _Entry, kind: Kind) -> Object | None:
    return {"pipeline": entry.pipeline, "job": entry.job, "sweep": entry.sweep}[kind]


def _get(entry: _Entry, kind: Kind, uid: str) -> Object | None:
    thing = _occupant(entry, kind, uid)
    return thing if thing is not None and thing["metadata"]["uid"] == uid else None


def _all(entry: _Entry, kind: Kind) -> list[Object]:
    if kind == "pod":
        return [pod for pod in entry.pods.values() if "gone" not in pod]
    thing = _only(entry, kind)
    return [] if thing is None else [thing]


def _version(thing: Object) -> int:
    # Comparable as numbers by the API's own word since Kubernetes 1.35 (KEP-5504), and in etcd all along.
    return int(thing["metadata"]["resourceVersion"])
