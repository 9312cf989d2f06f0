"""The chart on a real API server: install, upgrade, uninstall, and what it refuses before anything is made."""

import json
import subprocess
import tarfile

import pytest
import yaml
from cluster import chart
from cluster.api import ApiCluster
from cluster.chart import CHART, NAMESPACE, RELEASE, ROOT, helm, rendered
from cluster.operators import eventually
from cluster.prometheus import install_kinds

MONITORED = ("metrics.serviceMonitor.enabled", "metrics.podMonitor.enabled", "metrics.prometheusRule.enabled")
IMAGES = {name: f"images.example/{name}:1" for name in ("operator", "keras", "tensorflow", "pytorch")}
PIPELINE = yaml.safe_load((ROOT / "examples" / "digits" / "pipeline.yaml").read_text())
CASES = sorted(CHART.glob("ci/*-values.yaml"))


@pytest.fixture(scope="module")
def server(api_level):
    """Return an API server of its own, with the kinds of prometheus-operator as its module has them."""
    with ApiCluster() as cluster:
        install_kinds(cluster)
        yield cluster


@pytest.fixture
def installed(server):
    """Say that a test installs the release; what it leaves is removed."""
    yield server
    helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait", cluster=server)


@pytest.fixture
def restricted(server):
    """Return a namespace that takes only pods of the level *restricted*."""
    return server.new_namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})


def objects(server):
    """Return the names of everything that the release has made, the CRD aside."""
    kinds = (
        "deployments,services,serviceaccounts,configmaps,roles,rolebindings,clusterroles,clusterrolebindings,"
        "networkpolicies,poddisruptionbudgets,servicemonitors,podmonitors,prometheusrules"
    )
    found = server.kubectl("get", kinds, "-A", "-l", "app.kubernetes.io/part-of=feedline", "-o", "name").stdout
    return set(found.split())


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_server_takes_every_object_of_every_case(server, case):
    """Strictly: a field that no kind has would otherwise be dropped in silence."""
    for name in ("team-a", "team-b", NAMESPACE):
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered("--values", case, tests=True)})
    dry = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    assert not [line for line in server.kubectl(*dry, input=listed).stderr.splitlines() if "arning" in line]


def test_the_rules_and_monitors_are_those_of_prometheus_operator(server):
    """The kinds' own schemas refuse what is none of their fields: the check above can fail."""
    rule = next(each for each in rendered("--set", f"{MONITORED[2]}=true") if each["kind"] == "PrometheusRule")
    rule["spec"]["groups"][0]["rules"][0]["summary"] = "not here"
    command = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    done = server.kubectl(*command, input=json.dumps(rule), check=False)
    assert "field not declared in schema" in done.stderr


def test_installing_upgrading_and_uninstalling_leaves_only_the_crd(installed):
    before = objects(installed)
    said = chart.install(installed, IMAGES, wait=False)
    assert "feedline 0.1.0 works on the pipelines of all namespaces." in said
    assert objects(installed) - before
    namespace = installed.new_namespace()
    installed.apply({**PIPELINE, "metadata": {"name": "digits", "namespace": namespace}})
    pipeline = installed.get("tp", "digits", "-n", namespace)
    chart.install(installed, IMAGES, "--set", ",".join(f"{name}=true" for name in MONITORED), wait=False)
    assert {name for name in objects(installed) if "monitoring.coreos.com" in name}
    helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", cluster=installed)
    eventually(lambda: objects(installed) == before, "everything but the CRD is gone")
    assert installed.get("tp", "digits", "-n", namespace)["metadata"]["uid"] == pipeline["metadata"]["uid"]
    chart.install(installed, IMAGES, wait=False)
    assert installed.get("tp", "digits", "-n", namespace)["metadata"]["uid"] == pipeline["metadata"]["uid"]


def test_the_chart_of_the_commit_before_is_upgraded_and_pipelines_are_not_touched(installed, tmp_path):
    earlier = earlier_chart(tmp_path)
    install = ("install", RELEASE, earlier, "--namespace", NAMESPACE, "--create-namespace", *chart.image_values(IMAGES))
    helm(*install, cluster=installed)
    namespace = installed.new_namespace()
    installed.apply({**PIPELINE, "metadata": {"name": "digits", "namespace": namespace}})
    pipeline = installed.get("tp", "digits", "-n", namespace)
    chart.install(installed, IMAGES, wait=False)
    # A newer schema may have fields with defaults that the older one has not, and the server fills them in where it reads.
    assert of_before(installed.get("tp", "digits", "-n", namespace), pipeline) == pipeline
    assert "REVISION: 2" in helm("status", RELEASE, "--namespace", NAMESPACE, cluster=installed).stdout


