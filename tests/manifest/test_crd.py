"""The API document: it is complete and bounded, and accepts and refuses what its table of cases says."""

import copy
import json
import re
from pathlib import Path

import pytest
from crd_table import CHANGED, CREATED, TABLE, pipeline
from mergepatch import merge

from feedline import contract
from feedline.manifest.reading import ManifestError, parse
from feedline.manifest.schema import CRD_FILE, Schema, pipeline_schema
from feedline.manifest.yamlread import read_yaml

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "crds" / CRD_FILE
COPY = HERE.parents[1] / "trainer-image" / "feedline" / "manifest" / CRD_FILE
(CRD,) = read_yaml(SOURCE.read_text(encoding="utf-8"), CRD_FILE)
VERSION = CRD["spec"]["versions"][0]
ROOT = VERSION["schema"]["openAPIV3Schema"]


def nodes(schema, path=""):
    """Every part of the schema, with its path."""
    yield path, schema
    for key, member in schema.get("properties", {}).items():
        yield from nodes(member, f"{path}.{key}")
    if "items" in schema:
        yield from nodes(schema["items"], path + "[*]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], path + "{*}")


def fields(kind=None, under=""):
    """Parts that a person fills in; metadata itself may not be described by a CRD."""
    return [
        pytest.param(node, id=path)
        for path, node in nodes(ROOT)
        if path not in ("", ".metadata") and path.startswith(under) and kind in (None, node.get("type"))
    ]


CREATE_RULES = [
    pytest.param(path, rule, id=f"{path}: {rule['message']}")
    for path, node in nodes(ROOT)
    for rule in node.get("x-kubernetes-validations", ())
    if "oldSelf" not in rule["rule"]
]


def has_value(value, path):
    """Whether a document has a value at a schema's path."""
    values = [value]
    for step in re.findall(r"\[\*\]|[^.\[]+", path):
        if step == "[*]":
            values = [item for value in values for item in value]
        else:
            values = [value[step] for value in values if step in value]
    return bool(values)


def test_the_packaged_copy_is_the_same_file():
    assert COPY.read_bytes() == SOURCE.read_bytes()


def test_names_are_those_of_the_contract():
    names = CRD["spec"]["names"]
    assert (CRD["spec"]["group"], VERSION["name"], names["kind"]) == (
        contract.API_GROUP,
        contract.API_VERSION,
        contract.KIND,
    )
    assert CRD["metadata"]["name"] == f"{names['plural']}.{contract.API_GROUP}"
    assert CRD["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_kubectl_get_shows_the_state_and_the_waiting_share():
    columns = VERSION["additionalPrinterColumns"]
    assert [column["name"].upper() for column in columns if not column.get("priority")] == [
        *("BACKEND", "STATE", "STEPS", "SAMPLES/S", "WAIT‰", "OBJECTIVE", "ATTEMPTS", "AGE")
    ]


def test_the_report_has_the_fields_of_the_contract():
    report = ROOT["properties"]["status"]["properties"]["report"]["properties"]
    assert report.keys() == contract.Report.__annotations__.keys()
    assert report["verdict"]["properties"].keys() == contract.Verdict.__annotations__.keys()
    assert report["stepMicros"]["properties"].keys() == contract.Percentiles.__annotations__.keys()
    assert report["values"]["maxProperties"] == contract.MAX_REPORT_VALUES
    assert report["checkpoint"]["properties"].keys() == contract.CheckpointReport.__annotations__.keys()
    assert report["ranks"]["properties"].keys() == contract.RanksReport.__annotations__.keys()
    assert report["objective"]["properties"].keys() == contract.ObjectiveReport.__annotations__.keys()
    assert report["objective"]["properties"]["curve"]["maxItems"] == contract.MAX_CURVE_POINTS


def test_parameters_are_bounded_as_in_the_contract():
    parameters = ROOT["properties"]["spec"]["properties"]["train"]["properties"]["parameters"]
    assert parameters["maxProperties"] == contract.MAX_PARAMETERS


@pytest.mark.parametrize("node", fields())
def test_every_field_is_described(node):
    assert node["description"].strip().endswith((".", "…"))


@pytest.mark.parametrize("node", fields("string"))
def test_every_string_is_bounded(node):
    assert node["maxLength"] > 0


@pytest.mark.parametrize("node", fields("array"))
def test_every_list_is_bounded_and_says_how_it_merges(node):
    assert node["maxItems"] > 0
    assert node["x-kubernetes-list-type"] in ("map", "atomic")


@pytest.mark.parametrize("node", [param for param in fields("object") if "properties" not in param.values[0]])
def test_every_map_is_bounded(node):
    assert node["maxProperties"] > 0


@pytest.mark.parametrize("node", fields("integer", ".spec"))
def test_every_integer_is_bounded(node):
    assert node["minimum"] < node["maximum"] < 2**53
    assert node["format"] in ("int32", "int64")


@pytest.mark.parametrize("node", [param for param in fields() if "pattern" in param.values[0]])
def test_every_pattern_matches_the_whole_text(node):
    assert re.fullmatch(r"\^[^$^]*(\[\^[^$]*)?\$", node["pattern"])


@pytest.mark.parametrize("case", CREATED, ids=lambda case: case["name"])
def test_case(case):
    try:
        parse(pipeline(case["patch"], nulls=case.get("nulls", ())))
    except ManifestError as error:
        problems = list(error.problems)
    else:
        problems = []
    assert problems == case.get("problems", [])


@pytest.mark.parametrize(("path", "rule"), CREATE_RULES)
def test_every_rule_has_a_refused_and_an_accepted_case(path, rule):
    where = (
        re.escape(path.removeprefix(".") + rule.get("fieldPath", "")).replace(r"\[\*\]", r"\[0\]").removeprefix(r"\.")
    )
    sentence = re.compile(f"{where}: {re.escape(rule['message'])}")
    assert any(sentence.match(problem) for case in CREATED for problem in case.get("problems", ()))
    accepted = [pipeline(case["patch"], nulls=case.get("nulls", ())) for case in CREATED if "problems" not in case]
    for document in accepted:
        pipeline_schema().apply_defaults(document)
    assert any(has_value(document, path) for document in accepted)


@pytest.mark.parametrize("case", CHANGED, ids=lambda case: case["name"])
def test_a_change_is_judged_by_the_api_server_only(case):
    parse(pipeline(case["from"], case["patch"], nulls=case.get("nulls", ())))


def test_every_rule_about_a_change_has_a_refused_case():
    refused = [case["refused"] for case in TABLE["cases"] if "refused" in case]
    for _, node in nodes(ROOT):
        for rule in node.get("x-kubernetes-validations", ()):
            if "oldSelf" in rule["rule"]:
                assert {rule["message"], "spec" + rule.get("fieldPath", "")}.intersection(refused)


@pytest.mark.parametrize("node", [param for param in fields() if "default" in param.values[0]])
def test_a_default_passes_as_it_is_written_or_no_api_server_takes_the_document(node):
    assert Schema(node).problems(copy.deepcopy(node["default"])) == []


def test_defaults_are_filled_in_as_the_api_server_does():
    document = merge(TABLE["base"], {"spec": {"resources": {"accelerator": {}}, "data": {"train": {"rows": {}}}}})
    pipeline_schema().apply_defaults(document)
    spec = document["spec"]
    assert spec["loader"] == {
        "batchSize": 32,
        "lastBatch": "Drop",
        "shuffle": {"mode": "Full", "seed": 0},
        "residency": "Auto",
        "threads": 0,
        "prefetchBatches": 4,
        "engine": "Feed",
        "classic": {"queue": {"capacity": 1384, "minAfterDequeue": 1000}},
    }
    assert spec["resources"] == {
        "nodes": 1,
        "processes": 1,
        "accelerator": {"resourceName": "nvidia.com/gpu", "count": 1},
    }
    assert spec["data"]["train"]["rows"] == {"start": 0}
    assert spec["policy"] == {"maxRetries": 3, "peerTimeoutSeconds": 300}
    assert spec["pod"] == {"terminationGracePeriodSeconds": 30}
    assert spec["suspend"] is False
    assert "validation" not in spec["data"]
    assert "image" not in spec


def test_defaults_of_one_document_are_not_those_of_the_next():
    first, second = copy.deepcopy(TABLE["base"]), copy.deepcopy(TABLE["base"])
    pipeline_schema().apply_defaults(first)
    first["spec"]["loader"]["shuffle"]["seed"] = 99
    pipeline_schema().apply_defaults(second)
    assert second["spec"]["loader"]["shuffle"]["seed"] == 0


def test_a_rule_that_cannot_be_evaluated_refuses_what_is_otherwise_sound():
    schema = Schema({"type": "object", "x-kubernetes-validations": [{"rule": "self.a > 1", "message": "must have a"}]})
    assert schema.problems({}) == [": must have a (the rule cannot be evaluated)"]


def test_a_rule_that_cannot_be_evaluated_is_left_out_where_a_fault_is_known():
    rules = [{"rule": "self.a > 1", "message": "must have a"}]
    schema = Schema({"type": "object", "required": ["a"], "properties": {}, "x-kubernetes-validations": rules})
    assert schema.problems({}) == ["a: required"]


def test_long_values_are_cut_in_messages():
    document = merge(TABLE["base"], {"spec": {"backend": "x" * 1000}})
    with pytest.raises(ManifestError) as caught:
        parse(document)
    assert len(str(caught.value)) < 300


def test_the_document_is_json():
    assert json.loads(json.dumps(CRD)) == CRD
