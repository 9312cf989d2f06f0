"""The pod's template, hardened to the Pod Security level *restricted* whatever the pipeline says."""

from collections.abc import Mapping
from typing import Any, Final

from feedline.contract import (
    ANNOTATION_MANIFEST,
    CONTAINER,
    ENV_PIPELINE,
    LABEL_BACKEND,
    LABEL_PIPELINE,
    METRICS_PORT,
    METRICS_PORT_NAME,
)
from feedline_operator.build.manifest import manifest_text
from feedline_operator.build.volumes import volumes

COMMAND: Final = ("python", "-m", "feedline.launch")
_PLACEMENT: Final = (
    "nodeSelector",
    "tolerations",
    "affinity",
    "priorityClassName",
    "runtimeClassName",
    "imagePullSecrets",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
)


def build_labels(name: str, backend: str) -> dict[str, str]:
    """Return the labels that the Job and its pods share."""
    return {
        LABEL_PIPELINE: name,
        LABEL_BACKEND: backend,
        "app.kubernetes.io/name": "feedline-trainer",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "feedline",
    }


def build_pod(pipeline: Mapping[str, Any], image: str, security: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pod template of a pipeline (metadata and spec).

    Parameters
    ----------
    image
        The trainer's.
    security
        User and groups where the pipeline names none.
    """
    name, spec = pipeline["metadata"]["name"], pipeline["spec"]
    pod = spec.get("pod", {})
    pod_volumes, mounts = volumes(spec)
    return {
        "metadata": {
            "labels": {**pod.get("labels", {}), **build_labels(name, spec["backend"])},
            "annotations": {**pod.get("annotations", {}), ANNOTATION_MANIFEST: manifest_text(spec)},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **{field: pod[field] for field in _PLACEMENT if field in pod},
            "securityContext": {
                **security,
                **pod.get("securityContext", {}),
                "runAsNonRoot": True,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    # Also for an image of one's own, whose entrypoint may be another.
                    "command": list(COMMAND),
                    "env": _environment(name, pod.get("env", [])),
                    "ports": [{"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT}],
                    "resources": _resources(spec.get("resources", {})),
                    # The trainer writes its report there; the end of its log stands in where it was killed.
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": mounts,
                }
            ],
            "volumes": pod_volumes,
        },
    }


def _environment(name: str, own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # The root file system is read-only, and frameworks write their caches below HOME. A pipeline may name another.
    defaults = {"HOME": "/tmp", ENV_PIPELINE: name}  # noqa: S108 - of the pod
    named = {variable["name"] for variable in own}
    return [{"name": key, "value": value} for key, value in defaults.items() if key not in named] + own


def _resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    amounts = {resource: resources[resource] for resource in ("cpu", "memory") if resource in resources}
    if accelerator := resources.get("accelerator"):
        amounts[accelerator["resourceName"]] = accelerator["count"]
    return {"requests": amounts, "limits": dict(amounts)} if amounts else {}
