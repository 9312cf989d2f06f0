"""One namespace as a test sees it: pipelines to submit, what becomes of them, and who plays the kubelet."""

import contextlib
import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Self

import yaml

from cluster import chart
from cluster.api import ApiCluster
from cluster.kubelet import Kubelet
from cluster.operators import ROOT, eventually
from cluster.rest import CORE, JOBS, MERGE_PATCH, PIPELINES, Rest

PIPELINE = yaml.safe_load((ROOT / "examples" / "digits" / "pipeline.yaml").read_text())
SWEEP = yaml.safe_load((ROOT / "examples" / "sweep" / "sweep.yaml").read_text())
REPORT = {"backend": "pytorch", "engine": "Feed", "reason": "Completed", "exitCode": 0, "message": "30 epochs"}


class World:
    """A namespace of a cluster in which `operators.install` was called; names are of pipelines where nothing is said."""

    def __init__(self, cluster: ApiCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.rest = Rest(cluster)
        self.kubelet = Kubelet(self.rest, namespace, self.node)

    @classmethod
    @contextlib.contextmanager
    def new(cls, cluster: ApiCluster) -> Iterator[Self]:
        """Make a namespace with a node of its own, without which Kubernetes would remove the pods that are bound to it."""
        world = cls(cluster, cluster.new_namespace())
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": world.node}}
        world.rest.do("POST", f"{CORE}/nodes", node)
        yield world
        world.rest.ask("DELETE", f"{CORE}/nodes/{world.node}")
        world.rest.ask("DELETE", f"{CORE}/namespaces/{world.namespace}")

    @property
    def node(self) -> str:
        """The node on which the pods run."""
        return f"node-{self.namespace}"

    def allow_operator(self) -> dict[str, str]:
        """Let an operator hold its Lease in this namespace; return the settings of one that works on no other."""
        for document in chart.rights():
            if document["kind"] in {"Role", "RoleBinding"}:
                document["metadata"]["namespace"] = self.namespace
                resource = document["kind"].lower() + "s"
                path = f"/apis/{document['apiVersion']}/namespaces/{self.namespace}/{resource}"
                self.rest.do("POST", path, document)
        return {"FEEDLINE_NAMESPACES": self.namespace, "FEEDLINE_LEASE_NAMESPACE": self.namespace}

    def free_lease(self) -> None:
        """Let nobody wait for the end of the Lease that a dead operator holds in this namespace."""
        self.rest.ask("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/feedline-operator")

    # --- pipelines ---------------------------------------------------------------------------------------------------

    def submit(self, name: str = "digits", **spec: object) -> str:
        """Create a pipeline with these fields of the spec changed (`metadata` besides) and return its name."""
        document = copy.deepcopy(PIPELINE)
        document["metadata"] = {"name": name, "namespace": self.namespace, **spec.pop("metadata", {})}
        document["spec"] |= spec
        path = f"{PIPELINES}/namespaces/{self.namespace}/trainingpipelines"
        self.rest.do("POST", path, document, fieldValidation="Strict")
        return name

    def find(self, name: str = "digits") -> dict | None:
        """Return a pipeline with its conditions by type, None if there is none.

        Its status is there, if empty: the operator may not have seen it yet.
        """
        pipeline = self.rest.find(self._pipeline(name))
        if pipeline is not None:
            entries = pipeline.setdefault("status", {}).get("conditions", ())
            pipeline["conditions"] = {entry["type"]: entry for entry in entries}
        return pipeline

    def state(self, name: str = "digits") -> dict:
        """Return a pipeline that is there, with its conditions by type."""
        pipeline = self.find(name)
        assert pipeline is not None, f"there is no pipeline {name}"
        return pipeline

    def becomes(self, *reasons: str, name: str = "digits", says: str = "", seconds: float = 120) -> dict:
        """Wait until a pipeline's state is one of these and its message has these words; return the pipeline."""

        def reached() -> tuple[bool, object]:
            pipeline = self.state(name)
            succeeded = pipeline["conditions"].get("Succeeded", {})
            there = succeeded.get("reason") in reasons and says in succeeded["message"]
            return there, pipeline if there else succeeded

        return _until(reached, f"{name} is {' or '.join(reasons)} {says!r}", seconds)

    def change(self, name: str = "digits", **spec: object) -> dict:
        """Merge fields into a pipeline's spec."""
        return self.rest.do("PATCH", self._pipeline(name), {"spec": spec}, content=MERGE_PATCH)

    def delete(self, name: str = "digits") -> None:
        """Delete a pipeline and do not wait for what it owns."""
        self.rest.do("DELETE", self._pipeline(name), propagationPolicy="Background")

    def events(self, name: str = "digits", kind: str = "TrainingPipeline") -> list[str]:
        """Return the reasons of the Events about a pipeline or a sweep, in no order that means anything."""
        query = {"fieldSelector": f"involvedObject.kind={kind},involvedObject.name={name}"}
        found = self.rest.do("GET", f"{CORE}/namespaces/{self.namespace}/events", **query)["items"]
        return [event["reason"] for event in found]

    # --- sweeps ------------------------------------------------------------------------------------------------------

    def sweep(self, name: str, **spec: object) -> str:
        """Create a sweep of the tests' pipeline with these fields of the spec changed and return its name."""
        document = copy.deepcopy(SWEEP)
        document["metadata"] = {"name": name, "namespace": self.namespace}
        document["spec"] |= spec
        path = f"{PIPELINES}/namespaces/{self.namespace}/trainingsweeps"
        self.rest.do("POST", path, document, fieldValidation="Strict")
        return name

    def find_sweep(self, name: str) -> dict | None:
        """Return a sweep with its conditions by type, None if there is none."""
        sweep = self.rest.find(self._sweep(name))
        if sweep is not None:
            entries = sweep.setdefault("status", {}).get("conditions", ())
            sweep["conditions"] = {entry["type"]: entry for entry in entries}
        return sweep

    def sweep_becomes(self, reason: str, name: str, seconds: float = 120) -> dict:
        """Wait until a sweep's state is this one; return the sweep."""

        def reached() -> tuple[bool, object]:
            sweep = self.find_sweep(name)
            succeeded = sweep["conditions"].get("Succeeded", {})
            there = succeeded.get("reason") == reason
            return there, sweep if there else succeeded

        return _until(reached, f"{name} is {reason}", seconds)

    def change_sweep(self, name: str, **spec: object) -> dict:
        """Merge fields into a sweep's spec."""
        return self.rest.do("PATCH", self._sweep(name), {"spec": spec}, content=MERGE_PATCH)

    def trials(self, name: str) -> list[str]:
        """Return the names of a sweep's trials, in the order of their numbers."""
        path = f"{PIPELINES}/namespaces/{self.namespace}/trainingpipelines"
        found = self.rest.do("GET", path, labelSelector=f"feedline.dev/sweep={name}")["items"]
        return sorted((each["metadata"]["name"] for each in found), key=lambda trial: int(trial.rpartition("-")[2]))

    def _sweep(self, name: str) -> str:
        return f"{PIPELINES}/namespaces/{self.namespace}/trainingsweeps/{name}"

    # --- what they own -----------------------------------------------------------------------------------------------

    def job(self, name: str = "digits") -> dict | None:
        """Return the Job of a name, None if there is none."""
        return self.rest.find(self._job(name))

    def job_of(self, name: str = "digits", after: str = "", seconds: float = 120) -> dict:
        """Return a pipeline's Job once it is there; not the one with this uid."""

        def there() -> tuple[bool, object]:
            job, pipeline = self.job(name), self.state(name)
            owners = [] if job is None else [owner["uid"] for owner in job["metadata"].get("ownerReferences", ())]
            new = job is not None and job["metadata"]["uid"] != after and pipeline["metadata"]["uid"] in owners
            return new, job if new else pipeline["conditions"].get("Succeeded")

        return _until(there, f"a new Job of {name}", seconds)

    def change_job(self, name: str = "digits", **spec: object) -> dict:
        """Merge fields into a Job's spec, as somebody else than the operator."""
        return self.rest.do("PATCH", self._job(name), {"spec": spec}, content=MERGE_PATCH)

    def delete_job(self, name: str = "digits") -> None:
        """Delete a Job by hand, its pods in the background."""
        self.rest.do("DELETE", self._job(name), propagationPolicy="Background")

    def pods(self, name: str = "digits") -> list[dict]:
        """Return the pods of a pipeline, the oldest first."""
        query = {"labelSelector": f"feedline.dev/pipeline={name}"}
        pods = self.rest.do("GET", f"{CORE}/namespaces/{self.namespace}/pods", **query)["items"]
        return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def pod_of(self, name: str = "digits", *, after: tuple[dict, ...] = (), seconds: float = 120) -> dict:
        """Return the pod of a pipeline's Job that is neither ending nor ended, once it is there; none of those."""
        return self.pods_of(name, 1, after=after, seconds=seconds)[0]

    def pods_of(self, name: str, count: int, *, after: tuple[dict, ...] = (), seconds: float = 120) -> list[dict]:
        """Return so many of them, in the order of their numbers in the Job."""
        known = {pod["metadata"]["uid"] for pod in after}

        def there() -> tuple[bool, object]:
            job, pods = self.job(name), self.pods(name)
            live = [
                pod
                for pod in pods
                if pod["metadata"]["uid"] not in known
                and "deletionTimestamp" not in pod["metadata"]
                and pod["status"].get("phase") in {"Pending", "Running"}
                and job is not None
                and pod["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
            ]
            live.sort(key=lambda pod: int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]))
            return len(live) >= count, live if len(live) >= count else [pod["metadata"]["name"] for pod in pods]

        return _until(there, f"{count} pods of {name}", seconds)

    def delete_pod(self, pod: dict) -> None:
        """Tell a pod to end within a second; it stays until the kubelet confirms that it has."""
        path = f"{CORE}/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
        self.rest.do("DELETE", path, gracePeriodSeconds="1")

    def evict(self, pod: dict) -> None:
        """Take a pod away by the Eviction API, as `kubectl drain` does."""
        metadata = {"name": pod["metadata"]["name"], "namespace": self.namespace}
        path = f"{CORE}/namespaces/{self.namespace}/pods/{metadata['name']}/eviction"
        self.rest.do("POST", path, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})

    def confirm(self, pod: dict) -> None:
        """Let a pod that was told to end do so (exit code 143), and confirm it, as the kubelet does."""
        self.ends(pod, 143)
        self.remove(pod)

    def remove(self, pod: dict) -> None:
        """Remove a pod that has ended.

        It may be gone already: the garbage collector asks again, and there is no grace for a pod that has ended.
        """
        path = f"{CORE}/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
        self.rest.ask("DELETE", path, gracePeriodSeconds="0")

    def runs(self, name: str = "digits", *, after: tuple[dict, ...] = ()) -> dict:
        """Let the pod of a pipeline run; return it once the pipeline says so."""
        pod = self.pod_of(name, after=after)
        self.kubelet.run(pod)
        self.becomes("Running", name=name)
        return pod

    def run_together(self, name: str, nodes: int, *, after: tuple[dict, ...] = ()) -> list[dict]:
        """Let all pods of a pipeline on several nodes run; return them once the pipeline says so."""
        pods = self.pods_of(name, nodes, after=after)
        for pod in pods:
            self.kubelet.run(pod)
        self.becomes("Running", name=name)
        return pods

    def is_taken_away(self, pod: dict) -> None:
        """Wait until somebody takes a pod away, and let it end."""
        path = f"{CORE}/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"

        def told() -> bool:
            found = self.rest.find(path)
            return found is None or "deletionTimestamp" in found["metadata"]

        eventually(told, f"{pod['metadata']['name']} is taken away", 120)
        self.confirm(pod)

    def ends(self, pod: dict, code: int, **more: object) -> None:
        """Let a pod end with an exit code and the trainer's report about it."""
        self.kubelet.end(pod, code, **{"message": json.dumps({**REPORT, "exitCode": code}), **more})

    def completes(self, name: str = "digits", *, after: tuple[dict, ...] = ()) -> dict:
        """Let the pod of a pipeline run to a good end and return the pipeline."""
        self.ends(self.runs(name, after=after), 0)
        return self.becomes("Completed", name=name)

    def disappears(self, path_of: str, name: str = "digits", seconds: float = 120) -> None:
        """Wait until there is no `pipeline` or `job` of that name."""
        path = {"pipeline": self._pipeline, "job": self._job}[path_of](name)
        _until(lambda: (self.rest.find(path) is None, path), f"no {path_of} {name}", seconds)

    def _pipeline(self, name: str) -> str:
        return f"{PIPELINES}/namespaces/{self.namespace}/trainingpipelines/{name}"

    def _job(self, name: str) -> str:
        return f"{JOBS}/namespaces/{self.namespace}/jobs/{name}"


def seconds_since(time: str) -> float:
    """Return how long ago a time of the API was."""
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


def _until(ask, what: str, seconds: float):
    """Ask until the first of the two answered is true and return the second; fail with the second after that time."""
    seen: list[object] = [None]

    def asked() -> bool:
        there, seen[0] = ask()
        return there

    try:
        eventually(asked, what, seconds)
    except AssertionError:
        raise AssertionError(f"{what}: not within {seconds} s; the last was {seen[0]!r}") from None
    return seen[0]
