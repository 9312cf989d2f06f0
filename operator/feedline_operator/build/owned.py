"""What everything has in common that a pipeline owns: labels, and the owner that takes it along."""

from collections.abc import Mapping
from typing import Any

from feedline.contract import API_GROUP, API_VERSION, KIND, LABEL_BACKEND, LABEL_PIPELINE


def build_labels(name: str, backend: str) -> dict[str, str]:
    """Return the labels of what belongs to a pipeline."""
    return {
        LABEL_PIPELINE: name,
        LABEL_BACKEND: backend,
        "app.kubernetes.io/name": "feedline-trainer",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/managed-by": "feedline",
    }


def metadata_of(pipeline: Mapping[str, Any], name: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the metadata of an object that a pipeline owns.

    Parameters
    ----------
    name
        The object's.
    labels
        Further ones; feedline's own come after them.
    """
    metadata = pipeline["metadata"]
    return {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": {**(labels or {}), **build_labels(metadata["name"], pipeline["spec"]["backend"])},
        "ownerReferences": [owner(KIND, metadata)],
    }


def owner(kind: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reference of an owner that controls, of one of feedline's kinds."""
    return {
        "apiVersion": f"{API_GROUP}/{API_VERSION}",
        "kind": kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