def of_before(now, before):
    """Return what is now in the fields that were there before."""
    if not isinstance(now, dict) or not isinstance(before, dict):
        return now
    return {field: of_before(value, before[field]) for field, value in now.items() if field in before}


def earlier_chart(folder):
    """Return the chart as it was in the newest commit that changed it and is not what lies here now."""
    git = ["git", "-C", ROOT]
    log = subprocess.run(
        [*git, "log", "--format=%H", "--", "charts/feedline"], capture_output=True, text=True, check=True
    )
    commits = log.stdout.split()
    for commit in commits[1:] or commits:
        shown = subprocess.run([*git, "archive", commit, "charts/feedline"], capture_output=True, check=False)
        if not shown.returncode:
            archive = folder / "chart.tar"
            archive.write_bytes(shown.stdout)
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            return folder / "charts" / "feedline"
    pytest.fail("The history has no chart: clone it with its commits.")


def test_the_releases_secret_is_small(installed):
    chart.install(installed, IMAGES, "--values", CHART / "ci" / "monitoring-values.yaml", wait=False)
    (secret,) = installed.get("secrets", "-n", NAMESPACE, "-l", "owner=helm")["items"]
    assert len(secret["data"]["release"]) < 500_000 - 200_000  # the packed chart may have the other 200,000


def test_the_operators_pod_may_run_where_only_restricted_pods_may(server, restricted):
    """Pod Security looks at pods, not at Deployments: the template is offered as a pod."""
    for args in ((), ("--values", CHART / "ci" / "private-registry-values.yaml")):
        documents = {each["kind"]: each for each in rendered(*args, namespace=restricted, tests=True)}
        for full in (documents["Deployment"]["spec"]["template"]["spec"], documents["Pod"]["spec"]):
            spec = {name: value for name, value in full.items() if name != "serviceAccountName"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": restricted}, "spec": spec}
            server.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod))
            spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
            refused = server.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False)
            assert "violates PodSecurity" in refused.stderr


def test_viewers_see_pipelines_and_editors_change_them(installed):
    chart.install(installed, IMAGES, wait=False)
    namespace = installed.new_namespace()

    for role in ("view", "edit", "admin"):
        installed.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "-n", namespace)

    def can(role, verb, *flags):
        question = ("auth", "can-i", verb, "trainingpipelines.feedline.dev", *flags)
        asked = installed.kubectl(*question, "-n", namespace, f"--as={role}", check=False)
        return asked.stdout.strip() == "yes"

    # The roles are aggregated by a controller, in its time.
    eventually(lambda: can("view", "list"), "a viewer may list pipelines")
    eventually(lambda: can("edit", "create"), "an editor may create pipelines")
    assert not can("view", "create")
    assert not can("view", "delete")
    assert can("edit", "delete")
    assert can("admin", "patch")
    assert not can("edit", "patch", "--subresource=status")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--set", "operator.replicaCount=2"], "replicaCount"),
        (["--set", "operator.replicas=0"], "/operator/replicas"),
        (["--set", "watch.namespaces={nowhere}"], 'the namespace "nowhere" does not exist: create it first'),
        (
            ["--set", f"operator.image.tag=v1,operator.image.digest=sha256:{64 * 'a'}"],
            "may name two different images: set one of them",
        ),
        (["--set", "serviceAccount.create=false"], "serviceAccount.name: name the ServiceAccount"),
        (
            ["--set", "grafana.dashboards.enabled=true,grafana.dashboards.namespace=nowhere"],
            'grafana.dashboards.namespace: the namespace "nowhere" does not exist',
        ),
    ],
    ids=["typo", "replicas", "namespace", "tag-and-digest", "service-account", "dashboards"],
)
def test_what_cannot_be_is_refused_before_anything_is_made(server, args, words):
    before = objects(server)
    done = helm("install", "refused", CHART, "--namespace", "default", *args, cluster=server, check=False)
    assert done.returncode
    assert words in done.stderr
    assert objects(server) == before
    assert not server.get("secrets", "-n", "default", "-l", "owner=helm")["items"]


def test_a_namespace_of_the_release_that_does_not_exist_is_said(server):
    # The CRD stays the earlier tests' release's.
    args = ("--namespace", "nowhere", "--set", "crds.enabled=false")
    done = helm("install", "elsewhere", CHART, *args, cluster=server, check=False)
    assert done.returncode
    assert 'namespaces "nowhere" not found' in done.stderr
    assert not [name for name in objects(server) if "elsewhere" in name]
