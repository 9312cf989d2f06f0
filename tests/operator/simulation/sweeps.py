"""A model of the API server for one sweep and its trials: what is there, what is refused, and how trials get on.

Whoever writes is handed a counter, which may end the writer before or after any write.
"""

import asyncio
import contextlib
import copy
import functools
import itertools
import json
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import yaml
from mergepatch import merge

from feedline import manifest
from feedline.manifest.schema import Schema
from feedline_operator.errors import ChildRefusedError, ExistsError, GoneError, StaleError
from feedline_operator.metrics import Metrics
from feedline_operator.queue import WorkQueue
from feedline_operator.reconcile import Sample
from feedline_operator.store import Key, Store
from feedline_operator.sweeper import Sweeper
from simulation.documents import CREATED, condition_list

CRD = Path(__file__).parents[3] / "crds" / "trainingsweeps.feedline.dev.yaml"
NAME = "lr-search"
_UIDS = itertools.count()  # no two things are of one, in any test
STEPS, ROWS = 10, 320
SPEC = {
    "objective": {"value": "val_loss", "goal": "Minimize"},
    "parameters": [
        {"name": "learningRate", "float": {"min": "1e-4", "max": "1e-1", "scale": "Log"}},
        {"name": "batch", "path": "spec.loader.batchSize", "int": {"min": 8, "max": 64, "scale": "Log"}},
    ],
    "algorithm": {"type": "Random", "seed": 3},
    "trials": 6,
    "parallel": 2,
    "template": {
        "spec": {
            "backend": "pytorch",
            "data": {
                "volumes": [{"name": "digits", "persistentVolumeClaim": {"claimName": "digits"}}],
                "train": {"arrays": [{"name": "x", "path": "digits/x.npy", "role": "Input"}]},
            },
            "train": {"entrypoint": "digits:train", "epochs": 8},
        }
    },
}


MEDIAN = {"rule": "Median", "warmup": 2, "interval": 1, "minTrials": 2}


@functools.cache
def _status_schema():
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    version = yaml.load(CRD.read_text(), loader)["spec"]["versions"][0]
    return Schema(version["schema"]["openAPIV3Schema"]["properties"]["status"])


# Many lives have the same documents, but for whose they are.
@functools.cache
def _problems_of_status(told):
    return _status_schema().problems(json.loads(told))


@functools.cache
def _require_valid(told):
    manifest.parse(json.loads(told))


class DeadError(Exception):
    """The writer has ended."""


class Deaths:
    """Ends a writer at its n-th write: before the API server has it, or after, before the writer knows."""

    def __init__(self, at=None, *, is_after=False):
        self.at, self.is_after, self.writes = at, is_after, []

    def write(self, what, do):
        self.writes.append(what)
        dies = len(self.writes) == self.at
        if dies and not self.is_after:
            raise DeadError
        result = do()
        if dies:
            raise DeadError
        return result


