"""Why a pipeline is where it is, in one sentence, from what the API server holds about it. Pure.

Each rule looks at one thing that can hold a pipeline up and says so, or is silent; the first that speaks is right. So
their order is the order of causes: what is not there, what has ended, who holds the Job back, what holds the pod back,
and only then the training itself. Nothing is asked of the cluster here, and what could not be read is simply unknown.
"""

from collections.abc import Callable
from typing import Final

from feedline.cli.explain_pod import container_waits, unreachable, unschedulable
from feedline.cli.explain_start import starting
from feedline.cli.printable import sentence
from feedline.cli.seen import (
    Explanation,
    Object,
    Seen,
    advice_for,
    condition,
    current_pod,
    events_about,
    output_of,
    progress,
    saved,
    verdict,
)
from feedline.contract import KIND, MESHES

Rule = Callable[[Seen], Explanation | None]


def explain(seen: Seen) -> Explanation:
    """Return why the pipeline is where it is."""
    for rule in _RULES:
        explanation = rule(seen)
        if explanation is not None:
            return explanation
    succeeded = condition(seen.pipeline, "Succeeded")
    return Explanation(f"{seen.name} is {succeeded['reason']}: {sentence(succeeded['message'])}.")


# --- the pipeline itself ---------------------------------------------------------------------------------------------


def _absent(seen: Seen) -> Explanation | None:
    if seen.pipeline:
        return None
    return Explanation(
        f"There is no pipeline {seen.name} in namespace {seen.namespace}.",
        "`feedline status` lists those that are there; --namespace chooses another namespace.",
    )


def _deleting(seen: Seen) -> Explanation | None:
    if "deletionTimestamp" not in seen.pipeline["metadata"]:
        return None
    left = [f"pod {pod['metadata']['name']}" for pod in seen.pods]
    waits = f" and waits for {', '.join(left)}" if left else ""
    return unreachable(seen) or Explanation(f"{seen.name} is being deleted{waits}.")


def _unseen(seen: Seen) -> Explanation | None:
    status = seen.pipeline.get("status") or {}
    advice = (
        "Check that the operator runs and watches this namespace: "
        "`kubectl get pods --all-namespaces -l app.kubernetes.io/name=feedline-operator`."
    )
    if condition(seen.pipeline, "Succeeded")["reason"] == "Unknown":
        return Explanation(f"No feedline operator has looked at {seen.name} yet.", advice)
    if status.get("observedGeneration", 0) < seen.pipeline["metadata"].get("generation", 0):
        return Explanation(f"No feedline operator has looked at {seen.name} since it was changed.", advice)
    return None


_REMEDIES: Final = {
    "InvalidSpec": "Correct the manifest (`feedline check FILE`), delete {name} and submit it again.",
    "DataInvalid": "Repair the data (`feedline check FILE --volume NAME=DIR`), delete {name} and submit it again.",
    "UserError": "Read the traceback by `feedline logs {name}`, correct the code, delete {name} and submit it again.",
    "EnvironmentInvalid": "Name an image in spec.image that has what is missing, delete {name} and submit it again.",
    "OutOfMemory": "Raise spec.resources.memory or lower loader.batchSize, delete {name} and submit it again.",
    "RetriesExhausted": "Read the last attempt's log by `feedline logs {name}`.",
    "StartDeadlineExceeded": "Raise policy.startDeadlineSeconds or free what it waited for, and submit it again.",
    "DeadlineExceeded": "Raise policy.activeDeadlineSeconds or lower epochs or steps, and submit it again.",
    "InternalError": "Report it, with the operator's log.",
}


def _finished(seen: Seen) -> Explanation | None:
    succeeded, status = condition(seen.pipeline, "Succeeded"), seen.pipeline["status"]
    message = sentence(succeeded["message"])
    if succeeded["status"] == "True":
        report = status.get("report") or {}
        steps = f" after {report['steps']} steps" if "steps" in report else ""
        judged = verdict(report)
        place = output_of(seen.pipeline)
        left = f"; what it made lies in {place}" if place and saved(seen.pipeline) else ""
        return Explanation(
            f"{seen.name} is {succeeded['reason']}{steps}: {judged or message}{left}.",
            sentence(report["verdict"].get("advice", "")) + "." if judged and report["verdict"]["inputBound"] else "",
        )
    if succeeded["status"] != "False":
        return None
    cause = _attempt(status, unless_in=message)
    reason = succeeded["reason"]
    return Explanation(
        f"{seen.name} failed, {reason}: {message}{cause}.", _REMEDIES.get(reason, "").format(name=seen.name)
    )


