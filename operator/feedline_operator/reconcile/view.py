"""What was seen of a pipeline, sorted once: which Job is its own, which pods are its Job's, what they add up to."""

from dataclasses import dataclass
from datetime import datetime

from feedline_operator.build import nodes_of
from feedline_operator.reconcile import attempts, gang
from feedline_operator.reconcile.accounts import Accounts, settle
from feedline_operator.reconcile.attempts import Attempt
from feedline_operator.reconcile.observed import (
    Object,
    Observed,
    container_state,
    controller,
    deleting,
    ended,
    holds,
    index_of,
    job_end,
    owned_by,
)


@dataclass(frozen=True)
class View:
    """One pipeline, sorted.

    Attributes
    ----------
    own_job
        The Job that belongs to this very pipeline, also if it is on its way out.
    other_job
        A Job that has the pipeline's name and is not its own.
    pods
        Pods of the own Job, newest last.
    attempts
        The record with what the pods now say.
    accounts
        What earlier Jobs and this one have used up.
    """

    observed: Observed
    own_job: Object | None
    other_job: Object | None
    pods: tuple[Object, ...]
    attempts: list[Attempt]
    accounts: Accounts

    @property
    def pipeline(self) -> Object:
        """The TrainingPipeline."""
        return self.observed.pipeline

    @property
    def spec(self) -> Object:
        """Its spec."""
        return self.pipeline["spec"]  # type: ignore[no-any-return]

    @property
    def status(self) -> Object:
        """Its status as it was written last."""
        return self.pipeline.get("status", {})  # type: ignore[no-any-return]

    @property
    def policy(self) -> Object:
        """Its `spec.policy`."""
        return self.spec.get("policy", {})  # type: ignore[no-any-return]

    @property
    def job(self) -> Object | None:
        """The own Job, unless it is on its way out."""
        return None if self.own_job is None or deleting(self.own_job) else self.own_job

    def attempts_of(self, job: Object) -> list[Attempt]:
        """Return the attempts of the own Job, newest first."""
        since, pods = job["metadata"]["creationTimestamp"], {pod["metadata"]["uid"] for pod in self.pods}
        return [
            attempt
            for attempt in self.attempts
            if attempt.get("uid") in pods or attempt.get("startTime", attempt.get("endTime", "")) >= since
        ]

    @property
    def nodes(self) -> int:
        """How many pods train together."""
        return nodes_of(self.pipeline)

    @property
    def first_pods(self) -> list[Object]:
        """The pods that tell of the whole training, newest last: of several that train together, the first of each."""
        return [pod for pod in self.pods if index_of(pod) == 0]

    @property
    def running_pod(self) -> Object | None:
        """The newest of these that has not ended, if its container runs."""
        live = [pod for pod in self.first_pods if not ended(pod)]
        return live[-1] if live and "running" in container_state(live[-1]) else None


def sort(observed: Observed, now: datetime) -> View:
    """Return the view of what was seen."""
    pipeline, job = observed.pipeline, observed.job
    status = pipeline.get("status", {})
    own = job if job is not None and owned_by(job, pipeline["metadata"]["uid"]) else None
    current = own if own is not None and not deleting(own) else None
    recorded, nodes = status.get("attempts", ()), nodes_of(pipeline)
    known = attempts.uids(recorded)
    # News that a Job is gone may come before that of its pods, which are then known by its name. Not where a Job is
    # known: a pod of an earlier pipeline may have begun in the second in which this one was made.
    jobs = [uid for uid in (status.get("job", {}).get("uid"), own["metadata"]["uid"] if own else None) if uid]
    pods = sorted(
        (
            pod
            for pod in observed.pods
            if pod["metadata"]["uid"] in known
            or any(owned_by(pod, uid) for uid in jobs)
            or ("gone" in pod and not jobs and _is_of_a_job_of(pod, pipeline))
        ),
        key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["uid"]),
    )
    of_job = tuple(pod for pod in pods if own is not None and owned_by(pod, own["metadata"]["uid"]))
    failures = None
    if nodes == 1:
        # There may be others for a while, of a Job that had several.
        updated = attempts.update(recorded, [pod for pod in pods if index_of(pod) == 0], now)
    else:
        updated = gang.update(recorded, pods, now, nodes, is_leaving=_is_leaving(own))
        failures = gang.failures(recorded, updated, pods)
    return View(
        observed=observed,
        own_job=own,
        other_job=job if own is None else None,
        pods=of_job,
        attempts=updated,
        accounts=settle(status, current, _running_since(of_job, current, nodes), now, failures),
    )


def _is_of_a_job_of(pod: Object, pipeline: Object) -> bool:
    """Return whether a pod is of a Job that this pipeline has had, and not of an earlier pipeline of its name."""
    owner, metadata = controller(pod), pipeline["metadata"]
    is_younger = pod["metadata"]["creationTimestamp"] >= metadata["creationTimestamp"]
    return owner is not None and (owner["kind"], owner["name"]) == ("Job", metadata["name"]) and is_younger


def _is_leaving(job: Object | None) -> bool:
    """Return whether a Job ends its pods itself."""
    if job is None or deleting(job) or job_end(job) is not None or job["spec"].get("suspend", False):
        return True
    return holds(job, "SuccessCriteriaMet") or holds(job, "FailureTarget")


def _running_since(pods: tuple[Object, ...], job: Object | None, nodes: int) -> str | None:
    """Return since when a container runs or ran in the Job's current run; of several pods, those of all."""
    start = None if job is None else job.get("status", {}).get("startTime")
    if start is None:
        return None
    since: dict[int, str] = {}
    for pod in pods:
        if ended(pod) and pod["metadata"]["creationTimestamp"] < start:
            # A queue manager has suspended the Job since.
            continue
        state = container_state(pod)
        ran = state.get("running") or state.get("terminated") or {}
        if began := ran.get("startedAt"):
            since.setdefault(index_of(pod), str(began))
    return max(since.values()) if len(since) == nodes else None
