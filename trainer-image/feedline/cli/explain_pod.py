"""What can hold a pod of a pipeline back by its own status: its node, the scheduler, the image. Pure.

Each rule looks at one of these and says what is wrong and what to do, or is silent (`feedline.cli.explain` asks them).
"""

from typing import Final

from feedline.cli.printable import sentence
from feedline.cli.seen import Explanation, Object, Seen, advice_for, condition, current_pod, has_ended, subject


def unreachable(seen: Seen) -> Explanation | None:
    """Say that a pod's node does not answer, so that nothing replaces the pod."""
    for pod in seen.pods:
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName")
        problem = _node_problem(pod, seen.nodes.get(node)) if node and not has_ended(pod) else ""
        if problem:
            return Explanation(
                f"{seen.name} hangs: its pod {name} is on node {node}, which {problem}, and no other pod is started "
                "before that one is known to have ended.",
                "Bring the node back; if the machine is gone for good, `kubectl delete node` it. Only if you know that "
                f"it runs no more: `kubectl delete pod {name} -n {seen.namespace} --force --grace-period=0`, which "
                "ends nothing but makes the cluster forget the pod: if it does run, two train at once.",
            )
    return None


def _node_problem(pod: Object, node: Object | None) -> str:
    """Say what is wrong with a pod's node; who may not read nodes goes by why the pod is being deleted."""
    ready = condition(node or {}, "Ready")
    if node is not None and ready["status"] != "True":
        return f"is not ready ({sentence(ready['message']) or ready['reason']})"
    taken_away = condition(pod, "DisruptionTarget")["reason"] == "DeletionByTaintManager"
    return "does not seem to answer any more" if node is None and taken_away else ""


_UNSCHEDULABLE: Final = (
    ("persistentvolumeclaim", "Create the claim, or correct spec.data.volumes: `kubectl get pvc -n {namespace}`."),
    (
        "ReadWriteOncePod",
        "Delete the pod that uses the claim, or wait for its end: `kubectl describe pvc -n {namespace}` names it.",
    ),
    ("PersistentVolumeClaim", "See why the claim is not bound: `kubectl describe pvc -n {namespace}`."),
    ("Insufficient", "Ask for less in spec.resources, free some, or add a node: `kubectl describe nodes`."),
    ("taint", "Allow the taint in spec.pod.tolerations, if the pipeline may run there."),
    ("node affinity/selector", "Correct spec.pod.nodeSelector or affinity: `kubectl get nodes --show-labels`."),
)


def unschedulable(seen: Seen) -> Explanation | None:
    """Say why the scheduler finds no node for the pod."""
    pod = current_pod(seen)
    if pod is None or (scheduled := condition(pod, "PodScheduled"))["status"] != "False":
        return None
    # What the scheduler would have to preempt helps nobody, and is half of the message.
    message = scheduled["message"].partition(" preemption:")[0]
    return Explanation(
        f"{subject(seen, pod)} waits for a node: {sentence(message) or scheduled['reason']}.",
        advice_for(_UNSCHEDULABLE, message).format(namespace=seen.namespace),
    )


_IMAGE: Final = (
    "Correct spec.image and the registry's rights (spec.pod.imagePullSecrets), delete {name} and submit it again."
)
_WAITING: Final = {
    **dict.fromkeys(
        ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"), _IMAGE
    ),
    "CreateContainerConfigError": "Create what is missing, or correct spec.pod.",
    "CreateContainerError": "Correct spec.image or spec.train.command, delete {name} and submit it again.",
    "RunContainerError": "Correct spec.image or spec.train.command, delete {name} and submit it again.",
}


def container_waits(seen: Seen) -> Explanation | None:
    """Say why the kubelet cannot start the container."""
    pod = current_pod(seen)
    if pod is None:
        return None
    for container in pod["status"].get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason not in _WAITING:
            continue
        message = (
            sentence(waiting.get("message", ""))
            or f"image {container.get('image') or seen.pipeline['spec'].get('image')}"
        )
        told = f"{subject(seen, pod)} cannot start, {reason}: {message}."
        return Explanation(told, _WAITING[reason].format(name=seen.name))
    return None