def _attempt(status: Object, unless_in: str) -> str:
    """Say how the last attempt ended, unless the message says so already."""
    last = (status.get("attempts") or [{}])[0]
    said = sentence(last.get("message", ""))
    if not last.get("reason") or (said and said in unless_in):
        return ""
    code = f" (exit code {last['exitCode']})" if "exitCode" in last else ""
    told = f": {said}" if said else ""
    return f"; attempt {last['index']} ended with {sentence(last['reason'])}{code}{told}"


def _suspended(seen: Seen) -> Explanation | None:
    if not seen.pipeline["spec"].get("suspend"):
        return None
    change = """-p '{"spec":{"suspend":false}}'"""
    from_there = f"; it will go on from {saved(seen.pipeline)}" if saved(seen.pipeline) else ""
    return Explanation(
        f"{seen.name} is suspended by its own spec.suspend{from_there}.",
        f"Let it go on by `kubectl patch trainingpipeline {seen.name} -n {seen.namespace} --type=merge {change}`.",
    )


# --- the Job ---------------------------------------------------------------------------------------------------------


def _own_job(seen: Seen) -> Object | None:
    owners = seen.job["metadata"].get("ownerReferences", []) if seen.job else []
    return seen.job if seen.pipeline["metadata"]["uid"] in [owner["uid"] for owner in owners] else None


def _image_volume(seen: Seen) -> Explanation | None:
    # An API server without image volumes (before 1.35, as it comes) takes the Job and drops them without a word.
    volumes = [each["name"] for each in seen.pipeline["spec"]["data"].get("volumes", []) if "image" in each]
    job = _own_job(seen)
    if not volumes or job is None or condition(seen.pipeline, "Succeeded")["status"] == "True":
        return None
    template = job["spec"]["template"]["spec"]
    if len([each for each in template.get("volumes", []) if "image" in each]) >= len(volumes):
        return None
    version = f", and this is {'.'.join(map(str, seen.server_version))}" if seen.server_version else ""
    return Explanation(
        f"{seen.name} has no data: its volume {', '.join(volumes)} is an image, which this cluster leaves out; that "
        f"needs Kubernetes 1.35 or newer{version}.",
        f"Put the data on a persistentVolumeClaim, delete {seen.name} and submit it again.",
    )


def _foreign_job(seen: Seen) -> Explanation | None:
    if seen.job is None or _own_job(seen) is not None:
        return None
    owners = seen.job["metadata"].get("ownerReferences", [])
    if (KIND, seen.name) in [(owner["kind"], owner["name"]) for owner in owners]:
        return Explanation(f"{seen.name} waits until the Job of the earlier pipeline of that name is gone.")
    return Explanation(
        f"{seen.name} cannot start: a Job of that name is there that is not its own.",
        f"Delete it (`kubectl delete job {seen.name} -n {seen.namespace}`), or submit under another name (--name).",
    )


_NEVER_FITS: Final = frozenset({"NoMatchingFlavor", "ExceedsMaxQuota", "Misconfigured"})


def _queued(seen: Seen) -> Explanation | None:
    job = _own_job(seen)
    if job is None or not job["spec"].get("suspend"):
        return None
    queue = job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name")
    where = f"the queue {queue}" if queue else "its queue"
    if seen.workload is None:
        return Explanation(
            f"{seen.name} waits in {where}: its Job is suspended, not by itself, and no reason can be read.",
            f"Look at the queue (`kubectl get localqueue,workload -n {seen.namespace}`), or ask who suspended the Job.",
        )
    if seen.workload["spec"].get("active") is False:
        return Explanation(
            f"{seen.name} waits in {where}: its Workload was deactivated.",
            f"Activate it: `kubectl kueue resume workload {seen.workload['metadata']['name']} -n {seen.namespace}`.",
        )
    for kind in ("QuotaReserved", "Admitted", "Evicted"):
        held = condition(seen.workload, kind)
        if held["status"] == ("True" if kind == "Evicted" else "False") and held["message"]:
            return Explanation(
                f"{seen.name} waits in {where}: {sentence(held['message'])}.",
                "It will never fit as it is: ask for less (spec.resources), or for another queue."
                if _will_never_fit(held)
                else "",
            )
    return Explanation(f"{seen.name} waits in {where}: Kueue has not looked at it yet.")


