"""JSON merge patches (RFC 7386), with which the tests write down how a document differs from another."""

import copy


def merge(document, patch):
    """Return a document with a patch in it; neither is changed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result
