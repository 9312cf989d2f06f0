"""The YAML of the documentation is what a reader may copy: each pipeline is valid, each Helm value is in the chart."""

import copy
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from codeblocks import PAGES, ROOT, blocks
from mergepatch import merge

from feedline import manifest
from feedline.contract import KIND
from feedline.manifest.yamlread import read_yaml

CHART = ROOT / "charts" / "feedline"
DIGITS = yaml.safe_load((ROOT / "examples" / "digits" / "pipeline.yaml").read_text())

YAML = [block for page in PAGES for block in blocks(page, "yaml")]
VALUES = [block for block in YAML if block.text.startswith("# values.yaml\n")]
OTHERS = [block for block in YAML if block not in VALUES]
DOCUMENTS = [
    pytest.param(document, id=f"{block}-{number}")
    for block in OTHERS
    for number, document in enumerate(yaml.safe_load_all(block.text))
    if isinstance(document, dict)
]
PIPELINES = [each for each in DOCUMENTS if each.values[0].get("kind") == KIND]
EXCERPTS = [each for each in DOCUMENTS if list(each.values[0]) == ["spec"]]
OBJECTS = [each for each in DOCUMENTS if "apiVersion" in each.values[0] or "kind" in each.values[0]]

# `helm … --set metrics.podMonitor.enabled=true,grafana.dashboards.enabled=true`
SETTING = re.compile(r"--set(?:-string|-json)?[ =]['\"]?([^\s'\"]+)")
SETTINGS = [
    pytest.param(pair.partition("=")[0], id=f"{block}-{pair}")
    for page in PAGES
    for block in blocks(page, "sh", "console")
    for line in block.text.replace("\\\n", " ").splitlines()
    if "helm " in line
    for given in SETTING.findall(line)
    for pair in given.split(",")
]


def test_there_is_something_to_check():
    pages = {block.page.name for block in YAML}
    assert {"volumes.md", "own-data.md", "kueue.md", "gpu-nodes.md", "prometheus-grafana.md"} <= pages
    assert len(PIPELINES) >= 2
    assert len(EXCERPTS) >= 3
    assert len(VALUES) >= 5
    assert len(SETTINGS) >= 1


@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_yaml_block_is_read_as_kubectl_reads_it(block):
    assert read_yaml(block.text, str(block))


@pytest.mark.parametrize("document", PIPELINES)
def test_a_pipeline_is_one_that_the_api_server_takes(document):
    assert manifest.parse(document).name == document["metadata"]["name"]


@pytest.mark.parametrize("document", EXCERPTS)
def test_an_excerpt_of_a_spec_fits_the_pipeline_of_the_digits(document):
    manifest.parse(merge(without_what_is_excluded(DIGITS, document), document))


def without_what_is_excluded(document, patch):
    """Return a document without the fields that a patch of it names the alternatives to."""
    result, train = copy.deepcopy(document), patch["spec"].get("train", {})
    for group in ({"entrypoint", "command"}, {"epochs", "steps", "seconds"}):
        if group & set(train):
            for field in group:
                result["spec"]["train"].pop(field, None)
    return result


@pytest.mark.parametrize("document", OBJECTS)
def test_a_kubernetes_object_says_what_it_is(document):
    assert isinstance(document["apiVersion"], str)
    assert isinstance(document["kind"], str)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", document["metadata"]["name"])


@pytest.mark.parametrize("block", VALUES, ids=str)
def test_values_are_values_of_the_chart(block):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    given = yaml.safe_load(block.text)
    assert unknown(given, values) == []
    # As Helm does: the schema is asked about the chart's values with the user's over them.
    jsonschema.validate(merge(values, given), json.loads((CHART / "values.schema.json").read_text()))


def unknown(given, values, path=""):
    """Return the paths of the keys that the chart's values do not have; an empty map or a list takes anything."""
    if not isinstance(given, dict) or not isinstance(values, dict) or not values:
        return []
    missing = [f"{path}{key}" for key in given if key not in values]
    known = [key for key in given if key in values]
    return missing + [each for key in known for each in unknown(given[key], values[key], f"{path}{key}.")]


@pytest.mark.parametrize("key", SETTINGS)
def test_a_value_that_is_set_on_the_command_line_is_in_the_chart(key):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    nested = {}
    for part in reversed(re.split(r"(?<!\\)\.", key)):
        nested = {re.sub(r"\[\d+\]$", "", part.replace("\\.", ".")): nested}
    assert unknown(nested, values) == []


def test_a_scrape_configuration_sets_the_labels_that_the_pod_monitor_sets():
    template = (CHART / "templates" / "podmonitor.yaml").read_text()
    monitored = re.findall(r"sourceLabels: \[(\w+)\]\s+targetLabel: (\w+)", template)
    assert len(monitored) >= 2
    (block,) = [block for block in OTHERS if "scrape_configs:" in block.text]
    trainer, operator = yaml.safe_load(block.text)["scrape_configs"]
    relabelled = [(rule["source_labels"][0], rule.get("target_label")) for rule in trainer["relabel_configs"]]
    assert [pair for pair in monitored if pair not in relabelled] == []
    assert operator["honor_labels"] is True


def test_a_key_that_the_chart_does_not_have_is_found(tmp_path: Path):
    values = {"operator": {"replicas": 1, "nodeSelector": {}}}
    assert unknown({"operator": {"replica": 2}, "metric": {}}, values) == ["metric", "operator.replica"]
    assert unknown({"operator": {"nodeSelector": {"zone": "a"}}}, values) == []


def test_a_block_that_is_not_closed_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("```yaml\nkind: A\n")
    with pytest.raises(AssertionError, match="has no end"):
        blocks(page)
