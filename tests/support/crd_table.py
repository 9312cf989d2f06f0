"""The cases of unit/crd_cases.yaml: what the API accepts and refuses, for feedline itself and for a real server."""

from pathlib import Path

from mergepatch import merge

from feedline.manifest.yamlread import read_yaml

FILE = Path(__file__).parents[1] / "manifest" / "crd_cases.yaml"
(TABLE,) = read_yaml(FILE.read_text(encoding="utf-8"), FILE.name)
CREATED = [case for case in TABLE["cases"] if "from" not in case]
CHANGED = [case for case in TABLE["cases"] if "from" in case]


def pipeline(*patches, nulls=()):
    """Return the table's pipeline with patches in it, and with null at these paths, which no patch can say."""
    result = merge(TABLE["base"], {})
    for patch in patches:
        result = merge(result, patch)
    for path in nulls:
        *parents, last = path.split(".")
        place = result
        for key in parents:
            place = place.setdefault(key, {})
        place[last] = None
    return result
