"""What the CustomResourceDefinition says about a TrainingPipeline, applied to a document here as the API server would.

The packaged CRD is the only source of rules: its defaults, its schema and its CEL rules all come from that file, so
what passes here passes in a cluster. Rules about a change (they mention `oldSelf`) have nothing to compare with and are
left out. This module knows neither files of users nor dataclasses.
"""

import copy
import difflib
import functools
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import cel
import jsonschema

from feedline.manifest.yamlread import read_yaml

CRD_FILE: Final = "trainingpipelines.feedline.dev.yaml"

Path = tuple[str | int, ...]
Node = Mapping[str, Any]

# The API server checks metadata by its own rules, which no CRD may repeat; these are the ones that a person meets.
_STRINGS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
METADATA: Final = {
    "type": "object",
    "required": ["name"],
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": _STRINGS,
        "annotations": _STRINGS,
    },
}
# A status in a file is what `kubectl get -o yaml` wrote there; the API server ignores it when a pipeline is created.
STATUS: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

_TYPES: Final = {
    "object": "a map",
    "array": "a list",
    "string": "a string",
    "integer": "an integer",
    "boolean": "true or false",
}
_BOUNDS: Final = {
    "minimum": "must be at least {limit}",
    "maximum": "must be at most {limit}",
    "minLength": "must have at least {limit} characters",
    "maxLength": "must have at most {limit} characters",
    "minItems": "must have at least {limit} items",
    "maxItems": "must have at most {limit} items",
    "maxProperties": "must have at most {limit} entries",
    "pattern": "must match {limit}",
}
_SHOWN_CHARACTERS: Final = 80


class Schema:
    """A structural schema of Kubernetes, with its defaults and rules.

    Parameters
    ----------
    root
        The `openAPIV3Schema` of a CRD's version.
    """

    def __init__(self, root: Node) -> None:
        self.root = root
        self._validator = jsonschema.Draft202012Validator(_json_schema(root))

    def apply_defaults(self, document: dict[str, Any]) -> None:
        """Drop nulls and fill in defaults, in place, in the API server's order."""
        _apply_defaults(document, self.root)

    def problems(self, document: Mapping[str, Any]) -> list[str]:
        """List everything that the schema and its rules have against a document.

        Parameters
        ----------
        document
            JSON's own types only (`feedline.manifest.plain`), with the defaults applied.

        Returns
        -------
        list of str
            One sentence each, ``FIELD: what is wrong, and what would be right``: fields that are unknown or missing,
            then values, then rules.
        """
        errors = list(self._validator.iter_errors(document))
        mistyped = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
        found = list(_fields(document, self.root, ()))
        for error in errors:
            path = tuple(error.absolute_path)
            # Of a value of the wrong type, its bounds say nothing useful.
            if error.validator == "type" or path not in mistyped:
                found.append((path, _sentence(error)))
        found += _rules(document, self.root, (), [path for path, _ in found])
        return [f"{field_path(path)}: {problem}" for path, problem in found]


@functools.cache
def pipeline_schema() -> Schema:
    """Return the schema of the packaged CRD's version, with what the API server itself knows of metadata and status."""
    text = importlib.resources.files("feedline.manifest").joinpath(CRD_FILE).read_text(encoding="utf-8")
    (crd,) = read_yaml(text, CRD_FILE)
    root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return Schema({**root, "properties": {**root["properties"], "metadata": METADATA, "status": STATUS}})


def field_path(path: Iterable[str | int]) -> str:
    """Write a path as the API server does, such as ``spec.data.train.arrays[0].path``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def shown(value: Any) -> str:
    """Write a value as JSON for a message, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def closest(word: str, known: Iterable[str]) -> str:
    """Suggest the name that was probably meant, as the end of a sentence; empty if there is none."""
    by_lower = {name.lower(): name for name in known}
    match = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f", did you mean {by_lower[match[0]]}?" if match else ""


def _members(schema: Node) -> tuple[Mapping[str, Node], Node]:
    """Return an object's known fields, and the schema of all others (empty if there is none)."""
    return schema.get("properties", {}), schema.get("additionalProperties", {})


