"""Suspension: by the pipeline's own field, which takes the Job away, and by others, whose business it is."""

import pytest
from cluster.kubelet import now
from cluster.operators import eventually


def test_suspended_from_the_start_it_has_no_job_until_it_is_resumed(world):
    world.submit(suspend=True)
    suspended = world.becomes("Suspended")
    assert suspended["conditions"]["Suspended"]["status"] == "True"
    assert world.job() is None
    world.change(suspend=False)
    done = world.completes()
    assert done["conditions"]["Suspended"]["status"] == "False"
    eventually(lambda: sorted(world.events()) == ["Completed", "Suspended"], "both turns are told")


def test_suspended_before_its_pod_ran_it_starts_anew(world):
    world.submit()
    first = world.pod_of()
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    world.kubelet.write(first, phase="Pending", conditions=[{**condition, "lastTransitionTime": now()}])
    world.becomes("Pending", says="No node takes the pod")  # so that it has been seen
    world.change(suspend=True)
    world.becomes("Suspended")
    world.disappears("job")
    world.change(suspend=False)
    done = world.completes(after=(first,))
    assert [attempt["reason"] for attempt in done["status"]["attempts"]] == ["Completed", "Deleted"]
    assert done["status"]["attempts"][1]["message"] == "the pod ended before its container ran"


def test_suspended_while_it_runs_it_goes_on_with_what_is_left_and_what_is_new(world):
    world.submit(policy={"maxRetries": 2})
    first = world.runs()
    world.ends(first, 74)
    second = world.runs(after=(first,))
    job = world.job()
    eventually(lambda: world.state()["status"]["failures"] == 1, "the failure is counted")

    world.change(suspend=True)
    suspending = world.becomes("Suspended")
    assert suspending["conditions"]["Suspended"]["reason"] == "Suspending"
    eventually(lambda: "deletionTimestamp" in world.job()["metadata"], "the Job is told to end")
    world.confirm(second)
    world.disappears("job")

    world.change(image="trainer.example/other:2", policy={"maxRetries": 3}, resources={"memory": "1Gi"})
    world.change(suspend=False)
    other = world.job_of(after=job["metadata"]["uid"])
    container = other["spec"]["template"]["spec"]["containers"][0]
    assert other["spec"]["backoffLimitPerIndex"] == 2
    assert container["image"] == "trainer.example/other:2"
    assert container["resources"]["limits"]["memory"] == "1Gi"
    done = world.completes(after=(first, second))
    assert [attempt.get("exitCode") for attempt in done["status"]["attempts"]] == [0, 143, 74]
    assert done["status"]["failures"] == 1
    assert done["status"]["startTime"] == suspending["status"]["startTime"]


def test_suspended_and_resumed_at_once_no_pod_runs_beside_the_old_one(world):
    world.submit()
    first = world.runs()
    job = world.job()
    world.change(suspend=True)
    eventually(lambda: "deletionTimestamp" in world.job()["metadata"], "the Job is told to end")
    world.change(suspend=False)
    world.becomes("Pending", says="The previous Job is being deleted")
    assert [pod["metadata"]["uid"] for pod in world.pods()] == [first["metadata"]["uid"]]
    world.confirm(first)
    world.job_of(after=job["metadata"]["uid"])
    world.completes(after=(first,))


def test_suspended_after_the_end_nothing_changes(world):
    world.submit()
    done = world.completes()
    generation = world.change(suspend=True)["metadata"]["generation"]
    eventually(lambda: world.state()["status"]["observedGeneration"] == generation, "the change is seen")
    assert world.state()["conditions"]["Succeeded"]["reason"] == "Completed"
    assert world.state()["status"]["completionTime"] == done["status"]["completionTime"]
    assert "deletionTimestamp" not in world.job()["metadata"]


@pytest.mark.parametrize("suspended_by", ["admission", "a patch"])
def test_a_job_that_somebody_else_suspends_is_left_alone_until_it_is_released(world, suspended_by):
    if suspended_by == "admission":
        suspend_new_jobs(world)
    world.submit()
    job = world.job_of()
    if suspended_by == "a patch":
        world.becomes("Starting")
        world.change_job(suspend=True)
    queued = world.becomes("Queued")
    assert queued["conditions"]["PodsReady"]["status"] == "False"
    assert queued["conditions"]["Suspended"]["status"] == "False"

    # As a queue manager does: where a Job goes is written into it while none of its pods is left.
    eventually(lambda: not world.job()["status"].keys() & {"startTime", "active"}, "the Job is stopped")
    selector = {"nodeSelector": {"pool": "a"}}
    world.change_job(template={"spec": selector})
    # A slow Job controller may have made the pod behind the suspension, and has to take that away first.
    eventually(lambda: all("deletionTimestamp" in pod["metadata"] for pod in world.pods()), "its pods are told to go")
    # Before it is released: the new pod may be there at once.
    before = tuple(world.pods())
    released = world.change_job(suspend=False)
    done = world.completes(after=before)
    after = world.job()
    assert after["metadata"]["uid"] == job["metadata"]["uid"]
    assert after["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "a"}
    assert after["metadata"]["generation"] == released["metadata"]["generation"]
    assert done["status"]["failures"] == 0


def suspend_new_jobs(world):
    """Suspend Jobs at their creation in the test's namespace, as a queue manager's webhook does."""
    policies = "/apis/admissionregistration.k8s.io/v1"
    name = f"suspend-{world.namespace}"
    created = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    patch = {"expression": "Object{spec: Object.spec{suspend: true}}"}
    world.rest.do(
        "POST",
        f"{policies}/mutatingadmissionpolicies",
        {
            "metadata": {"name": name},
            "spec": {
                "reinvocationPolicy": "Never",
                "matchConstraints": {"resourceRules": [created]},
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": patch}],
            },
        },
    )
    inside = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}}
    world.rest.do(
        "POST",
        f"{policies}/mutatingadmissionpolicybindings",
        {"metadata": {"name": name}, "spec": {"policyName": name, "matchResources": inside}},
    )
    job = {"metadata": {"name": "probe"}, "spec": {"template": {"spec": POD}}}
    path = f"/apis/batch/v1/namespaces/{world.namespace}/jobs"

    def works():
        return world.rest.do("POST", path, job, dryRun="All")["spec"].get("suspend")

    eventually(works, "the policy is in force")


POD = {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}