class Server:
    """A namespace with a sweep in it.

    Attributes
    ----------
    created
        The name of each trial that was ever created, in order.
    samples
        What each trial that runs says now.
    """

    def __init__(self, **spec):
        self.now, self._version = CREATED, 0
        self.created, self.samples, self.pipelines = [], {}, {}
        self.sweep = self._new(NAME, {"spec": merge(SPEC, spec)})

    # --- calls -------------------------------------------------------------------------------------------------------

    def create_pipeline(self, body):
        """Create a trial and return it."""
        name = body["metadata"]["name"]
        if name in self.pipelines:
            raise ExistsError(name)
        if name not in self.created:
            _require_valid(json.dumps({**body, "metadata": {"name": name}}, sort_keys=True))
        assert "stop" not in body["spec"]
        self.pipelines[name] = self._new(name, body)
        self.created.append(name)
        return copy.deepcopy(self.pipelines[name])

    def get_pipeline(self, name):
        """Return a pipeline."""
        if name not in self.pipelines:
            raise GoneError(name)
        return copy.deepcopy(self.pipelines[name])

    def patch_pipeline(self, name, uid, change):
        """Merge a change into a pipeline and return it."""
        pipeline = self.pipelines.get(name)
        if pipeline is None:
            raise GoneError(name)
        if pipeline["metadata"]["uid"] != uid:
            raise StaleError(name)
        assert "stop" not in pipeline["spec"] or "stop" not in change["spec"], "stop is set once"
        self.pipelines[name] = merge(pipeline, change)
        return copy.deepcopy(self._touch(self.pipelines[name]))

    def patch_status(self, seen, status):
        """Write the sweep's status if it is still what was seen."""
        if self.sweep is None or self.sweep["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"]:
            raise StaleError(NAME)
        assert _problems_of_status(json.dumps(status)) == []
        assert status != self.sweep["status"], "what is written changes nothing"
        was = {entry["type"]: entry for entry in self.sweep["status"].get("conditions", ())}
        if was and was["Succeeded"]["status"] != "Unknown":
            assert status["conditions"] == self.sweep["status"]["conditions"], "a sweep that has ended stays so"
            assert status["completionTime"] == self.sweep["status"]["completionTime"]
        self.sweep["status"] = copy.deepcopy(status)
        return copy.deepcopy(self._touch(self.sweep))

    # --- what happens ------------------------------------------------------------------------------------------------

    def change(self, **spec):
        """Change the sweep's spec."""
        self.sweep["spec"] = merge(self.sweep["spec"], spec)
        self.sweep["metadata"]["generation"] += 1
        self._touch(self.sweep)

    def unfinished(self):
        """Return the names of the trials that have not ended."""
        return [name for name, pipeline in self.pipelines.items() if _state(pipeline) == "Unknown"]

    def reports(self, name, *values):
        """Let a trial that runs say its curve, a value after each epoch."""
        curve = [f"{STEPS * (number + 1)}:{value!r}" for number, value in enumerate(values)]
        told = {"curve": curve, "best": repr(min(values)), "epochSteps": STEPS, "epochSamples": ROWS}
        self.samples[name] = Sample("pod", self.now, {"objective": told})

    def ends(self, name, status="True", reason="Completed", message="words"):
        """Let a trial end, with the curve that it told last."""
        pipeline, sample = self.pipelines[name], self.samples.get(name)
        given = condition_list({"Succeeded": [status, reason, message]})
        pipeline["status"] = {"conditions": given, "report": {"exitCode": 0, "values": {"loss": "1"}}}
        if sample is not None:
            pipeline["status"]["objective"] = sample.report["objective"]
        self._touch(pipeline)

    def loses(self, name, *attempts):
        """Let a trial end whose pod is taken away before anybody looks: `attempts` are what is known, the newest first."""
        self.ends(name)
        status, ended = self.pipelines[name]["status"], self.now.strftime("%Y-%m-%dT%H:%M:%SZ")
        del status["report"]
        found = attempts or ({"reason": "Deleted", "endTime": ended},)
        status["attempts"] = [{"index": len(found) - place, **each} for place, each in enumerate(found)]
        self.samples.pop(name, None)

    def obeys(self):
        """Let the trials that were told to stop do so."""
        for name in self.unfinished():
            if "stop" in self.pipelines[name]["spec"]:
                self.ends(name, reason="Stopped")

    def delete(self, name):
        """Delete a trial."""
        del self.pipelines[name]
        self.samples.pop(name, None)

    def pass_time(self, seconds):
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def _new(self, name, body):
        metadata = {
            **body.get("metadata", {}),
            "name": name,
            "namespace": "team",
            "uid": f"uid-{next(_UIDS)}",
            "generation": 1,
            "creationTimestamp": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return self._touch({"metadata": metadata, "spec": copy.deepcopy(body["spec"]), "status": {}})

    def _touch(self, thing):
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        return thing


class Calls:
    """The calls of `Cluster` that a sweep causes, to the model."""

    def __init__(self, server, deaths):
        self._server, self._deaths = server, deaths
        self.events = []

    async def create_pipeline(self, body):
        return self._deaths.write("create", lambda: self._server.create_pipeline(body))

    async def get_pipeline(self, _, name):
        return self._server.get_pipeline(name)

    async def patch_pipeline(self, _, name, uid, change):
        what = "stop" if "stop" in change["spec"] else "suspend"
        return self._deaths.write(what, lambda: self._server.patch_pipeline(name, uid, change))

    async def patch_status(self, kind, seen, status):
        assert kind == "sweep"
        return self._deaths.write("status", lambda: self._server.patch_status(seen, status))

    async def create_event(self, body):
        self.events.append(body["reason"])

    async def delete(self, kind, _, name, uid, version):
        server, is_sweep = self._server, kind == "sweep"
        known = (server.sweep if is_sweep else server.get_pipeline(name))["metadata"]
        assert (name, uid, version) == (known["name"], known["uid"], known["resourceVersion"])
        self._deaths.write("delete", lambda: setattr(server, "sweep", None) if is_sweep else server.delete(name))


class Operator:
    """One process of the operator, as far as sweeps go: the real `Sweeper`. A restart is another one."""

    def __init__(self, server, deaths=None):
        self._server = server
        self.deaths = deaths or Deaths()
        self.calls = Calls(server, self.deaths)
        self.store, self.queue = Store(), WorkQueue()
        self.pipelines = WorkQueue()
        self._sweeper = Sweeper(
            self.store, self.queue, self.pipelines, self.calls, Metrics(), "here", clock=lambda: server.now
        )
        self.hear()

    def hear(self):
        """Hear of everything, and ask every trial that runs."""
        server, present = self._server, set()
        mark = self.store.now()
        if server.sweep is not None:
            self.store.put("sweep", copy.deepcopy(server.sweep))
        for name, pipeline in server.pipelines.items():
            present.add(pipeline["metadata"]["uid"])
            if not self.store.has("pipeline", pipeline):
                self.store.put("pipeline", copy.deepcopy(pipeline))
            if name in server.samples:
                self.store.tell(Key("team", name), server.samples[name])
        for thing in self.store.missing("pipeline", present, mark):
            self.store.remove("pipeline", thing)

    def look(self):
        """Look at the sweep once; return whether anything was written."""
        before = len(self.deaths.writes)
        with contextlib.suppress(StaleError, GoneError, ChildRefusedError), patch.object(asyncio, "to_thread", _here):
            asyncio.run(self._sweeper._reconcile(Key("team", NAME)))
        most = self._server.sweep["spec"]["parallel"] if self._server.sweep is not None else 0
        assert most == 0 or len(self._server.unfinished()) <= most, "more run at once than may"
        return len(self.deaths.writes) > before

    def looked_at(self):
        """Return the pipelines that wait to be looked at."""
        return [key.name for key in self.pipelines._ready]

    def due(self):
        """Return the sweeps that are to be looked at soon though nothing was heard of them."""
        return [key.name for key in self.queue._due]

    def settle(self):
        """Look, and hear what came of it, until there is nothing left to do."""
        for _ in range(10):
            if not self.look():
                return
            self.hear()
        raise AssertionError("the operator does not come to rest")


async def _here(function, *arguments):
    return function(*arguments)


def _state(pipeline):
    return next((entry["status"] for entry in pipeline["status"].get("conditions", ())), "Unknown")


def standing(server):
    """Return how the sweep stands: the condition Succeeded."""
    return next(each for each in server.sweep["status"]["conditions"] if each["type"] == "Succeeded")
