"""The Service of a pipeline on several nodes: the address of its first pod, which outlives that pod.

A name of the pod itself would do so as well, but answers for up to half a minute with the address of the pod before.
"""

from collections.abc import Mapping
from typing import Any

from feedline.contract import LABEL_INDEX, LABEL_PIPELINE, PEERS_PORT
from feedline_operator.build.owned import metadata_of


def service_name(name: str) -> str:
    """Return the name of a pipeline's Service, by which its pods know it."""
    return f"{name}-peers"


def build_service(pipeline: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Service by which the pods of a pipeline find the first of them."""
    name = pipeline["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata_of(pipeline, service_name(name)),
        "spec": {
            "selector": {LABEL_PIPELINE: name, LABEL_INDEX: "0"},
            # The others come while it is not ready: it waits for them.
            "publishNotReadyAddresses": True,
            "ports": [{"name": "peers", "port": PEERS_PORT, "targetPort": PEERS_PORT}],
        },
    }
