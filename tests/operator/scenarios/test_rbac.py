"""The operator's rights: what it asks for is what the chart allows, both ways, as the API server recorded it."""

import pytest
from cluster import audit, chart
from cluster.operators import NAMESPACE, eventually, running
from cluster.world import World

USER = f"system:serviceaccount:{NAMESPACE}:feedline-operator"
RULES = [rule for document in chart.rights() for rule in document.get("rules", ())]
ALLOWED = {
    (group, resource, verb)
    for rule in RULES
    for group in rule["apiGroups"]
    for resource in rule["resources"]
    for verb in rule["verbs"]
}


def test_what_is_asked_is_allowed_and_what_is_allowed_is_asked(world):
    begin = audit.size(world.cluster)
    # Nothing runs for so long that Events are read.
    world.submit("waits")
    # An attempt that fails and one that does not, and then it is cleaned up.
    world.submit("tries", policy={"maxRetries": 1, "ttlSecondsAfterFinished": 0})
    first = world.runs("tries")
    world.ends(first, 74)
    # A Job that goes by suspension.
    world.submit("pauses")
    pod = world.runs("pauses")
    world.change("pauses", suspend=True)
    world.becomes("Suspended", name="pauses")
    world.confirm(pod)
    world.disappears("job", "pauses")
    world.change("pauses", suspend=False)
    world.completes("pauses", after=(pod,))
    # A Job that is there already is read.
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}
    jobs = f"/apis/batch/v1/namespaces/{world.namespace}/jobs"
    world.rest.do("POST", jobs, {"metadata": {"name": "taken"}, "spec": {"suspend": True, "template": template}})
    world.submit("taken")
    world.becomes("Pending", name="taken", says="is not feedline's")
    # A sweep whose first trial is there already, and which is cleaned up; and one that stops its trials.
    single = {"algorithm": {"type": "Random"}, "trials": 1, "parallel": 1, "pruning": {"rule": "None"}}
    world.submit("swept-0")
    world.sweep("swept", **single)
    world.sweep("stops", **single, ttlSecondsAfterFinished=0)
    eventually(lambda: world.trials("stops"), "its trial begins", 120)
    world.change_sweep("stops", stop={})
    # Pods that train together, the Service of which is there already when their Job is made anew.
    world.submit("both", resources={"nodes": 2})
    one, other = world.run_together("both", 2)
    world.ends(one, 74)
    world.is_taken_away(other)
    world.change("both", suspend=True)
    world.becomes("Suspended", name="both")
    world.change("both", suspend=False)
    world.ends(world.runs("tries", after=(first,)), 0)
    world.disappears("pipeline", "tries")

    here = (world.namespace, NAMESPACE, "")

    def records(since=0):
        return [each for each in audit.asked(world.cluster, USER, since) if each.namespace in here]

    def walked():
        return {(each.group, each.resource, each.verb) for each in records(begin)}

    eventually(lambda: ("", "events", "list") in walked(), "the Events are read", 90)
    eventually(lambda: ("", "services", "get") in walked(), "the Service is read", 90)
    eventually(lambda: world.find_sweep("stops") is None, "the sweep's time is up", 120)
    # Its watches, and its Lease, began before the test.
    began = {
        (each.group, each.resource, each.verb)
        for each in records()
        if not each.namespace or each.namespace == NAMESPACE
    }
    assert walked() | began == ALLOWED
    assert not [each for each in records() if each.code in {401, 403}]


def test_an_operator_of_one_namespace_needs_no_right_elsewhere(bare_cluster, tmp_path):
    with World.new(bare_cluster) as world:
        bare_cluster.apply(chart.rights("--set", f"fullnameOverride=narrow,watch.namespaces={{{world.namespace}}}"))
        credentials = bare_cluster.kubeconfig_for(NAMESPACE, "narrow-operator")
        settings = {"FEEDLINE_NAMESPACES": world.namespace, "FEEDLINE_LEASE_NAME": "narrow-operator"}
        with running(bare_cluster, tmp_path, kubeconfig=credentials, environment=settings):
            world.submit("digits")
            world.runs("digits")
        asked = ("--kubeconfig", str(credentials), "auth", "can-i", "list", "pods", "-n")
        assert bare_cluster.kubectl(*asked, world.namespace, check=False).stdout.strip() == "yes"
        assert bare_cluster.kubectl(*asked, "default", check=False).stdout.strip() == "no"


def test_its_rights_are_few():
    resources = {resource for _, resource, _ in ALLOWED}
    assert not resources & {"secrets", "configmaps", "pods/exec", "pods/log", "namespaces", "customresourcedefinitions"}
    assert not [rule for rule in RULES if "*" in rule["apiGroups"] + rule["resources"] + rule["verbs"]]
    assert not [rule for rule in RULES if "nonResourceURLs" in rule]
    assert not {verb for _, _, verb in ALLOWED} & {"impersonate", "escalate", "bind", "deletecollection"}
    # It changes of a Job nothing at all, of a sweep the status, and of a pipeline, where it is a trial, stop and suspend.
    assert {verb for _, resource, verb in ALLOWED if resource == "jobs"} == {"get", "list", "watch", "create", "delete"}
    assert {verb for _, resource, verb in ALLOWED if resource == "trainingsweeps"} == {"list", "watch", "delete"}


@pytest.mark.parametrize("resource", ["secrets", "configmaps", "nodes", "namespaces", "pods/log"])
def test_the_server_refuses_it_everything_else(feedline_cluster, resource):
    kubeconfig = feedline_cluster.kubeconfig_for(NAMESPACE, "feedline-operator")
    answer = feedline_cluster.kubectl(
        "--kubeconfig", str(kubeconfig), "auth", "can-i", "get", resource, "-A", check=False
    )
    assert answer.stdout.strip() == "no"
