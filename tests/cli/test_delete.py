"""`feedline delete` against a real API server: what goes along with a pipeline, and what is left is named."""

import sys

import pytest


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_delete_takes_job_and_pods_along(feedline, digits, standins, cluster, namespace, cascade):
    standins.job(digits)
    standins.pod(digits)
    ended = feedline("delete", digits, "--cascade", cascade, "--wait")
    assert (ended.code, ended.errors) == (0, "")
    assert ended.output == f"digits deleted from namespace {namespace}\n"
    assert cluster.get("tp,jobs,pods", "-n", namespace)["items"] == []


def test_what_is_left_after_the_wait_is_named(feedline, digits, standins, monkeypatch):
    monkeypatch.setattr(sys.modules["feedline.cli.delete"], "_WAIT_SECONDS", 1.0)
    standins.job(digits)
    name = standins.pod(digits)["metadata"]["name"]
    standins.patch("pod", name, {"metadata": {"finalizers": ["feedline.dev/test"]}})
    ended = feedline("delete", digits, "--wait")
    standins.patch("pod", name, {"metadata": {"finalizers": []}})
    assert ended.code == 75
    assert f"still there after 1 s: pod {name}" in ended.errors


def test_of_several_the_missing_ones_are_named_and_the_others_are_deleted(feedline, digits, cluster, namespace):
    ended = feedline("delete", "nothing", digits)
    assert ended.code == 66
    assert f"there is no pipeline nothing in namespace {namespace}" in ended.errors
    assert cluster.get("tp", "-n", namespace)["items"] == []
