"""What the chart renders, by the real helm and without a cluster."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from cluster.chart import CHART, ROOT, helm, rendered
from cluster.errors import ClusterError
from jsonschema import Draft202012Validator

from feedline.contract import METRICS_PORT
from feedline_operator.settings import VARIABLES

pytestmark = pytest.mark.usefixtures("helm_level")

CASES = sorted(CHART.glob("ci/*-values.yaml"))
DATA = Path(__file__).parent / "data"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def leaves(values, above=""):
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{name}.")
        else:
            yield above + name


def find(documents, kind, name=None):
    """Return the one object of that kind (and name)."""
    (found,) = [each for each in documents if each["kind"] == kind and name in {None, each["metadata"]["name"]}]
    return found


def kinds(*args):
    return {document["kind"] for document in rendered(*args)}


def operator_of(documents):
    (container,) = find(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    return container


def environment_of(documents):
    return {variable["name"]: variable.get("value") for variable in operator_of(documents)["env"]}


def refusal(*args):
    """Return what helm says when it refuses values."""
    with pytest.raises(ClusterError) as error:
        rendered(*args)
    return str(error.value)


def test_helm_finds_nothing_to_complain_of():
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART).stdout


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_every_case_renders_objects_with_the_charts_labels(case):
    for document in rendered("--values", case):
        labels = document["metadata"].get("labels", {})
        if document["kind"] != "CustomResourceDefinition":
            assert labels["app.kubernetes.io/part-of"] == "feedline"
            assert labels["helm.sh/chart"] == "feedline-0.1.0"
        of_the_cluster = document["kind"].startswith(("Cluster", "CustomResource"))
        assert ("namespace" in document["metadata"]) != of_the_cluster, document["metadata"]["name"]


def test_its_version_is_the_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {versions["version"], versions["appVersion"]} == {project["version"]}


def test_the_crd_is_rendered_as_it_is_in_the_repository():
    sources = sorted((ROOT / "crds").glob("*.yaml"))
    copies = sorted((CHART / "files" / "crds").glob("*.yaml"))
    assert [path.read_bytes() for path in sources] == [path.read_bytes() for path in copies]
    crds = [document for document in rendered() if document["kind"] == "CustomResourceDefinition"]
    assert crds == [yaml.safe_load(path.read_text()) for path in sources]
    assert crds[0]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_what_is_switched_off_is_not_there():
    assert kinds("--values", CHART / "ci" / "off-values.yaml") == {"Deployment", "Service"}
    by_default = {"CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role"}
    assert kinds() == by_default | {"RoleBinding", "Service", "Deployment"}


def test_what_is_switched_on_is_there():
    monitoring = kinds("--values", CHART / "ci" / "monitoring-values.yaml")
    assert monitoring >= {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap", "NetworkPolicy"}


def test_the_rights_are_those_of_the_file():
    """A change of the operator's or the people's rights is seen in a review."""
    cases = {path.stem.removesuffix("-values"): path for path in CASES}
    rules = {
        case: {
            f"{document['kind']} {document['metadata'].get('namespace', '')}/{document['metadata']['name']}": [
                f"{' '.join(rule['verbs'])}: {' '.join(rule['resources'])}"
                f"{' named ' + ' '.join(rule['resourceNames']) if 'resourceNames' in rule else ''}"
                for rule in document["rules"]
            ]
            for document in rendered("--values", cases[case])
            if document["kind"] in {"Role", "ClusterRole"}
        }
        for case in ("default", "namespaces", "off")
    }
    assert rules == yaml.safe_load((DATA / "rights.yaml").read_text())


def test_one_namespace_is_worked_on_with_roles_in_it_alone():
    documents = rendered("--values", CHART / "ci" / "namespaces-values.yaml")
    assert not [each for each in documents if each["kind"] in {"ClusterRole", "ClusterRoleBinding"}]
    assert environment_of(documents)["FEEDLINE_NAMESPACES"] == "team-a,team-b"
    bindings = [each for each in documents if each["kind"] == "RoleBinding"]
    assert {each["metadata"]["namespace"] for each in bindings} == {"team-a", "team-b", "feedline-system"}
    for binding in bindings:
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "feedline-operator", "namespace": "feedline-system"}
        ]


def test_an_image_is_by_tag_or_by_digest():
    documents = rendered("--values", CHART / "ci" / "private-registry-values.yaml")
    images = environment_of(documents)
    assert operator_of(documents)["image"] == "registry.example:5000/mirror/operator@sha256:" + 64 * "0"
    assert images["FEEDLINE_IMAGE_PYTORCH"] == "registry.example:5000/mirror/pytorch:2.15"
    assert images["FEEDLINE_IMAGE_KERAS"] == "ghcr.io/feedline/feedline-trainer:0.1.0-keras"
    assert operator_of(rendered())["image"] == "ghcr.io/feedline/feedline-operator:0.1.0"


def test_the_names_follow_the_release():
    def named(release, *args):
        done = helm(
            "template", release, CHART, "--kube-version", "1.36", "--show-only", "templates/service.yaml", *args
        )
        return yaml.safe_load(done.stdout)["metadata"]["name"]

    assert named("feedline") == "feedline-operator"
    assert named("team") == "team-feedline-operator"
    assert named("team", "--set", "fullnameOverride=training") == "training-operator"
    assert environment_of(rendered("--set", "fullnameOverride=x"))["FEEDLINE_LEASE_NAME"] == "x-operator"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_operators_pod_is_restricted_in_every_case(case):
    pod = find(rendered("--values", case), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def test_users_and_groups_are_set_or_left_to_the_platform():
    context = find(rendered(), "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
    documents = rendered("--values", CHART / "ci" / "private-registry-values.yaml")
    context = find(documents, "Deployment")["spec"]["template"]["spec"]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (1000, 1000, 1000)
    documents = rendered("--values", CHART / "ci" / "openshift-values.yaml")
    assert json.loads(environment_of(documents)["FEEDLINE_POD_SECURITY_CONTEXT"]) == {"supplementalGroups": [5555]}


# Every value changed at once from a chart with everything in it, by the kind of what it is.
EVERYTHING = (
    "operator.replicas=2,networkPolicy.enabled=true,metrics.serviceMonitor.enabled=true,grafana.dashboards.enabled=true,"
    "metrics.podMonitor.enabled=true,metrics.prometheusRule.enabled=true,watch.namespaces={team-a}"
)
CHANGED = {
    "networkPolicy.apiServerPorts": "{8443}",
    "metrics.prometheusRule.disabled": "{FeedlineTrainerStalled}",
    "metrics.prometheusRule.runbookUrl": "https://wiki.example",
    "operator.image.pullPolicy": "Never",
    "serviceAccount.create": "false,serviceAccount.name=mine",
    "watch.namespaces": "{team-b}",
}
OBJECTS = {
    *("imagePullSecrets", "tolerations", "topologySpreadConstraints", "extraEnv"),
    *("scrapedFrom", "trainerEgress", "additionalRules"),
}


@pytest.mark.parametrize("path", sorted(leaves(VALUES)))
def test_every_value_reaches_an_object(path):
    """A value that no template reads would be a promise that nobody keeps."""
    value, name = value_at(path), path.rsplit(".", 1)[-1]
    if path in CHANGED:
        change = CHANGED[path]
    elif isinstance(value, bool):
        change = str(not value if f"{path}=" not in EVERYTHING else False).lower()
    elif name == "podSecurityContext":
        path, change = f"{path}.runAsUser", "7"
    elif name in OBJECTS:
        path, change = f"{path}[0].name", "x"
    elif isinstance(value, dict):
        path, change = f"{path}.x", "y"
    elif isinstance(value, int):
        change = str(value + 2)
    else:
        change = {"digest": f"sha256:{64 * 'a'}", "interval": "7s", "cpu": "7m", "memory": "7Mi"}.get(name, "x7")
    everything = ("--set", EVERYTHING)
    assert rendered(*everything, "--set", f"{path}={change}", tests=True) != rendered(*everything, tests=True)


def value_at(path):
    value = VALUES
    for name in path.split("."):
        value = value[name]
    return value


def test_two_replicas_may_be_drained_one_at_a_time():
    documents = rendered("--set", "operator.replicas=2")
    assert find(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert "PodDisruptionBudget" not in kinds()
    assert "PodDisruptionBudget" not in kinds("--set", "operator.replicas=2,podDisruptionBudget.enabled=false")


def test_alerts_are_left_out_and_added_and_point_to_the_runbooks():
    rule = find(rendered("--values", CHART / "ci" / "monitoring-values.yaml"), "PrometheusRule")
    groups = {group["name"]: group["rules"] for group in rule["spec"]["groups"]}
    source = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"]
    count = sum(len(group["rules"]) for group in source)
    own = [each for group in groups.values() for each in group if each.get("alert") == "FeedlineTrainerInputBound"]
    assert [each["for"] for each in own] == ["30m"]
    assert groups["feedline.additional"] == own
    assert sum(map(len, groups.values())) == count
    for each in (each for name in groups if name != "feedline.additional" for each in groups[name] if "alert" in each):
        assert each["annotations"]["runbook_url"] == f"https://wiki.example/runbooks/{each['alert']}"
    plain = find(rendered("--set", "metrics.prometheusRule.enabled=true"), "PrometheusRule")
    assert plain["spec"]["groups"] == source


def test_dashboards_are_what_the_repository_has():
    maps = [
        each for each in rendered("--values", CHART / "ci" / "monitoring-values.yaml") if each["kind"] == "ConfigMap"
    ]
    boards = {name: json.loads(text) for each in maps for name, text in each["data"].items()}
    sources = {f"feedline-{path.name}": json.loads(path.read_text()) for path in (ROOT / "dashboards").glob("*.json")}
    assert boards == sources
    assert len(boards) == 3
    for each in maps:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "Training", "example.com/team": "platform"}


def test_a_network_policy_lets_through_the_calls_that_are_made():
    """The operator calls DNS, the API server and the trainers; Prometheus, the kubelet and helm's test call it."""
    documents = rendered("--values", CHART / "ci" / "namespaces-values.yaml")
    operator = find(documents, "NetworkPolicy", "feedline-operator")["spec"]
    ports = [{port["port"] for port in rule["ports"]} for rule in operator["egress"]]
    assert ports == [{53}, {443, 6443}, {METRICS_PORT}]
    assert [port["port"] for port in operator["ingress"][0]["ports"]] == [int(VARIABLES["FEEDLINE_PORT"][0])]
    assert operator["egress"][2]["to"][0]["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "feedline-trainer"
    }
    assert operator["podSelector"]["matchLabels"].items() <= labels_of(documents).items()
    trainers = [each for each in documents if each["metadata"]["name"] == "feedline-trainer"]
    assert [each["metadata"]["namespace"] for each in trainers] == ["team-a", "team-b"]
    for each in trainers:
        ingress, peers = each["spec"]["ingress"]
        assert ingress["ports"] == [{"port": METRICS_PORT}]
        assert ingress["from"][0]["podSelector"]["matchLabels"].items() <= labels_of(documents).items()
        assert ingress["from"][1] == {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
        }
        dns, others, storage = each["spec"]["egress"]
        assert [rule["ports"][0]["port"] for rule in (dns, storage)] == [53, 2049]
        # Of several nodes, on ports that nobody knows beforehand.
        trainers_here = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "feedline-trainer"}}}]
        assert peers == {"from": trainers_here}
        assert others == {"to": trainers_here}


