"""What `feedline why` and `status` read from the objects of a pipeline: the questions that several of them ask.

Objects are plain dicts, and a field that is not there is nothing unusual. Pure; what an answer means for a person is
said elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feedline.cli.printable import sentence
from feedline.contract import LABEL_INDEX

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """What the API server holds about a pipeline, as plain objects.

    Attributes
    ----------
    name, namespace
        What was asked for.
    pipeline
        The TrainingPipeline; empty if there is none.
    job, pods
        What has its name and its label.
    events
        Events about the Job and its pods.
    workload
        Kueue's Workload for the Job.
    nodes
        By name, the nodes of the pods, where the user may read them.
    neighbours
        All pods of the namespace, read where an event says that another node has a volume; None where the user may not
        list them.
    server_version
        Such as (1, 36).
    """

    name: str
    namespace: str
    pipeline: Object
    job: Object | None = None
    pods: Sequence[Object] = ()
    events: Sequence[Object] = ()
    workload: Object | None = None
    nodes: Mapping[str, Object] = field(default_factory=dict)
    neighbours: Sequence[Object] | None = ()
    server_version: tuple[int, int] | None = None

    @property
    def pods_wanted(self) -> int:
        """How many pods train together."""
        return int(self.pipeline.get("spec", {}).get("resources", {}).get("nodes", 1))


@dataclass(frozen=True)
class Explanation:
    """One sentence, and one about what to do, empty where there is nothing to do."""

    sentence: str
    advice: str = ""


def condition(thing: Object, kind: str) -> Object:
    """Return an object's condition of a type; an unknown one if it has none."""
    conditions = thing.get("status", {}).get("conditions") or []
    unknown = {"type": kind, "status": "Unknown", "reason": "Unknown", "message": ""}
    return next((each for each in conditions if each["type"] == kind), unknown)


def verdict(numbers: Object) -> str:
    """Say whether the data or the model holds a run back, from its `feed` or `report`; "" where they do not tell."""
    from feedline.units import rate

    judged, waiting = numbers.get("verdict"), numbers.get("waitPermille")
    if not judged or waiting is None:
        return ""
    share = f"{waiting / 10:.0f} % of the time waits for data"
    if not judged.get("inputBound"):
        return f"the model is the bottleneck, only {share}"
    feed, model = numbers.get("feedSamplesPerSecond"), numbers.get("modelSamplesPerSecond")
    rates = (
        f"; the feed can deliver {rate(feed)}, the model could take {rate(model, unit='')}" if feed and model else ""
    )
    return f"the data are the bottleneck, {share} (cause {sentence(judged.get('cause', 'Unknown'))}{rates})"


def output_of(pipeline: Object) -> str | None:
    """Return where a pipeline leaves what it makes, for people; None where it has no output."""
    spec, metadata = pipeline["spec"], pipeline["metadata"]
    if (output := spec.get("output")) is None:
        return None
    folder = "/".join(filter(None, (output.get("path"), f"{metadata['name']}-{metadata['uid'][:8]}")))
    claim = output.get("persistentVolumeClaim")
    return f"{folder} on the " + (f"claim {claim['claimName']}" if claim else "volume of its spec.output.csi")


def saved(pipeline: Object) -> str:
    """Say which checkpoint is the newest, such as ``step 800``; "" where none is known."""
    checkpoint = pipeline.get("status", {}).get("checkpoint") or {}
    return f"step {checkpoint['step']}" if "step" in checkpoint else ""


def progress(numbers: Object) -> str:
    """Return steps done and to do, such as ``812 of 2000 (41 %)``."""
    steps, target = numbers.get("steps", 0), numbers.get("targetSteps")
    return f"{steps} of {target} ({100 * steps // target} %)" if target else str(steps)


def has_ended(pod: Object) -> bool:
    """Tell whether a pod has run to its end, well or not."""
    return pod["status"].get("phase") in {"Succeeded", "Failed"}


def current_pod(seen: Seen) -> Object | None:
    """Return the newest pod that has not ended and is not being deleted.

    Of several that train together it is one that waits, best one of whose wait something is known.
    """
    live = [pod for pod in seen.pods if not has_ended(pod) and "deletionTimestamp" not in pod["metadata"]]
    if seen.pods_wanted > 1:
        return max(live, key=_how_much_it_waits, default=None)
    return max(live, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def _how_much_it_waits(pod: Object) -> tuple[bool, bool, int]:
    waits = [each.get("state", {}).get("waiting", {}) for each in pod["status"].get("containerStatuses", [])]
    is_told = condition(pod, "PodScheduled")["status"] == "False" or any(
        wait.get("reason", "ContainerCreating") not in ("ContainerCreating", "PodInitializing") for wait in waits
    )
    return is_told, pod["status"].get("phase") != "Running", -index_of(pod)


def index_of(pod: Object) -> int:
    """Return the number of a pod in its Job."""
    return int(pod["metadata"].get("labels", {}).get(LABEL_INDEX) or 0)


def subject(seen: Seen, pod: Object) -> str:
    """Return of whom a sentence about a pod speaks: the pipeline, or that pod and how many of the others run."""
    if seen.pods_wanted == 1:
        return seen.name
    running = [each for each in seen.pods if each["status"].get("phase") == "Running" and each is not pod]
    return f"{len(running)} of {seen.pods_wanted} pods of {seen.name} run; {pod['metadata']['name']}"


def events_about(seen: Seen, about: Object) -> list[Object]:
    """Return the events about an object, newest first; of one second, in which much happens, warnings before others."""
    events = [each for each in seen.events if each["involvedObject"].get("uid") == about["metadata"]["uid"]]
    return sorted(events, key=lambda event: (_time(event), is_warning(event)), reverse=True)


def is_warning(event: Object) -> bool:
    """Tell whether an event is one of trouble."""
    return bool(event.get("type") == "Warning")


def is_held_elsewhere(event: Object) -> bool:
    """Tell whether an event says that a volume for one node is attached to another."""
    return "Multi-Attach error" in (event.get("message") or "")


def _time(event: Object) -> str:
    series = event.get("series") or {}
    times = (event.get("lastTimestamp"), series.get("lastObservedTime"), event.get("eventTime"))
    return max(each or "" for each in times)


def advice_for(table: Sequence[tuple[str, str]], message: str) -> str:
    """Return the advice of the first row whose fragment the message holds, else ""."""
    return next((advice for fragment, advice in table if fragment in message), "")
