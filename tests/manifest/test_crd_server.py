"""The API document on a real server, of the oldest and of the newest Kubernetes: the verdicts of crd_cases.yaml."""

import copy
import json
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from cluster import operators
from cluster.api import ApiCluster
from cluster.rest import MERGE_PATCH, PIPELINES, Rest
from cluster.world import ROOT
from crd_table import CHANGED, CREATED, pipeline

from feedline.manifest.jsonvalues import plain
from feedline.manifest.schema import CRD_FILE
from feedline_operator.reconcile import Observed, Policy, reconcile

HERE = Path(__file__).parent
CRD = ROOT / "crds" / CRD_FILE
YAML_TABLE = json.loads((HERE / "yaml_table.json").read_text(encoding="utf-8"))
TIME = "2026-01-01T00:00:00Z"
BIG = 2**63 - 1
LONG_REPORT = {
    "pipeline": "rich",
    "backend": "pytorch",
    "engine": "Feed",
    "reason": "Completed",
    "exitCode": 0,
    "message": "數" * 2000,
    "observedTime": TIME,
    "waitPermille": 1000,
    **dict.fromkeys(("epochs", "steps", "targetSteps", "samples", "bytes", "milliseconds", "samplesPerSecond"), BIG),
    **dict.fromkeys(("feedSamplesPerSecond", "modelSamplesPerSecond", "majorFaults", "minorFaults"), BIG),
    **dict.fromkeys(("firstBatchMillis", "firstStepMillis", "diskSamples"), BIG),
    **dict.fromkeys(("memcpyLimitPermille", "diskRandomLimitPermille", "diskSequentialLimitPermille"), BIG),
    "paging": "features: Read ahead of need: 0% of the coming rows are in memory. " * 20,
    "fetchMicros": {"p50": 0, "p95": 1, "p99": BIG},
    "stepMicros": {"p50": 0, "p95": 1, "p99": BIG},
    "values": {f"loss{number}": "-1.5e-300" if number % 2 else "NaN" for number in range(20)},
    "verdict": {"inputBound": True, "cause": "SmallBatches", "advice": "more " * 300},
}


def messages(schema):
    """Return the sentences of all rules of a schema; what a messageExpression adds stands behind them."""
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    parts = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for part in parts:
        if isinstance(part, dict):
            yield from messages(part)


