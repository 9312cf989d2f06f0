"""Documents as YAML that reads as it was written, by kubectl and by `read_yaml`.

PyYAML writes plainly what it would read as text itself, such as ``1e-4`` and ``y``, which is a number and a boolean to
others.
"""

from typing import Any

import yaml

from feedline.manifest.yamlread import WORDS

_FIRST_OF_NUMBERS = "+-.0123456789"
_NEXT_LINE = "\x85"  # which readers take for the end of a line


class _Dumper(yaml.SafeDumper):
    pass


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    is_quoted = text in WORDS or text[0] in _FIRST_OF_NUMBERS or _NEXT_LINE in text
    style = '"' if is_quoted else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def to_yaml(document: Any) -> str:
    """Return a document of JSON's own types as YAML."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text
