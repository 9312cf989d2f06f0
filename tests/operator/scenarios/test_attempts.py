"""Attempts: what is tried again, what is not, what is counted, and whose word is the last."""

import json

import pytest
from cluster.operators import eventually
from cluster.world import REPORT


def attempts(pipeline):
    """The record as (pod, reason, exit code), the oldest first."""
    recorded = reversed(pipeline["status"]["attempts"])
    return [(attempt["pod"], attempt["reason"], attempt.get("exitCode")) for attempt in recorded]


def test_an_input_output_error_is_tried_again(world):
    world.submit()
    first = world.runs()
    world.ends(
        first, 74, message=json.dumps({**REPORT, "exitCode": 74, "reason": "IOError", "message": "stale handle"})
    )
    assert "stale handle" in world.becomes("Retrying")["conditions"]["Succeeded"]["message"]
    done = world.completes(after=(first,))
    second = world.pods()[-1]
    assert attempts(done) == [
        (first["metadata"]["name"], "IOError", 74),
        (second["metadata"]["name"], "Completed", 0),
    ]
    assert done["status"]["failures"] == 1
    eventually(lambda: sorted(world.events()) == ["Completed", "Retrying"], "both turns are told")


@pytest.mark.parametrize(
    ("code", "state"),
    [
        pytest.param(64, "InvalidSpec", id="64"),
        pytest.param(65, "DataInvalid", id="65"),
        pytest.param(66, "DataInvalid", id="66"),
        pytest.param(70, "UserError", id="70"),
        pytest.param(78, "EnvironmentInvalid", id="78"),
    ],
)
def test_a_fatal_exit_code_ends_it_in_one_attempt(world, code, state):
    world.submit(policy={"maxRetries": 3})
    world.ends(world.runs(), code, message=json.dumps({**REPORT, "exitCode": code, "message": "row 7 of labels.npy"}))
    failed = world.becomes(state)
    assert failed["conditions"]["Succeeded"]["status"] == "False"
    assert failed["conditions"]["Succeeded"]["message"] == "Attempt 1: row 7 of labels.npy"
    assert len(failed["status"]["attempts"]) == 1
    assert failed["status"]["report"]["exitCode"] == code


def test_when_the_retries_are_used_up_it_says_so(world):
    world.submit(policy={"maxRetries": 1})
    first = world.runs()
    world.ends(first, 74)
    world.ends(world.runs(after=(first,)), 75, message="the disk is away\n")
    failed = world.becomes("RetriesExhausted", says="the disk is away")
    assert [code for _, _, code in attempts(failed)] == [74, 75]
    assert failed["status"]["failures"] == 2


def test_the_last_attempt_s_known_cause_wins_over_the_used_up_retries(world):
    world.submit(policy={"maxRetries": 1})
    first = world.runs()
    world.ends(first, 74)
    world.ends(world.runs(after=(first,)), 137, reason="OOMKilled", message="")
    failed = world.becomes("OutOfMemory", says="spec.resources.memory")
    assert [reason for _, reason, _ in attempts(failed)] == ["IOError", "OutOfMemory"]


def test_a_pod_that_ran_out_of_memory_is_tried_again(world):
    world.submit(policy={"maxRetries": 1})
    first = world.runs()
    world.ends(first, 137, reason="OOMKilled", message="")
    done = world.completes(after=(first,))
    assert [reason for _, reason, _ in attempts(done)] == ["OutOfMemory", "Completed"]


def test_a_file_cut_short_under_the_map_is_bad_data(world):
    world.submit(policy={"maxRetries": 0})
    world.ends(world.runs(), 135, message="")
    assert "cut short" in world.becomes("DataInvalid")["status"]["attempts"][0]["message"]


def test_an_evicted_pod_is_replaced_and_not_counted(world):
    world.submit(policy={"maxRetries": 0})
    first = world.runs()
    world.ends(first, 143, disruption="EvictionByEvictionAPI")
    assert world.becomes("Retrying")["status"]["failures"] == 0
    done = world.completes(after=(first,))
    assert [reason for _, reason, _ in attempts(done)] == ["EvictionByEvictionAPI", "Completed"]
    assert done["status"]["failures"] == 0


