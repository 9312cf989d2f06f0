"""The Job: retries, disruptions and the backstop deadline are Kubernetes' own, never a loop of ours.

The operator creates the Job and deletes it; it never rewrites one. Suspension, scheduling and labels of a created Job
belong to whoever manages its queue.
"""

from collections.abc import Mapping
from typing import Any, Final

from feedline.contract import CONTAINER, FATAL_EXIT_CODES
from feedline_operator.build.owned import metadata_of
from feedline_operator.build.pod import build_pod
from feedline_operator.build.size import nodes_of

_KUEUE: Final = "kueue.x-k8s.io/"
_BACKSTOP_SECONDS: Final = 60
"""The Job's own deadline comes this much later than the operator's, which has summed earlier Jobs up."""

_BACKSTOP_FAILURES: Final = 10
"""Of several pods, whose failures the operator counts, each may fail so often more: one that is deleted by hand counts
for the Job, and is a disruption for those that train with it."""


def build_job(
    pipeline: Mapping[str, Any],
    *,
    image: str,
    retries: int,
    active_deadline_seconds: int | None,
    security: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the Job of a pipeline.

    Parameters
    ----------
    pipeline
        The TrainingPipeline, as the API server has it.
    image
        The trainer's image.
    retries
        How many failed pods may still be replaced; where several train together, how often all of them may be.
    active_deadline_seconds
        What is left of the pipeline's active time, None without a deadline.
    security
        User and groups of the pod where the pipeline names none, as `spec.pod.securityContext`.
    """
    metadata = pipeline["metadata"]
    queue_labels = {key: value for key, value in metadata.get("labels", {}).items() if key.startswith(_KUEUE)}
    nodes = nodes_of(pipeline)
    deadline = (
        {}
        if active_deadline_seconds is None
        else {"activeDeadlineSeconds": active_deadline_seconds + _BACKSTOP_SECONDS}
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata_of(pipeline, metadata["name"], queue_labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            # The first pod ends last, and the Job with it, whatever the others do meanwhile.
            **({"successPolicy": {"rules": [{"succeededIndexes": "0"}]}} if nodes > 1 else {}),
            # By index: the Job's own backoffLimit waited 40 s where this waits 10, behind one eviction. The delay grows
            # with each further end of a pod of that number, those of disruptions too (Kubernetes 1.36, measured).
            "backoffLimitPerIndex": retries if nodes == 1 else retries + _BACKSTOP_FAILURES,
            "maxFailedIndexes": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": CONTAINER,
                            "operator": "In",
                            "values": sorted(int(code) for code in FATAL_EXIT_CODES),
                        },
                    },
                ]
            },
            **deadline,
            "template": build_pod(pipeline, image, security),
        },
    }
