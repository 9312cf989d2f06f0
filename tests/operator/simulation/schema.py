"""What the API server has against a status: the CRD's schema, applied to the part that only the operator writes."""

import functools
import re
from pathlib import Path

import yaml

from feedline.manifest.schema import Schema

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CRD = Path(__file__).parents[3] / "crds" / "trainingpipelines.feedline.dev.yaml"
# What the API server takes for `format: date-time`.
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


@functools.cache
def _node(*path):
    version = yaml.load(_CRD.read_text(), _LOADER)["spec"]["versions"][0]
    node = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    for field in path:
        node = node["properties"][field]
    return node


@functools.cache
def _schema(*path):
    return Schema(_node(*path))


def problems(value, *path):
    """Return what the schema says against a status, or against the field of it that `path` names."""
    return [*_schema(*path).problems(value), *_bad_times(value, _node(*path))]


def _bad_times(value, node):
    if node.get("format") == "date-time" and isinstance(value, str) and not _DATE_TIME.fullmatch(value):
        yield f"{value!r} is no RFC 3339 time"
    if isinstance(value, dict):
        for field, item in value.items():
            yield from _bad_times(item, node.get("properties", {}).get(field, {}))
    if isinstance(value, list):
        for item in value:
            yield from _bad_times(item, node.get("items", {}))
