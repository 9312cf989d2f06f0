"""The generated pages hold all that they are generated from."""

import re

import pytest
import yaml
from codeblocks import ROOT

REFERENCE = ROOT / "docs" / "reference"
CRD = yaml.safe_load((ROOT / "crds" / "trainingpipelines.feedline.dev.yaml").read_text())["spec"]["versions"][0]
SCHEMA = CRD["schema"]["openAPIV3Schema"]


def walk(schema, path=""):
    """Yield every field of the schema with its path, however it is written down, and everything below it."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from walk(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield "", schema[inner]
            yield from walk(schema[inner], f"{path}[]" if inner == "items" else path)


FIELDS = [(path, schema) for part in ("spec", "status") for path, schema in walk(SCHEMA["properties"][part], part)]


def paths_on_the_page(text):
    """Return the path of each line of the page's tables: that of the section, then that of the field."""
    found = set()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0].strip("`")
        found |= {f"{title}.{field}" for field in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)}
    return {re.sub(r"\[\]$", "", path) for path in found}


def test_every_field_of_the_api_is_on_its_page():
    text = (REFERENCE / "api.md").read_text()
    listed = paths_on_the_page(text)
    # What is said once for several fields is on the page for the first of them.
    same = re.findall(r"^\| `([^`]+?)(?:\[\])?` \|.*The same fields as \[`", text, re.MULTILINE)
    assert {"validation", "report", "podAntiAffinity"} <= set(same)
    said_before = re.compile(rf"[.](?:{'|'.join(map(re.escape, same))})(?:[.]|\[)")
    assert [path for path, _ in FIELDS if path and path not in listed and not said_before.search(path)] == []


def test_every_rule_of_the_api_is_on_its_page():
    text = (REFERENCE / "api.md").read_text()
    schemas = [SCHEMA, *(SCHEMA["properties"][part] for part in ("spec", "status")), *(schema for _, schema in FIELDS)]
    rules = [rule for schema in schemas for rule in schema.get("x-kubernetes-validations", ())]
    assert len(rules) >= 20
    for rule in rules:
        assert f"`{' '.join(rule['rule'].split())}`" in text
        assert rule["message"].replace("*", r"\*") in text


@pytest.mark.parametrize("status", ["Unknown", "True", "False"])
def test_the_states_are_those_that_the_api_names(status):
    described = SCHEMA["properties"]["status"]["properties"]["conditions"]["items"]["properties"]["reason"][
        "description"
    ]
    named = re.search(rf"{status}: ([A-Za-z, ]+)\.", described)[1].split(", ")
    page = (REFERENCE / "conditions.md").read_text()
    assert sorted(re.findall(rf"^\| {status} \| `(\w+)` \|", page, re.MULTILINE)) == sorted(named)
