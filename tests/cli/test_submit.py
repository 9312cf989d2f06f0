"""`feedline submit` against a real API server: what becomes of a manifest there, and what waiting for its end tells."""

import os
import queue
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from cluster.operators import ROOT
from standins import DIGITS


def test_submit_creates_the_pipeline_and_says_how_to_go_on(feedline, cluster, namespace):
    ended = feedline("submit", DIGITS, "--name", "digits-64", "--set", "spec.loader.batchSize=64", "--backend", "keras")
    assert (ended.code, ended.errors) == (0, "")
    assert f"digits-64 created in namespace {namespace}" in ended.output
    assert "feedline why digits-64" in ended.output
    spec = cluster.get("tp", "digits-64", "-n", namespace)["spec"]
    assert (spec["loader"]["batchSize"], spec["backend"]) == (64, "keras")


def test_a_name_that_is_taken_is_told_with_both_ways_out(feedline, digits):
    ended = feedline("submit", DIGITS)
    assert ended.code == 64
    assert "a pipeline digits is in namespace" in ended.errors
    assert "feedline delete digits --wait" in ended.errors
    assert "--name" in ended.errors


def test_a_wrong_manifest_reaches_no_cluster_and_all_its_problems_are_told(feedline, tmp_path):
    changes = ["--set", "spec.loader.batchSize=0", "--set", "spec.backend=caffe"]
    ended = feedline("submit", DIGITS, *changes, kubeconfig=tmp_path / "none")
    assert ended.code == 64
    assert len(ended.errors.splitlines()) == 2


def test_what_only_the_server_refuses_is_told_in_its_words(feedline):
    ended = feedline("submit", DIGITS, "--set", "metadata.labels.team=a b")
    assert ended.code == 64
    assert 'metadata.labels: Invalid value: "a b"' in ended.errors


def test_a_namespace_that_is_not_there_is_told(feedline):
    ended = feedline("submit", DIGITS, within="nowhere")
    assert ended.code == 64
    assert 'namespaces "nowhere" not found' in ended.errors


def test_the_namespace_of_the_file_counts_and_another_one_must_not_be_asked_for(feedline, cluster, namespace):
    own = ["submit", DIGITS, "--set", f"metadata.namespace={namespace}"]
    assert feedline(*own, within=None).code == 0
    assert cluster.get("tp", "digits", "-n", namespace)
    ended = feedline(*own, within="default")
    assert ended.code == 64
    assert f"the manifest's metadata.namespace is {namespace}" in ended.errors


@pytest.fixture
def waiting(cluster, namespace):
    """Start `feedline submit --wait`, and give its lines as they come."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from feedline.cli import main; main()", "submit", DIGITS, "--wait", "-n", namespace],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "trainer-image"),
            "KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = queue.Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout])
    reader.start()
    assert "created" in lines.get(timeout=300)
    yield SimpleNamespace(process=process, line=lambda: lines.get(timeout=300))
    process.kill()
    process.wait()
    reader.join()
    process.stdout.close()
    process.stderr.close()


def test_wait_tells_each_state_as_it_comes_and_ends_when_the_pipeline_is_deleted(waiting, standins, cluster, namespace):
    for state, message in (("Pending", "the Job is being made"), ("Running", "step 1"), ("Running", "step 2")):
        standins.status("digits", state, message)
        assert re.fullmatch(rf"\d\d:\d\d:\d\d  {state}: {message}\n", waiting.line())
    cluster.kubectl("delete", "tp", "digits", "-n", namespace)
    assert waiting.process.wait(timeout=300) == 66
    assert "digits was deleted before it had finished" in waiting.process.stderr.read()


@pytest.mark.parametrize(
    ("state", "succeeded", "status", "code", "told"),
    [
        pytest.param("Completed", "True", {}, 0, "digits is Completed: the operator's words.", id="good"),
        pytest.param(
            "DataInvalid",
            "False",
            {"report": {"exitCode": 65}},
            65,
            "digits failed, DataInvalid:",
            id="bad, with a code",
        ),
        pytest.param("OutOfMemory", "False", {}, 1, "Raise spec.resources.memory", id="bad, without a code"),
    ],
)
def test_wait_ends_with_the_code_of_the_run(
    feedline, standins, cluster, namespace, state, succeeded, status, code, told
):
    def finish():
        cluster.kubectl("wait", "--for=create", "tp/digits", "-n", namespace, "--timeout=50s")
        standins.status("digits", state, succeeded=succeeded, **status)

    operator = threading.Thread(target=finish)
    operator.start()
    ended = feedline("submit", DIGITS, "--wait")
    operator.join()
    assert ended.code == code
    assert told in ended.output
