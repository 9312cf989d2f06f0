"""Writes docs/reference/api.md and sweeps.md from the CRDs: every field with its bounds, every rule, every column.

A part of the spec and an object of more than a few fields have a section of their own; a smaller one is listed with its
parent. What the CRD says once and uses twice (a YAML alias) is listed once here, too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pages import ROOT, code, table, write

Schema = dict[str, Any]

CRDS = ROOT / "crds"
_TEMPLATE = "As [the spec of a TrainingPipeline](api.md) has it, but for what the sweep says."
_INLINE_FIELDS = 4
"""An object with more fields than that, at all depths, has a section of its own."""
_INTRODUCTION = """\
{description}

The same text is in the cluster: `kubectl explain {singular}.spec.{field}`. Unknown fields are refused by
{refusing}, and by an API server that is asked for strict validation, as `kubectl apply` asks.

- API version `{group}/{version}`, kind `{kind}`, short name `{short}`, namespaced.
- A field without a default may be left out, unless it is required.
- `[]` marks the items of a list."""


def main() -> None:
    """Write the pages."""
    page("api", "trainingpipelines.feedline.dev.yaml")
    page("sweeps", "trainingsweeps.feedline.dev.yaml")


def page(name: str, file: str) -> None:
    """Write the page of a CRD."""
    crd = yaml.safe_load((CRDS / file).read_text(encoding="utf-8"))
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    if template := root["properties"]["spec"]["properties"].get("template"):
        template["properties"]["spec"] = {"type": "object", "description": _TEMPLATE}
    introduction = _INTRODUCTION.format(
        description=prose(root["description"]),
        singular=names["singular"],
        field="objective" if names["kind"].endswith("Sweep") else "loader",
        group=crd["spec"]["group"],
        version=version["name"],
        kind=names["kind"],
        short=names["shortNames"][0],
        refusing="`feedline sweep run`" if names["kind"].endswith("Sweep") else "`feedline check` and `feedline run`",
    )
    lines = [f"# The API: {names['kind']}", "", introduction, ""]
    metadata = {"name": root["properties"]["metadata"]["properties"]["name"]}
    lines += ["## metadata", "", *fields({"properties": metadata, "required": ["name"]}, "metadata", {})]
    lines += rules([("", root)], "")
    parts = {"properties": {name: root["properties"][name] for name in ("spec", "status")}}
    shared = once(parts)
    for path, schema in sections(parts, "", shared):
        lines += [f"## {code(path)}", "", prose(schema["description"]), ""]
        lines += fields(schema, path, shared)
        lines += rules(inline(schema, "", shared), path)
    lines += [f"## Columns of `kubectl get {names['shortNames'][0]}`", ""]
    lines += ["The columns marked *wide* are shown by `-o wide`.", ""]
    lines += table(("Column", "Field", "Meaning"), (column(each) for each in version["additionalPrinterColumns"]))
    write(name, f"crds/{file}", lines)


# --- the tree --------------------------------------------------------------------------------------------------------


def children(schema: Schema) -> Iterator[tuple[str, Schema, Schema | None]]:
    """Yield the fields of an object: name, schema, and the object in it (its own, or that of a list's items)."""
    for name, child in schema.get("properties", {}).items():
        inner = child.get("items", child)
        yield name, child, inner if "properties" in inner else None


def count(schema: Schema) -> int:
    """Return how many fields an object has at all depths, those that only hold others left out."""
    return sum(1 if inner is None else count(inner) for _, _, inner in children(schema))


def once(schema: Schema) -> dict[int, str]:
    """Return the path of each object that has a section, by its identity: an alias is the object itself."""
    uses: dict[int, int] = {}
    found: dict[int, str] = {}

    def visit(schema: Schema, path: str) -> None:
        for name, child, inner in children(schema):
            if inner is None:
                continue
            uses[id(inner)] = uses.get(id(inner), 0) + 1
            inner_path = joined(path, name, child)
            is_part = "." not in path  # of spec or status
            if is_part or count(inner) > _INLINE_FIELDS or (uses[id(inner)] > 1 and count(inner) > 1):
                found.setdefault(id(inner), first.get(id(inner), inner_path))
            first.setdefault(id(inner), inner_path)
            if uses[id(inner)] == 1:
                visit(inner, inner_path)

    first: dict[int, str] = {}
    visit(schema, "")
    return found


def sections(schema: Schema, path: str, shared: dict[int, str]) -> Iterator[tuple[str, Schema]]:
    """Yield the objects that have a section, each at its first place."""
    for name, child, inner in children(schema):
        inner_path = joined(path, name, child)
        if inner is None or shared.get(id(inner), inner_path) != inner_path:
            continue
        if id(inner) in shared:
            # A list's own description says more than that of its items.
            yield inner_path, {**inner, "description": child["description"]}
        yield from sections(inner, inner_path, shared)


def inline(schema: Schema, path: str, shared: dict[int, str]) -> Iterator[tuple[str, Schema]]:
    """Yield an object and what is listed with it, parents first."""
    yield path, schema
    for name, child, inner in children(schema):
        child_path = joined(path, name, child)
        if inner is None:
            yield child_path, child
        elif id(inner) not in shared:
            yield from inline({**inner, "parent": child} if inner is not child else inner, child_path, shared)


def joined(path: str, name: str, schema: Schema) -> str:
    """Return the path of a field."""
    return ".".join(filter(None, (path, name))) + ("[]" if "properties" in schema.get("items", ()) else "")


# --- fields ----------------------------------------------------------------------------------------------------------


def fields(schema: Schema, path: str, shared: dict[int, str]) -> list[str]:
    """Return the table of an object's fields."""
    return table(("Field", "Type", "Default", "Meaning"), rows(schema, path, "", shared))


def rows(schema: Schema, section: str, path: str, shared: dict[int, str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield a line for each field, and below it those of a small object."""
    for name, child, inner in children(schema):
        child_path = joined(path, name, child)
        default = "required" if name in schema.get("required", ()) else ""
        if "default" in child:
            default = code(json.dumps(child["default"]))
        meaning = prose(child["description"])
        if "pattern" in child:
            meaning += f" Must match {code(child['pattern'])}."
        place = None if inner is None else shared.get(id(inner))
        if place is not None:
            is_here = place == joined(section, child_path, {})
            told = "See [its fields]" if is_here else f"The same fields as [{code(place)}]"
            meaning += f" {told}(#{anchor(place)})."
        yield code(child_path), kind(child), default, meaning
        if inner is not None and place is None:
            yield from rows(inner, section, child_path, shared)


def kind(schema: Schema) -> str:
    """Return a field's type and its bounds in words."""
    if "enum" in schema:
        return "one of " + ", ".join(code(value) for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    match schema["type"]:
        case "object" | "array":
            return holder(schema)
        case "string":
            is_time = schema.get("format") == "date-time"
            return "time" if is_time else f"string, {sizes(schema, 'Length', 'characters')}"
        case "integer" if "minimum" in schema:
            low, high = schema["minimum"], schema.get("maximum")
            return f"integer, at least {low}" if high is None else f"integer, {low} to {high}"
        case other:
            return str(other)


def holder(schema: Schema) -> str:
    """Return the type of an object, a map or a list."""
    if schema["type"] == "array":
        keys = schema.get("x-kubernetes-list-map-keys")
        keyed = f", keyed by {code(keys[0])}" if keys else ""
        return f"list of {schema['items'].get('type', 'value')}s{keyed}, {sizes(schema, 'Items', 'items')}"
    if "properties" in schema or "maxProperties" not in schema:
        return "object"
    entries = sizes(schema, "Properties", "entries")
    if "additionalProperties" not in schema:
        return f"map, {entries}"
    values = schema["additionalProperties"]
    return f"map of {values['type']}s, {entries}; a value has {sizes(values, 'Length', 'characters')}"


def sizes(schema: Schema, what: str, unit: str) -> str:
    """Return the bounds of a length."""
    low, high = schema.get(f"min{what}", 0), schema[f"max{what}"]
    return f"{low} to {high} {unit}" if low else f"at most {high} {unit}"


# --- rules and columns -----------------------------------------------------------------------------------------------


def rules(objects: Any, section: str) -> list[str]:
    """Return the CEL rules of the objects of a section."""
    found = []
    for path, schema in objects:
        both = [*schema.get("parent", {}).get("x-kubernetes-validations", ())]
        for rule in [*both, *schema.get("x-kubernetes-validations", ())]:
            place = f"{'.'.join(filter(None, (section, path)))}{rule.get('fieldPath', '')}".removeprefix(".")
            found += [f"- {code(place)}: {prose(rule['message'])}.\\", f"  {code(' '.join(rule['rule'].split()))}"]
    return ["Rules:", "", *found, ""] if found else []


def column(each: Schema) -> tuple[str, str, str]:
    """Return the line of a printer column."""
    wide = " *wide*" if each.get("priority") else ""
    return f"`{each['name'].upper()}`{wide}", code(each["jsonPath"]), each.get("description", "")


def anchor(path: str) -> str:
    """Return the anchor of a section, as GitHub and MyST make it of a heading."""
    return re.sub(r"[^a-z0-9-]", "", path.lower())


def prose(text: str) -> str:
    """Return a description with what Markdown would take for its own escaped, code left as it is."""
    parts = text.strip().split("`")
    return "`".join(re.sub(r"([*<\[\]])", r"\\\1", part) if i % 2 == 0 else part for i, part in enumerate(parts))


if __name__ == "__main__":
    main()