RULES = tuple(messages(yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


@dataclass(frozen=True)
class Server:
    """A cluster with the CRD and no operator, and a namespace in it."""

    cluster: ApiCluster
    rest: Rest
    namespace: str

    def path(self, *name):
        return "/".join((f"{PIPELINES}/namespaces/{self.namespace}/trainingpipelines", *name))


@pytest.fixture(scope="module", params=["bare_cluster", "oldest_api_cluster"], ids=["newest", "oldest"])
def server(request, api_levels):
    cluster = request.getfixturevalue(request.param)
    operators.install(cluster)
    return Server(cluster, Rest(cluster), cluster.new_namespace())


@pytest.mark.parametrize("case", CREATED, ids=lambda case: case["name"])
def test_a_pipeline_gets_the_same_verdict_as_from_feedline_check(server, case):
    document = pipeline(case["patch"], nulls=case.get("nulls", ()))
    code, answer = server.rest.ask("POST", server.path(), document, fieldValidation="Strict", dryRun="All")
    problems = [] if case.get("localOnly") else case.get("problems", [])
    assert (code == 201) == (not problems), answer.get("message", "the server takes it")
    sentences = [problem.partition(": ")[2] for problem in problems]
    if all(sentence.startswith(RULES) for sentence in sentences):
        assert [sentence for sentence in sentences if sentence not in answer.get("message", "")] == []


@pytest.mark.parametrize("case", CHANGED, ids=lambda case: case["name"])
def test_a_change_is_taken_or_refused(server, case):
    name = f"case-{CHANGED.index(case)}"
    before = pipeline({"metadata": {"name": name}}, case["from"])
    server.rest.do("POST", server.path(), before, fieldValidation="Strict")
    code, answer = server.rest.ask(
        "PATCH", server.path(name), case["patch"], content=MERGE_PATCH, fieldValidation="Strict", dryRun="All"
    )
    if "refused" in case:
        assert code == 422
        assert case["refused"] in answer["message"]
    else:
        assert code == 200, answer["message"]


def test_a_status_that_the_operator_writes_has_no_field_that_the_api_does_not_know(server):
    existing = server.rest.do("POST", server.path(), pipeline({"metadata": {"name": "rich"}}))
    status = rich_status(existing)
    assert len(status["attempts"]) == 10
    assert len(status["report"]["values"]) == 16
    path = server.path("rich", "status")
    stored = server.rest.do("PATCH", path, {"status": status}, content=MERGE_PATCH, fieldValidation="Strict")
    assert stored["status"] == status


def rich_status(pipeline):
    """Return the status of a pipeline after twelve attempts that said as much as they may."""
    job, pods = job_of(pipeline), []
    for number in range(12):
        # Each attempt is seen when it has ended, as a running operator sees it.
        pods.append(ended_pod(job, number, 74 if number < 11 else 0))
        finished = number == 11
        seen = copy.deepcopy(job)
        if finished:
            seen["status"]["conditions"] = [{"type": "Complete", "status": "True", "lastTransitionTime": TIME}]
        observed = Observed(pipeline, seen, tuple(pods))
        plan = reconcile(observed, datetime(2026, 1, 1, 1, tzinfo=UTC), Policy())
        pipeline = {**pipeline, "status": plan.status or pipeline.get("status", {})}
    return pipeline["status"]


def job_of(pipeline):
    metadata = pipeline["metadata"]
    owner = {"apiVersion": "feedline.dev/v1alpha1", "kind": "TrainingPipeline", "controller": True}
    owner |= {"name": metadata["name"], "uid": metadata["uid"]}
    own = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": "job", "creationTimestamp": TIME}
    status = {"startTime": TIME, "failed": 11}
    return {"metadata": {**own, "ownerReferences": [owner]}, "spec": {"suspend": False}, "status": status}


def ended_pod(job, number, code):
    moment = f"2026-01-01T00:{number:02}:00Z"
    terminated = {"exitCode": code, "startedAt": moment, "finishedAt": moment, "message": json.dumps(LONG_REPORT)}
    return {
        "metadata": {
            "name": f"rich-0-{number:05}",
            "namespace": job["metadata"]["namespace"],
            "uid": f"00000000-0000-0000-0000-{number:012}",
            "creationTimestamp": moment,
            "ownerReferences": [{"kind": "Job", "controller": True, "uid": job["metadata"]["uid"]}],
        },
        "spec": {"nodeName": "n" * 253},
        "status": {
            "phase": "Failed" if code else "Succeeded",
            "startTime": moment,
            "containerStatuses": [{"name": "trainer", "state": {"terminated": terminated}}],
        },
    }


@pytest.mark.parametrize("case", YAML_TABLE, ids=lambda case: case["id"])
def test_kubectl_reads_yaml_as_feedline_does(bare_cluster, case):
    # Quoted and bracketed text is told from YAML by its first character.
    if case["yaml"].startswith("{"):
        text = (
            '{"apiVersion": "feedline.dev/v1alpha1", "kind": "TrainingPipeline", "metadata": {"name": "a"}, "spec": %s}'
        )
        text %= case["yaml"]
    else:
        text = "apiVersion: feedline.dev/v1alpha1\nkind: TrainingPipeline\nmetadata: {name: a}\nspec:\n"
        text += textwrap.indent(case["yaml"], "  ")
    create = ("create", "--dry-run=client", "--validate=false", "--output=json", "--filename=-")
    done = bare_cluster.kubectl(*create, input=text, check=False)
    expected = case.get("kubectl", case.get("json"))
    if expected is None:
        assert done.returncode != 0, done.stdout
    else:
        assert done.returncode == 0, done.stderr
        assert with_types(json.loads(done.stdout)["spec"]) == with_types(expected)


def with_types(value):
    """Return text that tells 1 from true; numbers beyond 64 bits are floats, however they are written."""
    return json.dumps(plain(value, "kubectl"), sort_keys=True)
