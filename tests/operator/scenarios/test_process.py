"""The process: how it is started, what it answers, and how little it asks of the API server."""

import os
import re
import subprocess
import sys
import time

import pytest
from cluster import audit, operators
from cluster.operators import NAMESPACE, ROOT, eventually
from cluster.world import World

from feedline_operator import settings

USER = f"system:serviceaccount:{NAMESPACE}:feedline-operator"
MAX_CALLS = 6
INTERVAL_SECONDS = 30  # between two looks at the Events of what waits, and at the progress of what runs
SETTLE_SECONDS = 5  # that the operator waits for the Job controller's word, at the Job's start and at its end


def run(*arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FEEDLINE_")}
    path = os.pathsep.join(str(ROOT / part) for part in ("operator", "trainer-image"))
    return subprocess.run(
        [sys.executable, "-m", "feedline_operator", *arguments],
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_whole_life_costs_few_calls(world):
    begin, began = audit.size(world.cluster), time.monotonic()
    name = f"life-{world.namespace}"
    world.submit(name)
    pod = world.pod_of(name)
    world.becomes("Starting", name=name)
    world.kubelet.run(pod)
    world.becomes("Running", name=name)
    world.ends(pod, 0)
    world.becomes("Completed", name=name)
    eventually(lambda: world.events(name), "its end is told")
    asked = [each for each in audit.asked(world.cluster, USER, begin) if each.namespace == world.namespace]
    # A life that takes longer, as on a slow machine, is told of once more for each word that did not come in time, and
    # is looked at again.
    seconds = time.monotonic() - began
    further = min(int(seconds // SETTLE_SECONDS), 2) + 2 * int(seconds // INTERVAL_SECONDS)
    assert len(asked) <= MAX_CALLS + further, f"{seconds:.0f} s: {[(each.verb, each.resource) for each in asked]}"


def test_its_pages_answer(operator):
    assert operator.get("/healthz") == (200, "ok\n")
    assert operator.get("/readyz") == (200, "ok\n")
    assert operator.get("/")[0] == 404
    code, metrics = operator.get("/metrics")
    assert code == 200
    assert "feedline_operator_active 1.0" in metrics
    assert "feedline_operator_build_info{" in metrics
    assert 'feedline_operator_api_requests_total{code="201",resource="leases",verb="create"} 1.0' in metrics


def test_it_logs_one_json_object_a_line(operator):
    lines = operator.log.read_text().splitlines()
    assert lines
    assert len(operator.logged()) == len(lines)
    assert {"time", "level", "logger", "message"} <= operator.logged()[0].keys()


def test_version_is_one_line():
    ended = run("--version")
    assert ended.returncode == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", ended.stdout)


def test_help_names_every_setting():
    ended = run("--help")
    assert ended.returncode == 0
    assert ended.stdout.startswith("Usage: feedline-operator [--version | --help]")
    assert "FEEDLINE_RESYNC_SECONDS=600" in ended.stdout
    assert ended.stderr == ""


def test_an_argument_that_is_none_is_bad_usage():
    assert run("--verbose").returncode == 64


def test_a_setting_that_cannot_be_used_is_one_sentence():
    ended = run(FEEDLINE_WORKERS="many")
    assert ended.returncode == 1
    assert ended.stderr == "feedline-operator: FEEDLINE_WORKERS: must be a number from 1 to 1000 (got 'many')\n"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FEEDLINE_WORKERS", "0", "must be a number from 1 to 1000 (got '0')"),
        ("FEEDLINE_RESYNC_SECONDS", "nan", "must be a number from 1 to 86400 (got 'nan')"),
        ("FEEDLINE_NAMESPACES", "a,B", "'B' is no namespace; separate names by commas"),
    ],
)
def test_a_setting_says_what_it_may_be(name, value, said):
    with pytest.raises(settings.SettingsError) as caught:
        settings.read({name: value})
    assert str(caught.value) == f"{name}: {said}"


@pytest.mark.parametrize("content", [None, "a: [", "clusters: {}"], ids=["no file", "no YAML", "no context"])
def test_without_credentials_it_is_one_sentence(tmp_path, content):
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    ended = run(KUBECONFIG=str(path))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(
        "feedline-operator: KUBECONFIG: no credentials for the API server ("
    )
    assert "Traceback" not in ended.stderr


def test_it_runs_under_kopf_too(bare_cluster, tmp_path):
    run_it = (sys.executable, "-m", "kopf", "run", "-m", "feedline_operator.handlers", "--standalone")
    with World.new(bare_cluster) as world:
        # In this namespace alone: in others there are operators of other tests, which count what they write.
        here, command = world.allow_operator(), (*run_it, "--namespace", world.namespace)
        with operators.OperatorProcess(bare_cluster, tmp_path, command=command, environment=here) as operator:
            world.submit()
            world.completes()
            assert operator.terminate() == 0
