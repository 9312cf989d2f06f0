"""The clusters themselves, before other tests lean on them."""

import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from cluster import build, folders, machine, sandbox
from cluster.api import ApiCluster
from cluster.errors import ClusterError
from cluster.node import NodeCluster
from cluster.processes import FOLDER_VARIABLE
from cluster.scratch import write_image

# A harness that dies without a chance to clean up.
KILLED = """
import os, signal
from cluster.{} import {} as Cluster
with Cluster() as cluster:
    print(cluster.folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""

PROBE_IMAGE = "localhost/probe:1"


def until(condition, seconds=150):
    """Return the first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
    return value


def job(namespace, image, **spec):
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}, **spec},
    }


def pod(namespace, image, *args):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": image, "args": list(args)}]},
    }


def processes_of(folder):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(FOLDER_VARIABLE) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
    return found


def traces():
    """Return what a node could leave on the machine."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    settings = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "net/ipv4/ip_forward")
    return {
        "interfaces": sorted(psutil.net_if_addrs()),
        "routes": Path("/proc/net/route").read_text(),
        "network namespaces": subprocess.check_output(["ip", "netns", "list"], text=True),
        "mounts": sorted(line for line in mounts if "feedline" in line or "kubelet" in line or "containerd" in line),
        "cgroups": sorted(str(path) for path in Path("/sys/fs/cgroup").glob("**/feedline-node*")),
        "mount points": [path for path in sandbox.HIDDEN if Path(path).exists()],
        "settings": [Path("/proc/sys", name).read_text() for name in settings],
    }


def python(*argv):
    """Run a Python of its own to its end and return what it wrote."""
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, *argv],
        env={**os.environ, "PYTHONPATH": tests},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )
    return done.stdout


@pytest.fixture
def before(node_level):
    """Return what is on the machine without a node: what killed runs left there is removed."""
    folders.sweep("node", NodeCluster.remove_leftovers)
    return traces()


class TestApiLevel:
    @pytest.mark.usefixtures("api_levels")
    @pytest.mark.parametrize(
        ("fixture", "version"), [("api_cluster", "v1.36"), ("oldest_api_cluster", "v1.34")], ids=["newest", "oldest"]
    )
    def test_each_supported_version_is_served(self, fixture, version, request):
        cluster = request.getfixturevalue(fixture)
        assert f"Server Version: {version}." in cluster.kubectl("version").stdout

    def test_an_unknown_version_is_refused_by_name(self):
        with pytest.raises(ClusterError, match=r"Kubernetes 1\.2 is none of ours: take 1\.36 or 1\.34"):
            ApiCluster("1.2")

    def test_an_indexed_job_gets_its_pods(self, api_cluster, namespace):
        api_cluster.apply(job(namespace, "nowhere", completionMode="Indexed", completions=2, parallelism=2))
        pods = until(lambda: api_cluster.get("pods", "-n", namespace)["items"])
        until(lambda: len(api_cluster.get("pods", "-n", namespace)["items"]) == 2)
        assert pods[0]["metadata"]["ownerReferences"][0]["kind"] == "Job"

    def test_objects_outlive_the_api_server(self, api_cluster, namespace):
        api_cluster.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": namespace}}
        )
        api_cluster.stop_api_server()
        assert api_cluster.kubectl("get", "namespaces", check=False).returncode != 0
        api_cluster.start_api_server()
        assert api_cluster.get("configmap", "kept", "-n", namespace)["metadata"]["name"] == "kept"

    def test_a_service_account_may_do_only_what_it_was_given(self, api_cluster, namespace):
        kubeconfig = api_cluster.kubeconfig_for(namespace, "default")
        done = api_cluster.kubectl("get", "secrets", "--kubeconfig", str(kubeconfig), check=False)
        assert f'User "system:serviceaccount:{namespace}:default" cannot list resource "secrets"' in done.stderr
        assert f'"username":"system:serviceaccount:{namespace}:default"' in api_cluster.audit_log.read_text()

    def test_nothing_outlives_the_block(self, api_level):
        with ApiCluster() as cluster:
            assert len(processes_of(cluster.folder)) == 3
        assert processes_of(cluster.folder) == []
        assert not cluster.folder.exists()

    def test_nothing_outlives_a_harness_that_is_killed(self, api_level):
        folder = Path(python("-c", KILLED.format("api", "ApiCluster")).strip())
        until(lambda: processes_of(folder) == [])
        folders.sweep("api", ApiCluster.remove_leftovers)
        assert not folder.exists()


class TestNodeLevel:
    def test_pods_run_and_reach_what_they_should_and_nothing_is_left(self, before):
        with NodeCluster() as cluster:
            with pytest.raises(ClusterError, match=f"Process {os.getpid()} runs a node cluster"):
                machine.claim()
            program = build.program("probe", build.PROBE)
            cluster.import_image(write_image(cluster.folder / "probe.tar", PROBE_IMAGE, program))
            assert cluster.has_image(PROBE_IMAGE)
            assert not cluster.has_image("localhost/never-made:1")
            namespace = cluster.new_namespace(labels={"pod-security.kubernetes.io/enforce": "baseline"})

            cluster.apply(job(namespace, PROBE_IMAGE))
            cluster.kubectl("wait", "--for=condition=Complete", "--timeout=50s", "job/job", "-n", namespace)
            assert cluster.kubectl("logs", "job/job", "-n", namespace).stdout == "the API server answered 200\n"

            cluster.apply(pod(namespace, PROBE_IMAGE, "serve"))
            cluster.kubectl("wait", "--for=condition=Ready", "--timeout=50s", "pod/pod", "-n", namespace)
            told = cluster.kubectl("exec", "pod", "-n", namespace, "--", "/probe").stdout
            assert told == "the API server answered 200\n"
            address = cluster.get("pod", "pod", "-n", namespace)["status"]["podIP"]
            with urllib.request.urlopen(f"http://{address}:8080/", timeout=10) as answer:
                assert answer.read() == b"the pod answers\n"
            assert "10.213.65.2" in subprocess.check_output(cluster.enter("ip", "address"), text=True)
        assert traces() == before
        assert processes_of(cluster.folder) == []
        assert not cluster.folder.exists()

    def test_a_harness_that_is_killed_leaves_no_process_and_cluster_down_removes_the_rest(self, before):
        folder = Path(python("-c", KILLED.format("node", "NodeCluster")).strip())
        until(lambda: processes_of(folder) == [])
        until(lambda: traces()["interfaces"] == before["interfaces"])
        assert folder.exists()
        python("-m", "cluster", "down")
        assert traces() == before
        assert not folder.exists()

    def test_cluster_up_leaves_one_to_play_with_until_cluster_down(self, before):
        told = python("-m", "cluster", "up")
        kubeconfig = re.search(r"^export KUBECONFIG=(.*)$", told, re.MULTILINE)[1]
        kubectl = build.program("kubectl", build.KUBERNETES[build.NEWEST])
        nodes = subprocess.check_output([kubectl, "--kubeconfig", kubeconfig, "get", "nodes"], text=True)
        assert re.search(r"^node +Ready ", nodes, re.MULTILINE)
        assert python("-m", "cluster", "up") == told, "a second time tells of the same one"
        python("-m", "cluster", "down")
        assert traces() == before
        assert not Path(kubeconfig).parent.exists()
