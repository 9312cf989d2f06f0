"""One real Kubernetes for all of these tests, with the operator in a pod and the trainers' real images."""

import copy
from pathlib import Path

import pytest
import yaml
from cluster import chart, data, operators
from cluster.images import ensure_images
from cluster.world import World

EXAMPLES = Path(__file__).parents[2] / "examples"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(items):
    """Give these tests the time that pods need on a small machine; the first of them imports gigabytes of images."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def images(node_cluster):
    """Return the names of the images, which the node has."""
    return ensure_images(node_cluster)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Return a folder with the digits, readable for the pods."""
    folder = tmp_path_factory.mktemp("data")
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == 0 and parent.stat().st_mode & 0o755 != 0o755 and str(parent) != "/":
            parent.chmod(parent.stat().st_mode | 0o755)
    return data.pack_digits(folder / "digits")


@pytest.fixture(scope="session")
def cluster(node_cluster, images):
    """Return the cluster, with the operator at work."""
    chart.install(node_cluster, images, "--set", "operator.statusIntervalSeconds=2")
    return node_cluster


@pytest.fixture
def namespace(cluster, digits):
    """Yield a namespace with Pod Security *restricted* and the digits on a claim."""
    name = cluster.new_namespace(labels=RESTRICTED)
    data.claim(cluster, name, digits)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def runs(cluster, namespace, tmp_path):
    """Return a folder on a claim to which trainers may write."""
    for parent in tmp_path.parents:
        if parent.stat().st_uid == 0 and parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o755)
    tmp_path.chmod(0o755)
    return data.output(cluster, namespace, tmp_path / "runs")


@pytest.fixture
def submit(cluster, namespace):
    """Return a function that applies an example with parts of its spec changed, and returns the pipeline's name."""

    def submit(example="digits", name=None, **spec):
        document = copy.deepcopy(yaml.safe_load((EXAMPLES / example / "pipeline.yaml").read_text()))
        document["metadata"] |= {"namespace": namespace, **({"name": name} if name else {})}
        for field, value in spec.items():
            known = document["spec"].get(field)
            document["spec"][field] = {**known, **value} if isinstance(known, dict) and value is not None else value
        document["spec"] = {field: value for field, value in document["spec"].items() if value is not None}
        document["spec"]["train"] = {k: v for k, v in document["spec"]["train"].items() if v is not None}
        cluster.apply(document)
        return document["metadata"]["name"]

    return submit


@pytest.fixture
def pipeline(cluster, namespace):
    """Return a function that reads a pipeline, with its conditions by type."""
    return World(cluster, namespace).state


@pytest.fixture
def becomes(pipeline):
    """Return a function that waits until a pipeline's state is one of these, and returns the pipeline."""

    def becomes(name, *reasons, seconds=120):
        def reached():
            found = pipeline(name)
            succeeded = found["conditions"].get("Succeeded", {"reason": "none", "status": "Unknown", "message": ""})
            if succeeded["reason"] in reasons:
                return found
            assert succeeded["status"] == "Unknown", f"{name}: {succeeded['reason']}: {succeeded['message']}"
            return None

        return operators.eventually(reached, f"{name} is {' or '.join(reasons)}", seconds, every=0.5)

    return becomes
