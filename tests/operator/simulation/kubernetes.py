"""A model of what Kubernetes does around one pipeline: the API server, the Job controller, the kubelet, people, queues.

Every change is kept as news, in the order in which a watch would tell it. Whoever delivers the news decides what comes
when, twice or never. The model knows nothing of the operator but the calls that it makes.
"""

import copy
from datetime import timedelta

from mergepatch import merge

from feedline.contract import CONTAINER, LABEL_INDEX, LABEL_PIPELINE
from feedline_operator.reconcile.observed import index_of
from simulation.documents import CREATED, PIPELINE, SPEC, owner

KEY = ("team", "digits")
FOREVER = 10**9


class ConflictError(Exception):
    """409: what was read is not what is there, or the name is taken."""


class Kubernetes:
    """A namespace in which a pipeline may be."""

    def __init__(self):
        self.now = CREATED
        self.news = []
        self.pipeline = None
        self.job = None
        self.pods = {}
        self.services = set()
        self._done = set()  # indexes that have succeeded
        self._failed = {}  # failures by index
        self._version = 0
        self._names = 0
        # Pods that ended and that the Job controller has not counted.
        self._uncounted = []

    # --- what clients do ---------------------------------------------------------------------------------------------

    def create_pipeline(self, spec):
        """Create the pipeline."""
        assert self.pipeline is None
        metadata = {**PIPELINE["metadata"], "uid": self._name("pipeline"), "creationTimestamp": self.time()}
        self.pipeline = {"metadata": metadata, "spec": merge(SPEC, spec), "status": {}}
        self._tell("ADDED", "pipeline", self.pipeline)

    def change_pipeline(self, spec):
        """Change the pipeline's spec."""
        self.pipeline["spec"] = merge(self.pipeline["spec"], spec)
        self.pipeline["metadata"]["generation"] += 1
        self._tell("MODIFIED", "pipeline", self.pipeline)

    def patch_status(self, seen, status):
        """Write the pipeline's status if it is still what was seen, and return the pipeline."""
        known = None if self.pipeline is None else self.pipeline["metadata"]
        if known is None or any(seen["metadata"][field] != known[field] for field in ("uid", "resourceVersion")):
            raise ConflictError
        if self.pipeline["status"] != status:
            self.pipeline["status"] = copy.deepcopy(status)
            self._tell("MODIFIED", "pipeline", self.pipeline)
        return copy.deepcopy(self.pipeline)

    def delete_pipeline(self, uid=None, version=None):
        """Delete the pipeline; the Job and its pods follow."""
        metadata = {} if self.pipeline is None else self.pipeline["metadata"]
        if uid is not None and (uid, version) != (metadata.get("uid"), metadata.get("resourceVersion")):
            raise ConflictError
        self._tell("DELETED", "pipeline", self.pipeline)
        self.pipeline = None
        if self.job is not None:
            self.delete_job()

    def create_service(self, body):
        """Create the Service."""
        name = body["metadata"]["name"]
        if name in self.services:
            raise ConflictError
        self.services.add(name)

    def evict_pod(self, uid):
        """Take a pod away by the Eviction API, as the operator does."""
        pod = self.pods.get(uid)
        if pod is None:
            raise ConflictError
        self._disrupt(pod)
        self._tell("MODIFIED", "pod", pod)
        self.delete_pod(pod)

    def create_job(self, body):
        """Create the Job and return it."""
        if self.job is not None:
            raise ConflictError
        self._done, self._failed = set(), {}
        self.job = copy.deepcopy(body)
        self.job["metadata"] |= {"uid": self._name("job"), "creationTimestamp": self.time()}
        self.job["status"] = {}
        self._tell("ADDED", "job", self.job)
        return copy.deepcopy(self.job)

    def delete_job(self, uid=None):
        """Delete the Job in the foreground: it stays until its pods are gone."""
        if uid is not None and (self.job is None or uid != self.job["metadata"]["uid"]):
            raise ConflictError
        self.job["metadata"].setdefault("deletionTimestamp", self.time())
        self._tell("MODIFIED", "job", self.job)
        for pod in list(self.pods.values()):
            self.delete_pod(pod)
        self._collect_garbage()

    def delete_pod(self, pod):
        """Delete a pod: one that runs is first asked to end."""
        if "deletionTimestamp" in pod["metadata"]:
            return
        if _over(pod) or "nodeName" not in pod["spec"]:
            self._remove(pod)
        else:
            pod["metadata"]["deletionTimestamp"] = self.time(30)
            self._tell("MODIFIED", "pod", pod)

    def list(self):
        """Return all that is there, as (kind, object)."""
        things = [("pipeline", self.pipeline), ("job", self.job), *(("pod", pod) for pod in self.pods.values())]
        return [(kind, copy.deepcopy(thing)) for kind, thing in things if thing is not None]

    # --- the kubelet -------------------------------------------------------------------------------------------------

    def run(self, pod):
        """Let a pod's container run."""
        pod["spec"]["nodeName"] = "node-1"
        pod["status"] |= {"phase": "Running", "podIP": "203.0.113.7"}
        self._container(pod, {"running": {"startedAt": self.time()}})

    def wait(self, pod, reason, message):
        """Let a pod's container wait."""
        pod["spec"]["nodeName"] = "node-1"
        self._container(pod, {"waiting": {"reason": reason, "message": message}})

    def end(self, pod, code, message="", why="Error"):
        """Let a pod's container end."""
        began = self._state(pod).get("running", {})
        finished = {"exitCode": code, "reason": why, "message": message, "finishedAt": self.time()}
        pod["status"]["phase"] = "Succeeded" if code == 0 else "Failed"
        self._uncounted.append(pod)
        self._container(pod, {"terminated": {**began, **finished}})

    def evict(self, pod, code=143):
        """Take a pod away, whether its container runs or not."""
        self._disrupt(pod)
        if "running" in self._state(pod):
            self.end(pod, code)
        else:
            pod["status"]["phase"] = "Failed"
            self._uncounted.append(pod)
            self._tell("MODIFIED", "pod", pod)

    @staticmethod
    def _disrupt(pod):
        found = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        pod["status"].setdefault("conditions", []).append(found)

    def confirm(self, pod):
        """Confirm the end of a pod that is being deleted."""
        if "running" in self._state(pod):
            self.end(pod, 143, "stopped")
        self._remove(pod)
        self._collect_garbage()

    def lose(self, pod):
        """Take a pod away with its node."""
        if not _over(pod):
            self.evict(pod)
        self._remove(pod)
        self._collect_garbage()

    # --- the Job controller and the queue ----------------------------------------------------------------------------

    def hold(self, held):
        """Suspend or release the Job, as the manager of a queue does."""
        self.job["spec"]["suspend"] = held
        self._tell("MODIFIED", "job", self.job)

    def control(self):
        """Let the Job controller look at the Job once."""
        job, before = self.job, copy.deepcopy(self.job)
        self._count()
        if job is None or "deletionTimestamp" in job["metadata"] or self._job_ended():
            return
        status, active = job["status"], [pod for pod in self.pods.values() if not _over(pod)]
        if job["spec"].get("suspend"):
            if "startTime" in status or not status.get("conditions"):
                status.pop("startTime", None)
                self._set_condition("Suspended", "JobSuspended", "Job suspended")
            for pod in active:
                self.delete_pod(pod)
        else:
            if "startTime" not in status:
                status["startTime"] = self.time()
                status["conditions"] = []
            taken = self._done | {index_of(pod) for pod in active}
            for index in range(job["spec"]["completions"]):
                if index not in taken:
                    self._create_pod(index)
        if job != before:
            self._tell("MODIFIED", "job", job)

    def _count(self):
        """Count what ended, and end the Job where that decides."""
        counted, self._uncounted = self._uncounted, []
        if self.job is None or self._job_ended():
            return
        for pod in counted:
            code = self._state(pod).get("terminated", {}).get("exitCode", 0)
            if pod["metadata"]["ownerReferences"][0]["uid"] != self.job["metadata"]["uid"]:
                continue
            if pod["status"]["phase"] == "Succeeded":
                self._done.add(index_of(pod))
                self.job["status"]["succeeded"] = len(self._done)
                if index_of(pod) == 0:
                    self._end("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
                    return
                continue
            spec, status = self.job["spec"], self.job["status"]
            disrupted = any(entry["type"] == "DisruptionTarget" for entry in pod["status"].get("conditions", ()))
            if disrupted:
                continue
            status["failed"] = status.get("failed", 0) + 1
            index = index_of(pod)
            self._failed[index] = self._failed.get(index, 0) + 1
            rules = spec["podFailurePolicy"]["rules"]
            if code in rules[1]["onExitCodes"]["values"]:
                text = f"Container trainer for pod team/{pod['metadata']['name']} failed with exit code {code} matching FailJob rule at index 1"
                self._end("Failed", "PodFailurePolicy", text)
                return
            if self._failed[index] > spec["backoffLimitPerIndex"]:
                text = "Job has exceeded the specified maximal number of failed indexes"
                self._end("Failed", "MaxFailedIndexesExceeded", text)
                return
            self._tell("MODIFIED", "job", self.job)

    def _end(self, kind, reason, message):
        """End the Job, and what still runs of it."""
        self._set_condition(kind, reason, message)
        for pod in [pod for pod in self.pods.values() if not _over(pod)]:
            self.delete_pod(pod)

    def _set_condition(self, kind, reason, message):
        entry = {"type": kind, "status": "True", "reason": reason, "message": message}
        self.job["status"]["conditions"] = [{**entry, "lastTransitionTime": self.time()}]
        self._tell("MODIFIED", "job", self.job)

    def _job_ended(self):
        return any(entry["type"] in {"Complete", "Failed"} for entry in self.job["status"].get("conditions", ()))

    def _create_pod(self, index):
        name = self._name("pod")
        metadata = {
            "name": f"digits-{index}-{name}",
            "namespace": "team",
            "uid": name,
            "creationTimestamp": self.time(),
            "labels": {LABEL_PIPELINE: "digits", LABEL_INDEX: str(index)},
            "ownerReferences": [owner(self.job["metadata"]["uid"], "Job")],
        }
        self.pods[name] = {"metadata": metadata, "spec": {}, "status": {"phase": "Pending"}}
        self._tell("ADDED", "pod", self.pods[name])

    # --- the rest ----------------------------------------------------------------------------------------------------

    def pass_time(self, seconds):
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def time(self, later=0):
        """Return the time, or one in a while, as the API server writes it."""
        return (self.now + timedelta(seconds=later)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def live_pods(self):
        """Return the pods that have not ended."""
        return [pod for pod in self.pods.values() if not _over(pod)]

    def running_pods(self):
        """Return the pods whose container runs."""
        return [pod for pod in self.live_pods() if "running" in self._state(pod)]

    def _container(self, pod, state):
        pod["status"]["containerStatuses"] = [{"name": CONTAINER, "state": state}]
        self._tell("MODIFIED", "pod", pod)

    @staticmethod
    def _state(pod):
        statuses = pod["status"].get("containerStatuses") or [{"state": {}}]
        return statuses[0]["state"]

    def _remove(self, pod):
        self._tell("DELETED", "pod", pod)
        del self.pods[pod["metadata"]["uid"]]

    def _collect_garbage(self):
        if self.job is not None and "deletionTimestamp" in self.job["metadata"] and not self.pods:
            self._tell("DELETED", "job", self.job)
            self.job = None

    def _tell(self, type_, kind, thing):
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        self.news.append((type_, kind, copy.deepcopy(thing)))

    def _name(self, what):
        self._names += 1
        return f"{what}-{self._names}"


def _over(pod):
    return pod["status"]["phase"] in {"Succeeded", "Failed"}
