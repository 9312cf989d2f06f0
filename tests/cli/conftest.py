"""A real API server for the commands that speak to one: what a person reads there, and the exit code.

Nothing runs pods in it. The tests are the operator and the kubelet: they write the status that these would write, and
what a controller writes (refused pods, garbage collection) is real.
"""

import sys
from dataclasses import dataclass

import pytest
from cluster.api import ApiCluster
from standins import CRD, DIGITS, StandIns

from feedline.cli import main

pytest.register_assert_rewrite("objects")


@pytest.fixture(scope="session")
def cluster(api_level):
    """Start an API server of their own: these tests write what an operator would, which must not be there."""
    with ApiCluster() as cluster:
        cluster.apply(CRD)
        yield cluster


@pytest.fixture
def namespace(cluster):
    return cluster.new_namespace()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str


@pytest.fixture
def feedline(cluster, namespace, monkeypatch, capsys):
    """Return a function that runs a command in the test's namespace."""

    def feedline(*arguments, kubeconfig=cluster.kubeconfig, terminal=False, within=namespace):
        with monkeypatch.context() as patch:
            patch.setenv("KUBECONFIG", str(kubeconfig))
            patch.setattr(sys, "argv", ["feedline", *arguments, *(["-n", within] if within else [])])
            patch.setattr(sys.stdout, "isatty", lambda: terminal)
            with pytest.raises(SystemExit) as ended:
                main()
        output, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return Ended(int(ended.value.code or 0), output, errors)

    return feedline


@pytest.fixture
def standins(cluster, namespace):
    return StandIns(cluster, namespace)


@pytest.fixture
def digits(feedline, standins):
    """Submit the digits example, and let an operator have looked at it."""
    assert feedline("submit", DIGITS).code == 0
    standins.status("digits", "Pending", "the Job is being made")
    return "digits"
