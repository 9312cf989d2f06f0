"""A document becomes frozen dataclasses: YAML as kubectl reads it, the CRD's schema and rules, changes by `--set`.

Nothing in here knows an array, a framework or a cluster. Others take `read`, `parse`, `from_pod` and the dataclasses,
and the reader of YAML for texts of their own.
"""

from feedline.manifest.document import (
    ArrayRef,
    Checkpoint,
    DrawRef,
    Loader,
    Manifest,
    Objective,
    Parameter,
    Split,
    Train,
    TransformRef,
    file_of,
    folder_of,
)
from feedline.manifest.jsonvalues import plain, read_json
from feedline.manifest.reading import ManifestError, from_pod, parse, pod_part, read
from feedline.manifest.yamlread import read_yaml

__all__ = [
    "ArrayRef",
    "Checkpoint",
    "DrawRef",
    "Loader",
    "Manifest",
    "ManifestError",
    "Objective",
    "Parameter",
    "Split",
    "Train",
    "TransformRef",
    "file_of",
    "folder_of",
    "from_pod",
    "parse",
    "plain",
    "pod_part",
    "read",
    "read_json",
    "read_yaml",
]
