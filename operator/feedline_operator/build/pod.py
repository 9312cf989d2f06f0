"""The pod's template, hardened to the Pod Security level *restricted* whatever the pipeline says."""

from collections.abc import Mapping
from typing import Any, Final

from feedline.contract import (
    ANNOTATION_MANIFEST,
    CONTAINER,
    DISCARD_ANNOTATION,
    ENV_DISCARD,
    ENV_NODE,
    ENV_NODES,
    ENV_OUTPUT,
    ENV_PEER_TIMEOUT,
    ENV_PEERS,
    ENV_PIPELINE,
    ENV_PROCESSES,
    ENV_RUN,
    LABEL_SWEEP,
    METRICS_PORT,
    METRICS_PORT_NAME,
    PEER_TIMEOUT_SECONDS,
    PEERS_PORT,
)
from feedline_operator.build.manifest import manifest_text
from feedline_operator.build.owned import build_labels
from feedline_operator.build.service import service_name
from feedline_operator.build.size import nodes_of, processes_of
from feedline_operator.build.volumes import output_folder, volumes

COMMAND: Final = ("python", "-m", "feedline.launch")
_TMP: Final = "/tmp"  # noqa: S108 - of the pod, where nobody else writes
# Whatever the image: its passwd does not know the pod's user, and its root file system is read-only. An image's own ENV
# gives way, since nothing can be written to the places that it names; a pipeline's own spec.pod.env does not.
_ENVIRONMENT: Final = {
    # getpass asks these before the passwd, and "~" is HOME: torch.compile, Triton and many others begin with either.
    "USER": "feedline",
    "LOGNAME": "feedline",
    "HOME": _TMP,
    # HF_HOME and TORCH_HOME lie below it, unless the image sets them: they may hold models that it brings along.
    "XDG_CACHE_HOME": f"{_TMP}/.cache",
    # What is compiled while the training runs.
    "TORCHINDUCTOR_CACHE_DIR": f"{_TMP}/.cache/torchinductor",
    "TRITON_CACHE_DIR": f"{_TMP}/.cache/triton",
    "NUMBA_CACHE_DIR": f"{_TMP}/.cache/numba",
    "CUDA_CACHE_PATH": f"{_TMP}/.nv/ComputeCache",
    # Settings, which are written where there are none, and what is cached beside them.
    "KERAS_HOME": f"{_TMP}/.keras",
    "MPLCONFIGDIR": f"{_TMP}/.config/matplotlib",
}
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


def build_pod(pipeline: Mapping[str, Any], image: str, security: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pod template of a pipeline (metadata and spec).

    Parameters
    ----------
    image
        The trainer's.
    security
        User and groups where the pipeline names none.
    """
    metadata, spec = pipeline["metadata"], pipeline["spec"]
    name, pod = metadata["name"], spec.get("pod", {})
    pod_volumes, mounts = volumes(spec)
    folder = output_folder(metadata, spec)
    given = {ENV_PIPELINE: name} | ({} if folder is None else {ENV_OUTPUT: folder, ENV_RUN: metadata["uid"]})
    given |= _discards(metadata) | _together(pipeline)
    return {
        "metadata": {
            "labels": {**pod.get("labels", {}), **_of_a_sweep(metadata), **build_labels(name, spec["backend"])},
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
                    "env": _environment(given, pod.get("env", [])),
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


def _of_a_sweep(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the label by which trials find each other's nodes."""
    sweep = metadata.get("labels", {}).get(LABEL_SWEEP)
    return {} if sweep is None else {LABEL_SWEEP: sweep}


def _discards(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return what a trial is to free of those before it, on the volume to which all of them write."""
    named = metadata.get("annotations", {}).get(DISCARD_ANNOTATION)
    return {} if named is None else {ENV_DISCARD: named}


def _together(pipeline: Mapping[str, Any]) -> dict[str, str]:
    """Return what a pod learns of the processes that train together, here and in other pods."""
    told: dict[str, str] = {}
    nodes, processes = nodes_of(pipeline), processes_of(pipeline)
    if nodes * processes > 1:
        told[ENV_PROCESSES] = str(processes)
        told[ENV_PEER_TIMEOUT] = str(pipeline["spec"].get("policy", {}).get("peerTimeoutSeconds", PEER_TIMEOUT_SECONDS))
    if nodes > 1:
        told |= {ENV_NODES: str(nodes), ENV_PEERS: f"{service_name(pipeline['metadata']['name'])}:{PEERS_PORT}"}
    return told


def _environment(given: Mapping[str, str], own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    named = {variable["name"] for variable in own}
    everything = {**_ENVIRONMENT, **given}
    values: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in everything.items()]
    if ENV_NODES in given:
        values.append({"name": ENV_NODE, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})
    return [variable for variable in values if variable["name"] not in named] + own


def _resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    amounts = {resource: resources[resource] for resource in ("cpu", "memory") if resource in resources}
    if accelerator := resources.get("accelerator"):
        amounts[accelerator["resourceName"]] = accelerator["count"]
    return {"requests": amounts, "limits": dict(amounts)} if amounts else {}