def test_a_pod_evicted_before_its_container_ran_is_told(world):
    world.submit(policy={"maxRetries": 0})
    first = world.pod_of()
    world.becomes("Starting")
    world.kubelet.bind(first)
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    told = {"reason": "Evicted", "message": "The node was low on resource: memory."}
    world.kubelet.write(first, phase="Failed", conditions=[condition], **told)
    done = world.completes(after=(first,))
    assert attempts(done)[0][1:] == ("TerminationByKubelet", None)
    assert done["status"]["failures"] == 0


def test_a_pod_deleted_by_hand_is_replaced(world):
    world.submit(policy={"maxRetries": 1})
    first = world.runs()
    world.delete_pod(first)
    world.becomes("Retrying", says="is being taken off node")
    world.confirm(first)
    done = world.completes(after=(first,))
    assert [code for _, _, code in attempts(done)] == [143, 0]


def test_a_job_deleted_by_hand_is_followed_by_one_with_the_retries_that_are_left(world):
    world.submit(policy={"maxRetries": 3})
    first = world.runs()
    world.ends(first, 74)
    second = world.runs(after=(first,))
    job = world.job()
    assert job["spec"]["backoffLimitPerIndex"] == 3
    eventually(lambda: world.state()["status"]["failures"] == 1, "the failure is counted")
    world.delete_job()
    world.confirm(second)
    other = world.job_of(after=job["metadata"]["uid"])
    assert other["spec"]["backoffLimitPerIndex"] == 2
    done = world.completes(after=(first, second))
    assert [reason for _, reason, _ in attempts(done)] == ["IOError", "Terminated", "Completed"]
    assert done["status"]["failures"] == 1


def test_a_job_deleted_after_the_end_changes_nothing(world):
    world.submit()
    done = world.completes()
    world.delete_job()
    world.disappears("job")
    # What comes later has been dealt with, so this was as well.
    world.submit("later")
    world.completes("later")
    assert world.job() is None
    assert world.state()["status"] == done["status"]


def test_an_image_that_cannot_be_pulled_is_told_and_recovers(world):
    world.submit()
    pod = world.pod_of()
    world.kubelet.bind(pod)
    world.kubelet.wait(pod, "ErrImagePull", "not found: trainer.example/pytorch:1")
    told = world.becomes("ImagePullFailed", says="not found: trainer.example/pytorch:1")
    world.kubelet.wait(pod, "ImagePullBackOff", "Back-off pulling image")
    world.submit("other")
    world.becomes("Starting", name="other")
    assert world.state()["conditions"]["Succeeded"] == told["conditions"]["Succeeded"]
    world.kubelet.wait(pod, "ContainerCreating", "")
    world.kubelet.write(pod, phase="Running", containerStatuses=[running(pod)])
    world.ends(pod, 0)
    world.becomes("Completed")


def running(pod):
    began = pod["metadata"]["creationTimestamp"]
    fields = {"name": "trainer", "image": "i", "imageID": "", "ready": True, "restartCount": 0}
    return {**fields, "state": {"running": {"startedAt": began}}}


def test_a_container_that_cannot_start_is_told(world):
    world.submit()
    pod = world.pod_of()
    world.kubelet.bind(pod)
    world.kubelet.wait(pod, "CreateContainerConfigError", 'configmap "my-code" not found')
    world.becomes("Starting", says='CreateContainerConfigError, configmap "my-code" not found')


def test_a_pipeline_deleted_and_made_again_at_once_has_a_life_of_its_own(world):
    world.submit(policy={"maxRetries": 1})
    first = world.runs()
    world.ends(first, 74)
    old = world.becomes("Retrying")
    world.delete()
    world.submit(policy={"maxRetries": 5})
    job = world.job_of(after=old["status"]["job"]["uid"])
    assert job["spec"]["backoffLimitPerIndex"] == 5
    second = world.runs(after=(first,))
    assert second["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]
    world.ends(second, 0)
    done = world.becomes("Completed")
    assert done["metadata"]["uid"] != old["metadata"]["uid"]
    assert attempts(done) == [(second["metadata"]["name"], "Completed", 0)]
    assert done["status"]["failures"] == 0


def test_deleting_a_pipeline_takes_its_job_and_its_pods(world):
    world.submit()
    pod = world.runs()
    world.delete()
    world.disappears("pipeline")
    world.disappears("job")
    eventually(lambda: all("deletionTimestamp" in pod["metadata"] for pod in world.pods()), "its pod is told to end")
    world.confirm(pod)
    eventually(lambda: not world.pods(), "its pod is gone")
