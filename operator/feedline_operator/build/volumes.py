"""Volumes of the pod: the data, the manifest, the code, and the only places where the trainer may write.

Every source is a typed field of the pipeline, so that nobody mounts what `create pods` in the same namespace would
not let them mount. All data is read-only, in the volume and in the mount; what is in the output outlives the pod.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from feedline.contract import ANNOTATION_MANIFEST, DATA_DIR, MANIFEST_PATH, OUTPUT_DIR, SOURCE_DIR

_MANIFEST: Final = PurePosixPath(MANIFEST_PATH)
# Prefixes keep a user's volume from having the name of one of ours.
_MANIFEST_VOLUME, _SOURCE_VOLUME, _TMP_VOLUME, _SHM_VOLUME = "feedline-manifest", "feedline-code", "tmp", "shm"
_DATA_PREFIX: Final = "data-"
_OUTPUT_VOLUME: Final = "output"


def volumes(spec: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the pod's volumes and the container's mounts."""
    pairs = [_data(index, volume) for index, volume in enumerate(spec["data"]["volumes"])]
    pairs.append(_manifest())
    if output := spec.get("output"):
        pairs.append(_output(output))
    if source := spec["train"].get("source"):
        pairs.append(_code(source["configMap"]["name"]))
    pairs.append(({"name": _TMP_VOLUME, "emptyDir": {}}, {"name": _TMP_VOLUME, "mountPath": "/tmp"}))  # noqa: S108 - of the pod
    pairs.append(_shared_memory(spec.get("resources", {}).get("memory")))
    return [volume for volume, _ in pairs], [mount for _, mount in pairs]


def lost_image_volumes(sent: Mapping[str, Any], received: Mapping[str, Any]) -> bool:
    """Return whether the API server has left image volumes out of a Job.

    One that has none (before Kubernetes 1.35, unless they were switched on) takes such a Job, but not such a volume:
    the pod would start without its data.
    """
    return _image_volumes(received) < _image_volumes(sent)


def _image_volumes(job: Mapping[str, Any]) -> int:
    return sum("image" in volume for volume in job["spec"]["template"]["spec"].get("volumes", ()))


def _data(index: int, volume: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    # A volume's name may have 63 characters in the pipeline and in the pod, so the pod's is made from its place.
    name = f"{_DATA_PREFIX}{index}"
    if claim := volume.get("persistentVolumeClaim"):
        source = {"persistentVolumeClaim": {"claimName": claim["claimName"], "readOnly": True}}
    elif image := volume.get("image"):
        source = {"image": dict(image)}
    else:
        source = {"csi": {**volume["csi"], "readOnly": True}}
    return {"name": name, **source}, {"name": name, "mountPath": f"{DATA_DIR}/{volume['name']}", "readOnly": True}


def _output(output: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    # Whole, not a subPath: the kubelet would make that folder as root, and the trainer could not write into it.
    kind = "persistentVolumeClaim" if "persistentVolumeClaim" in output else "csi"
    return {"name": _OUTPUT_VOLUME, kind: dict(output[kind])}, {"name": _OUTPUT_VOLUME, "mountPath": OUTPUT_DIR}


def output_folder(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> str | None:
    """Return the folder of a run, its own by the pipeline's uid; None where it has no output."""
    if (output := spec.get("output")) is None:
        return None
    return str(PurePosixPath(OUTPUT_DIR, output.get("path", ""), own_folder(metadata)))


def own_folder(metadata: Mapping[str, Any]) -> str:
    """Return the name of a run's folder."""
    return f"{metadata['name']}-{metadata['uid'][:8]}"


def _manifest() -> tuple[dict[str, Any], dict[str, Any]]:
    item = {"path": _MANIFEST.name, "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION_MANIFEST}']"}}
    return (
        {"name": _MANIFEST_VOLUME, "downwardAPI": {"items": [item]}},
        {"name": _MANIFEST_VOLUME, "mountPath": str(_MANIFEST.parent), "readOnly": True},
    )


def _code(config_map: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        {"name": _SOURCE_VOLUME, "configMap": {"name": config_map}},
        {"name": _SOURCE_VOLUME, "mountPath": SOURCE_DIR, "readOnly": True},
    )


def _shared_memory(memory: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    # The runtime's own /dev/shm has 64 MiB, at which the workers of a DataLoader die with SIGBUS.
    limit = {} if memory is None else {"sizeLimit": memory}
    return (
        {"name": _SHM_VOLUME, "emptyDir": {"medium": "Memory", **limit}},
        {"name": _SHM_VOLUME, "mountPath": "/dev/shm"},  # noqa: S108 - of the pod
    )
