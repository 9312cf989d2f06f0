"""How a command gets to a cluster, and what it says where there is none, it may not, or a name is not found."""

import json
import os
import re
import subprocess
import sys

import pytest
from cluster.operators import ROOT
from standins import DIGITS, FEED

from feedline.cli.cluster import Kind, NotServedError
from feedline.cli.connection import connect


@pytest.fixture
def person(cluster, namespace):
    """Return a function that gives a kubeconfig of somebody who may do only this."""

    def person(verb, resource):
        cluster.kubectl("create", "role", "limited", f"--verb={verb}", f"--resource={resource}", "-n", namespace)
        user = f"--serviceaccount={namespace}:default"
        cluster.kubectl("create", "rolebinding", "limited", "--role=limited", user, "-n", namespace)
        return cluster.kubeconfig_for(namespace, "default")

    return person


def test_why_works_for_somebody_who_may_read_only_pipelines(feedline, digits, standins, person):
    standins.job(digits, suspend=True)
    standins.status(digits, "Running", feed=FEED)
    ended = feedline("why", digits, kubeconfig=person("get", "trainingpipelines.feedline.dev"), within=None)
    assert ended.code == 0
    assert "digits is training" in ended.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["status"], "you may not list trainingpipelines in namespace", id="status"),
        pytest.param(["why", "digits"], "you may not read trainingpipelines in namespace", id="why"),
        pytest.param(["submit", DIGITS], "you may not create trainingpipelines in namespace", id="submit"),
        pytest.param(["delete", "digits"], "you may not read trainingpipelines in namespace", id="delete"),
    ],
)
def test_who_may_not_is_told_what(feedline, person, arguments, told):
    ended = feedline(*arguments, kubeconfig=person("get", "configmaps"))
    assert ended.code == 78
    assert told in ended.errors


def test_a_wrong_token_is_told(feedline, cluster, tmp_path):
    stale = tmp_path / "kubeconfig"
    stale.write_text(re.sub(r'"token": "\w+"', '"token": "old"', cluster.kubeconfig.read_text()))
    ended = feedline("status", kubeconfig=stale)
    assert ended.code == 78
    assert "does not know who you are" in ended.errors


@pytest.mark.parametrize("command", ["status", "logs", "delete", "why"])
def test_a_pipeline_that_is_not_there_is_66(feedline, namespace, command):
    ended = feedline(command, "nothing")
    assert ended.code == 66
    assert re.search(rf"here is no pipeline nothing in namespace {namespace}", ended.output + ended.errors)


def test_a_kind_that_the_cluster_does_not_know_is_told(cluster):
    with pytest.raises(NotServedError, match="is feedline installed there"):
        connect(None, None, str(cluster.kubeconfig)).find_all(Kind("apis/feedline.dev/v9", "trainingpipelines"))


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        pytest.param(None, 78, "there is no kubeconfig", id="none"),
        pytest.param("[1, 2]", 78, "cannot be used", id="a list"),
        pytest.param("a: [", 78, "cannot be used", id="no YAML"),
        pytest.param("", 78, "is empty", id="empty"),
        pytest.param(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                    "contexts": [{"name": "c", "context": {"cluster": "c"}}],
                    "current-context": "c",
                }
            ),
            75,
            "the API server 127.0.0.1:1 cannot be reached (Connection refused)",
            id="nobody there",
        ),
    ],
)
def test_without_a_cluster_it_is_one_sentence(feedline, tmp_path, content, code, told):
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    ended = feedline("status", kubeconfig=path)
    assert ended.code == code
    assert told in ended.errors
    assert len(ended.errors.splitlines()) == 1


def test_a_name_that_is_none_asks_for_nothing_else(feedline):
    ended = feedline("delete", "..")
    assert ended.code == 64
    assert 'the name ".." is none' in ended.errors


def test_as_a_plugin_of_kubectl_it_bears_that_name(cluster, namespace, tmp_path, monkeypatch):
    plugin = tmp_path / "kubectl-feedline"
    plugin.write_text(f"#!{sys.executable}\nfrom feedline.cli import main\nmain()\n")
    plugin.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "trainer-image"),
        "KUBECONFIG": str(cluster.kubeconfig),
    }

    def kubectl(*arguments):
        command = [cluster._kubectl, "feedline", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)

    ended = kubectl("why", "nothing", "-n", namespace)
    assert ended.returncode == 66
    assert ended.stdout.startswith(f"There is no pipeline nothing in namespace {namespace}.")
    shown = kubectl("why", "--help").stdout
    assert "Usage: kubectl feedline why" in shown
    assert "kubectl feedline why digits" in shown
