"""How many pods and processes a pipeline has; one of each where its spec is older than that question."""

from collections.abc import Mapping
from typing import Any


def nodes_of(pipeline: Mapping[str, Any]) -> int:
    """Return how many pods of a pipeline train together."""
    return int(pipeline["spec"].get("resources", {}).get("nodes", 1))


def processes_of(pipeline: Mapping[str, Any]) -> int:
    """Return how many processes of each of these pods do."""
    return int(pipeline["spec"].get("resources", {}).get("processes", 1))