def _will_never_fit(held: Object) -> bool:
    """Return whether no flavor of the queue has so much; Kueue 0.17 says so in its message alone."""
    told = held["message"]
    return held["reason"] in _NEVER_FITS or ("> maximum capacity" in told and "insufficient unused" not in told)


_REFUSALS: Final = (
    (
        "exceeded quota",
        "Free some of the quota (`kubectl describe quota -n {namespace}`), or ask for less in spec.resources.",
    ),
    (
        "violates PodSecurity",
        "Change what the message names in spec.pod, or use a namespace whose Pod Security allows it.",
    ),
    ("serviceaccount", "Create the ServiceAccount, or correct spec.pod.serviceAccountName."),
    ("PriorityClass", "Correct spec.pod.priorityClassName."),
)


def _refused(seen: Seen) -> Explanation | None:
    """Look for what keeps the Job from having a pod at all."""
    job = _own_job(seen)
    events = events_about(seen, job) if job is not None and current_pod(seen) is None else []
    if not events or events[0].get("reason") != "FailedCreate":
        return None
    message = events[0].get("message", "")
    return Explanation(
        f"{seen.name} gets no pod: {sentence(message)}.",
        advice_for(_REFUSALS, message).format(namespace=seen.namespace),
    )


# --- the training ----------------------------------------------------------------------------------------------------


def _ended_unseen(seen: Seen) -> Explanation | None:
    job = _own_job(seen) or {}
    ended = [kind for kind in ("Complete", "Failed") if condition(job, kind)["status"] == "True"]
    if not ended:
        return None
    return Explanation(
        f"The Job of {seen.name} has ended ({ended[0]}), and the operator has not looked at it yet.",
        "If that stays so, check that the operator runs: "
        "`kubectl get pods --all-namespaces -l app.kubernetes.io/name=feedline-operator`.",
    )


def _cannot_meet(seen: Seen) -> Explanation | None:
    """Look for a mesh's proxy between pods that run and do not come to train."""
    began = (seen.pipeline["status"].get("feed") or {}).get("steps")
    if seen.pods_wanted == 1 or began or condition(seen.pipeline, "Succeeded")["reason"] != "Running":
        return None
    kinds = ("containers", "initContainers")
    containers = {each["name"] for pod in seen.pods for kind in kinds for each in pod["spec"].get(kind, [])}
    proxies = sorted(containers & MESHES.keys())
    if not proxies:
        return None
    return Explanation(
        f"All {seen.pods_wanted} pods of {seen.name} run and have not begun to train: container {proxies[0]}, which "
        "something injected, may keep them from each other.",
        f"Set spec.pod.annotations {MESHES[proxies[0]]}, which needs a suspension or a new pipeline.",
    )


def _running(seen: Seen) -> Explanation | None:
    if condition(seen.pipeline, "Succeeded")["reason"] != "Running":
        return None
    feed = seen.pipeline["status"].get("feed") or {}
    pod = current_pod(seen)
    where = f" on node {pod['spec']['nodeName']}" if pod and "nodeName" in pod["spec"] else ""
    where = f" on {seen.pods_wanted} nodes" if seen.pods_wanted > 1 else where
    judged = verdict(feed)
    if not judged:
        bound = condition(seen.pipeline, "InputBound")
        said = sentence(bound["message"]) or "the operator has no numbers from its pod yet"
        return Explanation(f"{seen.name} is training{where}; whether data or model hold it back is not known: {said}.")
    unsaved = condition(seen.pipeline, "CheckpointsHealthy")
    if unsaved["status"] == "False":
        return Explanation(f"{seen.name} is training{where}, but cannot save itself: {sentence(unsaved['message'])}.")
    went_on = f" (gone on from step {feed['fromStep']})" if "fromStep" in feed else ""
    steps = f", step {progress(feed)}{went_on}" if "steps" in feed else ""
    advice = sentence(feed["verdict"].get("advice", "")) if feed["verdict"]["inputBound"] else ""
    return Explanation(f"{seen.name} is training{where}{steps}: {judged}.", f"{advice}." if advice else "")


_RULES: Final[tuple[Rule, ...]] = (
    _absent,
    _deleting,
    _unseen,
    _image_volume,
    _finished,
    _suspended,
    _foreign_job,
    _queued,
    _refused,
    unreachable,
    unschedulable,
    container_waits,
    starting,
    _ended_unseen,
    _cannot_meet,
    _running,
)
