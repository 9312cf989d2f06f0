"""`feedline status` against a real API server: all pipelines of a namespace in a table, or everything about one."""

import json

from standins import DIGITS, FEED, NOW

ATTEMPTS = [
    {"index": 2, "pod": "digits-0-b", "uid": "b", "startTime": NOW, "node": "gpu-7"},
    {
        "index": 1,
        "pod": "digits-0-a",
        "uid": "a",
        "startTime": NOW,
        "endTime": NOW,
        "node": "gpu-6",
        "reason": "IOError",
        "exitCode": 74,
        "message": "disk\x1b[2J away",
    },
]


def test_without_a_name_it_is_the_table_of_kubectl(feedline, cluster, namespace, digits, standins):
    standins.status(digits, "Running", feed=FEED, attempts=ATTEMPTS)
    shown = feedline("status").output.splitlines()
    theirs = cluster.kubectl("get", "tp", "-n", namespace).stdout.splitlines()
    assert [line.split()[:-1] for line in shown] == [line.split()[:-1] for line in theirs]
    assert shown[1].split()[:6] == ["digits", "pytorch", "Running", "812", "118000", "341"]


def test_an_empty_namespace_is_told(feedline, namespace):
    assert f"no pipelines in namespace {namespace}" in feedline("status").output


def test_with_a_name_it_tells_state_progress_verdict_attempts_and_conditions(feedline, digits, standins):
    standins.status(digits, "Running", "step 812 of 2000", feed=FEED, attempts=ATTEMPTS)
    shown = feedline("status", digits).output
    for told in (
        "Running: step 812 of 2000",
        "812 of 2000 (40 %)",
        "118 k rows/s",
        "34 %",
        "the data are the bottleneck",
        "Try loader.residency: Memory",
        "0.12",
        "digits-0-b  gpu-7",
        "IOError",
        "74",
        "disk away",
        "InputBound",
        "NoNumbers",
    ):
        assert told in shown
    assert "\x1b" not in shown


def test_of_several_nodes_it_tells_how_many_run_and_whose_wait_is_everybody_s(feedline, digits, standins):
    ranks = {"world": 8, "slowest": 5, "node": "gpu-7", "waitPermille": 311, "othersPermille": 20}
    told = {"world": 8, "nodes": 2, "nodesRunning": 1}
    standins.status(digits, "Running", feed={**FEED, "ranks": ranks}, ranks=told, attempts=ATTEMPTS)
    shown = feedline("status", digits).output
    assert "1 of 2 run, for 8 processes" in shown
    assert "rank 5 on node gpu-7 waits 31 %, the others at most 2 %" in shown


def test_json_is_the_object_of_the_cluster(feedline, digits):
    assert json.loads(feedline("status", digits, "--json").output)["metadata"]["name"] == digits
    assert [each["metadata"]["name"] for each in json.loads(feedline("status", "--json").output)] == [digits]


def test_a_pipeline_that_nobody_has_looked_at_is_told(feedline):
    feedline("submit", DIGITS)
    assert "no operator has looked at it yet: feedline why digits" in feedline("status", "digits").output