def test_the_service_and_its_monitor_select_the_operator():
    documents = rendered("--values", CHART / "ci" / "monitoring-values.yaml")
    service = find(documents, "Service")
    assert service["spec"]["selector"].items() <= labels_of(documents).items()
    monitor = find(documents, "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert {port["name"] for port in operator_of(documents)["ports"]} == {service["spec"]["ports"][0]["targetPort"]}


def labels_of(documents):
    return find(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]


REFUSED = {
    "a typo": (["operator.replicaCount=2"], "replicaCount"),
    "a typo of a resource": (["operator.resources.limit.cpu=1"], "limit"),
    "nothing where something is read": (["serviceAccount=null"], "missing property 'serviceAccount'"),
    "no labels at all": (["commonLabels=null"], "missing property 'commonLabels'"),
    "a label that none can have": (["grafana.dashboards.label=a: b"], "/grafana/dashboards/label"),
    "a typo at the top": (["operater.replicas=2"], "operater"),
    "a wrong type": (["crds.enabled=maybe"], "/crds/enabled"),
    "no replicas": (["operator.replicas=0"], "/operator/replicas"),
    "a digest that is none": (["operator.image.digest=latest"], "/operator/image/digest"),
    "a root user": (["trainer.podSecurityContext.runAsUser=0"], "/trainer/podSecurityContext/runAsUser"),
    "a namespace that cannot be": (["watch.namespaces={Team_A}"], "/watch/namespaces/0"),
    "an interval without a unit": (["metrics.podMonitor.interval=15"], "/metrics/podMonitor/interval"),
    "a backend that is none": (["trainer.images.jax.tag=1"], "jax"),
}


@pytest.mark.parametrize(("values", "words"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_value_is_refused_by_its_path(values, words):
    said = refusal(*(part for value in values for part in ("--set", value)))
    assert words in said
    assert "don't meet the specifications of the schema" in said


def test_a_tag_and_a_digest_are_refused():
    said = refusal("--set", f"operator.image.tag=v1,operator.image.digest=sha256:{64 * 'a'}")
    assert 'operator.image: the tag "v1" and the digest "sha256:aaa' in said
    assert "set one of them" in said
    said = refusal("--set", f"trainer.images.keras.tag=v1,trainer.images.keras.digest=sha256:{64 * 'a'}")
    assert "trainer.images.keras: the tag" in said


def test_a_release_with_a_dot_is_refused():
    with pytest.raises(ClusterError, match="has a dot, which no Service may have"):
        helm("template", "ml.feedline", CHART, "--kube-version", "1.36")


def test_ones_own_labels_do_not_take_the_place_of_the_charts():
    key = "app\\.kubernetes\\.io/name"
    documents = rendered(
        "--set", f"commonLabels.{key}=x,operator.podLabels.{key}=y,commonLabels.a=b,operator.podLabels.a=c"
    )
    labels = labels_of(documents)
    assert labels["app.kubernetes.io/name"] == "feedline-operator"
    assert labels["a"] == "c"
    assert find(documents, "Deployment")["metadata"]["labels"]["a"] == "b"


def test_no_service_account_is_refused():
    assert "serviceAccount.name: name the ServiceAccount" in refusal("--set", "serviceAccount.create=false")


def test_the_schema_knows_every_value_and_no_other():
    Draft202012Validator.check_schema(SCHEMA)
    assert not list(Draft202012Validator(SCHEMA).iter_errors(VALUES))
    known = {re.sub(r"(podSecurityContext|operator\.resources)\..*", r"\1", path) for path in schema_leaves(SCHEMA)}
    given = {re.sub(r"(operator\.resources)\..*", r"\1", path) for path in leaves(VALUES)}
    assert known - {"global", "enabled"} == given


def schema_leaves(schema, above=""):
    for name, part in schema["properties"].items():
        found = SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
        if "properties" in found:
            assert found["additionalProperties"] is False, above + name
            yield from schema_leaves(found, f"{above}{name}.")
        else:
            yield above + name


def test_the_chart_is_small(tmp_path):
    """Helm keeps a release in a Secret, which may hold a mebibyte; half of that is left to the users' values."""
    helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.iterdir()
    assert package.stat().st_size < 200_000


def test_the_chart_needs_no_hook_and_no_download():
    hooks = set()
    for path in (CHART / "templates").rglob("*.yaml"):
        hooks |= set(re.findall(r"helm\.sh/hook: (\S+)", path.read_text()))
    assert hooks == {"test"}
    assert not (CHART / "charts").exists()
    assert "dependencies" not in yaml.safe_load((CHART / "Chart.yaml").read_text())


def test_the_notes_have_three_commands_to_go_on_with():
    text = helm("install", "feedline", CHART, "--dry-run=client", "--namespace", "feedline-system").stdout
    notes = text[text.index("NOTES:") :]
    assert len(re.findall(r"^  kubectl ", notes, re.MULTILINE)) == 3
    assert "Prometheus does not scrape it yet" in notes
