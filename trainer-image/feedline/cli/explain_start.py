"""What keeps a pod that has a node from starting, by its events. Pure.

The cause is the warning that explains the others, not the newest one: an attach error is told once, and the time-outs
that follow from it are told every two minutes.
"""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from feedline.cli.printable import sentence
from feedline.cli.seen import (
    Explanation,
    Object,
    Seen,
    advice_for,
    current_pod,
    events_about,
    has_ended,
    is_held_elsewhere,
    is_warning,
    subject,
)
from feedline.contract import FOLLOWING_EVENTS, LABEL_PIPELINE

_STEPS: Final = frozenset({"Scheduled", "Pulling", "Pulled", "Created", "Started"})
"""Events of what the kubelet comes to only when all that was in the way before is over."""
_FOLLOWING: Final = re.compile("|".join(FOLLOWING_EVENTS), re.IGNORECASE)
_COMBINED: Final = "(combined from similar events): "
_VOLUME: Final = re.compile(r'for volume "([^"]+)"')

_MOUNTS: Final = (
    (
        "configmap",
        "Create the ConfigMap of spec.train.source, or correct its name: `kubectl get configmap -n {namespace}`.",
    ),
    ("FailedAttachVolume", "Look at the claim and its storage: `kubectl describe pvc -n {namespace}`."),
    ("FailedMount", "Look at the claim and its storage: `kubectl describe pvc -n {namespace}`."),
)


def starting(seen: Seen) -> Explanation | None:
    """Say what events tell about a pod that has a node and no container yet."""
    pod = current_pod(seen)
    if pod is None or pod["status"].get("phase") != "Pending" or "nodeName" not in pod["spec"]:
        return None
    name, node, who = pod["metadata"]["name"], pod["spec"]["nodeName"], subject(seen, pod)
    events = events_about(seen, pod)
    if not events:
        return Explanation(f"{who} is starting: pod {name} has just come to node {node}.")
    event = _cause(events, pod) or events[0]
    reason, message = event.get("reason", ""), _message(event)
    if not is_warning(event):
        return Explanation(f"{who} is starting on node {node}: {sentence(message)}.")
    if is_held_elsewhere(event):
        return _held_elsewhere(seen, pod, message)
    advice = advice_for(_MOUNTS, f"{message} {reason}").format(namespace=seen.namespace)
    return Explanation(f"{who} cannot start on node {node}, {reason}: {sentence(message)}.", advice)


def _message(event: Object) -> str:
    return str(event.get("message") or "").removeprefix(_COMBINED)


def _cause(events: Sequence[Object], pod: Object) -> Object | None:
    """Return the newest warning since the last step that does not only follow from another, else the newest of all."""
    since = list(takewhile(lambda event: is_warning(event) or event.get("reason") not in _STEPS, events))
    warnings = [
        each for number, each in enumerate(since) if is_warning(each) and not _is_over(each, since[:number], pod)
    ]
    return min(warnings, key=lambda event: bool(_FOLLOWING.search(_message(event))), default=None)


def _is_over(warning: Object, later: Sequence[Object], pod: Object) -> bool:
    """Tell whether a later event says that a volume is attached, or waits for others of the pod's volumes only."""
    found = _VOLUME.search(_message(warning))
    if found is None:
        return False
    if warning.get("reason") == "FailedAttachVolume":
        attached = [_message(each) for each in later if each.get("reason") == "SuccessfulAttachVolume"]
        return any(found[0] in message for message in attached)
    # A claim's volume has a name of its own in its messages, by which it is not known here.
    if found[1] not in [volume["name"] for volume in pod["spec"].get("volumes", [])]:
        return False
    waited = [re.search(r"unmounted volumes=\[([^\]]*)\]", _message(each)) for each in later]
    return any(each and found[1] not in each[1].split() for each in waited)


# --- a volume that another node has ----------------------------------------------------------------------------------


def _held_elsewhere(seen: Seen, pod: Object, message: str) -> Explanation:
    """Say which pod on which node has a volume that may be attached to one node only, as far as that can be read."""
    node, own = pod["spec"]["nodeName"], _claims(pod)
    named = re.search(r"already used by pod\(s\) (.+?)(?: and \d+ pod|$)", message)
    names = named[1].split(", ") if named else []
    holders = [
        each
        for each in seen.neighbours or ()
        if each["spec"].get("nodeName", node) != node and _claims(each) & own and not has_ended(each)
    ]
    holders = [each for each in holders if each["metadata"]["name"] in names] or holders
    where = "another node"
    if holders:
        where = f"node {holders[0]['spec']['nodeName']}"
        holders = [each for each in holders if each["spec"]["nodeName"] == holders[0]["spec"]["nodeName"]]
        names = [each["metadata"]["name"] for each in holders]
        own = set.union(*map(_claims, holders)) & own
    others = sorted({_pipeline(each) for each in holders} - {"", seen.name})
    users = f", where {_users(names, others)}" if names else ""
    told = f"{subject(seen, pod)} cannot start on node {node}: {_volume(seen, own, message)} is attached to {where}"
    return Explanation(
        f"{told}{users}, and ReadWriteOnce allows one node.",
        _remedy(seen, names, others, message),
    )


def _claims(pod: Object) -> set[str]:
    """Return the names of the claims that a pod uses."""
    volumes = pod["spec"].get("volumes", [])
    return {each["persistentVolumeClaim"]["claimName"] for each in volumes if "persistentVolumeClaim" in each}


def _pipeline(pod: Object) -> str:
    return str(pod["metadata"].get("labels", {}).get(LABEL_PIPELINE, ""))


def _volume(seen: Seen, claims: set[str], message: str) -> str:
    """Return the pipeline's volume of the only claim that it can be, else the cluster's name of the volume."""
    if len(claims) != 1:
        found = _VOLUME.search(message)
        return f"volume {sentence(found[1])}" if found else "a volume"
    (claim,) = claims
    given = seen.pipeline["spec"]["data"].get("volumes", [])
    names = [each["name"] for each in given if each.get("persistentVolumeClaim", {}).get("claimName") == claim]
    return f"volume {names[0]} (claim {claim})" if names else f"the volume of claim {claim}"


def _users(pods: Sequence[str], pipelines: Sequence[str]) -> str:
    of = f" of pipeline {', '.join(pipelines)}" if pipelines else ""
    return f"{'pods' if len(pods) > 1 else 'pod'} {sentence(', '.join(pods))}{of} use{'' if len(pods) > 1 else 's'} it"


def _remedy(seen: Seen, pods: Sequence[str], pipelines: Sequence[str], message: str) -> str:
    if seen.pods_wanted > 1 and set(pods) <= {pod["metadata"]["name"] for pod in seen.pods}:
        return "Pods on several nodes need a ReadWriteMany claim; with this one, take resources.nodes 1."
    if pipelines:
        end = f"feedline delete {pipelines[0]} -n {seen.namespace}"
        return f"Wait for the end of {' and '.join(pipelines)}, or end it (`{end}`), or use a ReadWriteMany claim."
    if pods:
        return f"Delete {'those pods' if len(pods) > 1 else 'that pod'}, or use a ReadWriteMany claim."
    found = _VOLUME.search(message)
    which = f" | grep {sentence(found[1])}" if found else ""
    return (
        f"End what uses it there, or use a ReadWriteMany claim; `kubectl get volumeattachments{which}` names the node, "
        "which lets go of it by itself soon, or, if it is gone for good, when it is deleted."
    )
