"""The pod's manifest: what of a pipeline's spec the trainer gets to read."""

import json
from collections.abc import Mapping
from typing import Any

from feedline.contract import POD_FIELDS


def manifest_text(spec: Mapping[str, Any]) -> str:
    """Return the JSON of the fields that the trainer reads; it travels as an annotation of the pod."""
    part = {field: spec[field] for field in POD_FIELDS if field in spec}
    return json.dumps(part, ensure_ascii=False, separators=(",", ":"))
