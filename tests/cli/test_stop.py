"""`feedline stop` against a real API server: it asks once, for the very pipeline that is there."""

import pytest

from feedline.cli.cluster import PIPELINES, Cluster
from feedline.errors import UsageError


def test_it_asks_the_operator_to_stop_and_says_why(feedline, cluster, namespace, digits):
    ended = feedline("stop", digits, "--message", "good enough")
    assert ended.code == 0
    assert f"{digits} is being stopped in namespace {namespace}" in ended.output
    assert cluster.get("tp", digits, "-n", namespace)["spec"]["stop"] == {"message": "good enough"}


def test_asked_twice_it_says_so(feedline, digits):
    feedline("stop", digits)
    again = feedline("stop", digits, "-m", "another reason")
    assert (again.code, again.output) == (0, f"{digits} is being stopped already\n")


def test_what_has_finished_is_let_alone(feedline, cluster, namespace, digits, standins):
    standins.status(digits, "Completed", succeeded="True")
    ended = feedline("stop", digits)
    assert (ended.code, ended.output) == (0, f"{digits} has finished: Completed\n")
    assert "stop" not in cluster.get("tp", digits, "-n", namespace)["spec"]


def test_one_that_is_not_there_is_one_sentence(feedline):
    ended = feedline("stop", "nothing")
    assert ended.code == 66
    assert "there is no pipeline nothing" in ended.errors


def test_another_pipeline_that_has_got_the_name_is_not_stopped(cluster, namespace, digits, monkeypatch):
    from kubernetes import client, config

    configuration = client.Configuration()
    config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
    there = Cluster(configuration, namespace)
    found = there.pipeline(digits)
    found["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(UsageError, match="uid"):
        there.patch(PIPELINES, found, {"spec": {"stop": {"message": ""}}})
    assert "stop" not in cluster.get("tp", digits, "-n", namespace)["spec"]
