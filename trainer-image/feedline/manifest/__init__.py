"""A document becomes frozen dataclasses: YAML as kubectl reads it, the CRD's schema and rules, changes by `--set`.

Nothing in here knows an array, a framework or a cluster. Others take `read`, `parse`, `from_pod` and the dataclasses,
`read_sweep` and `parse_sweep` for many trainings of one, and the reader and the writer of YAML for texts of their own.
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
from feedline.manifest.sweep import (
    CONFIRMATION,
    Choice,
    Confirm,
    Dimension,
    Numbers,
    Pruning,
    Sweep,
    parameters_of,
    parse_sweep,
    read_sweep,
)
from feedline.manifest.yamlread import read_yaml
from feedline.manifest.yamlwrite import to_yaml

__all__ = [
    "CONFIRMATION",
    "ArrayRef",
    "Checkpoint",
    "Choice",
    "Confirm",
    "Dimension",
    "DrawRef",
    "Loader",
    "Manifest",
    "ManifestError",
    "Numbers",
    "Objective",
    "Parameter",
    "Pruning",
    "Split",
    "Sweep",
    "Train",
    "TransformRef",
    "file_of",
    "folder_of",
    "from_pod",
    "parameters_of",
    "parse",
    "parse_sweep",
    "plain",
    "pod_part",
    "read",
    "read_json",
    "read_sweep",
    "read_yaml",
    "to_yaml",
]