def _children(value: Any, schema: Node, path: Path) -> Iterator[tuple[Any, Node, Path]]:
    if isinstance(value, dict):
        properties, others = _members(schema)
        for key, item in value.items():
            if member := properties.get(key, others):
                yield item, member, (*path, key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield item, schema.get("items", {}), (*path, index)


def _apply_defaults(value: Any, schema: Node) -> None:
    if isinstance(value, dict):
        properties, others = _members(schema)
        for key in [key for key, item in value.items() if item is None and properties.get(key, others)]:
            del value[key]
        for key, member in properties.items():
            if "default" in member:
                value.setdefault(key, copy.deepcopy(member["default"]))
    for item, member, _ in _children(value, schema, ()):
        _apply_defaults(item, member)


def _fields(value: Any, schema: Node, path: Path) -> Iterator[tuple[Path, str]]:
    """Find unknown and missing fields, and keys given twice in a list keyed by them."""
    if isinstance(value, dict):
        properties, others = _members(schema)
        known = value if others or schema.get("x-kubernetes-preserve-unknown-fields") else properties
        for key in [key for key in value if key not in known]:
            yield (*path, key), "unknown field" + closest(key, properties)
        for key in [key for key in schema.get("required", ()) if key not in value]:
            yield (*path, key), "required"
    elif isinstance(value, list) and schema.get("x-kubernetes-list-type") == "map":
        yield from _keys_given_twice(value, schema["x-kubernetes-list-map-keys"][0], path)
    for child in _children(value, schema, path):
        yield from _fields(*child)


def _keys_given_twice(items: list[Any], name: str, path: Path) -> Iterator[tuple[Path, str]]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        if isinstance(item, dict) and name in item:
            key = json.dumps(item[name], ensure_ascii=False)
            if key in seen:
                yield (*path, index, name), f"{shown(item[name])} is given twice; each {name} may be given once"
            seen.add(key)


def _json_schema(node: Node) -> dict[str, Any]:
    """Translate what a structural schema says about values; fields and rules are looked at here."""
    result = {key: node[key] for key in ("type", "enum", *_BOUNDS) if key in node}
    if node.get("x-kubernetes-int-or-string"):
        result["type"] = ["integer", "string"]
    if "pattern" in result:
        # In Python "$" also matches before a final line feed, in Go it does not.
        result["pattern"] = result["pattern"].replace("$", r"\Z")
    if "properties" in node:
        result["properties"] = {key: _json_schema(member) for key, member in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in node:
            result[key] = _json_schema(node[key])
    return result


def _sentence(error: jsonschema.ValidationError) -> str:
    kind = str(error.validator)
    limit: Any = error.validator_value
    value: Any = error.instance
    got = f"(got {shown(value)})"
    if kind == "type":
        wanted = [limit] if isinstance(limit, str) else limit
        hint = ""
        if "string" in wanted and isinstance(value, int | float):
            hint = "; YAML reads y, yes, on, n, no and off as booleans" if isinstance(value, bool) else ""
            hint += "; put it in quotes"
        return f"must be {' or '.join(_TYPES[name] for name in wanted)} {got}{hint}"
    if kind == "enum":
        guess = closest(value, limit) if isinstance(value, str) else ""
        return f"must be one of {', '.join(limit)} {got}{guess}"
    if kind == "pattern":
        limit = limit.replace(r"\Z", "$")
    return f"{_BOUNDS[kind].format(limit=limit)} {got}"


@functools.cache
def _compiled(expression: str) -> Any:
    return cel.compile(expression)


def _rules(value: Any, schema: Node, path: Path, faulty: list[Path]) -> Iterator[tuple[Path, str]]:
    """Evaluate the CEL rules of a value and of all that it holds.

    A rule that cannot be evaluated is left out if a fault in the same value was found already, such as a missing field;
    the API server does not come to its rules then.
    """
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"]:
            continue
        try:
            if _compiled(rule["rule"]).execute({"self": value}):
                continue
            message = (
                _compiled(rule["messageExpression"]).execute({"self": value})
                if "messageExpression" in rule
                else rule["message"]
            )
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
            if any(fault[: len(path)] == path for fault in faulty):
                continue
            message = f"{rule['message']} (the rule cannot be evaluated)"
        yield (*path, *rule.get("fieldPath", "").split(".")[1:]), message
    for child in _children(value, schema, path):
        yield from _rules(*child, faulty)
