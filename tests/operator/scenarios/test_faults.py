"""Networks and servers as they are: answers that are refused, late or lost, and watches that end, expire or forget."""

import time

import pytest
from cluster.operators import eventually
from cluster.proxy import afterwards, answers, late_by

INFO = "feedline_pipeline_info{"


def creates_job(request):
    return (request.verb, request.resource) == ("create", "jobs")


def writes_status(request):
    return request.resource == "trainingpipelines/status"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answers(409, "Conflict"), id="409"),
        pytest.param(answers(429, "TooManyRequests"), id="429"),
        pytest.param(answers(500, "InternalError"), id="500"),
        pytest.param(answers(503, "ServiceUnavailable"), id="503"),
        pytest.param(late_by(3), id="late"),
    ],
)
def test_every_other_write_going_wrong_a_pipeline_completes(site, fault):
    for number in range(6):
        site.proxy.inject(fault, skip=number)
    world = site.world
    world.submit(policy={"maxRetries": 2})
    first = world.runs()
    world.ends(first, 74)
    done = world.completes(after=(first,))
    assert [attempt["exitCode"] for attempt in done["status"]["attempts"]] == [0, 74]
    assert done["status"]["failures"] == 1
    assert [request.code for request in site.requests("create", "jobs") if request.code] == [201]


def test_a_status_that_changed_meanwhile_is_made_from_what_is_there_now(site):
    world = site.world
    world.submit()
    pod = world.pod_of()
    world.becomes("Starting")
    # Somebody changes the pipeline right before the operator's write reaches the server.
    site.proxy.inject(before(lambda: world.change(policy={"ttlSecondsAfterFinished": 3600})), writes_status)
    world.kubelet.run(pod)
    running = world.becomes("Running")
    assert not site.proxy.pending
    assert running["spec"]["policy"]["ttlSecondsAfterFinished"] == 3600
    assert 409 in [request.code for request in site.requests("patch", "trainingpipelines/status")]


def before(act):
    async def fault(request, forward):
        act()
        return await forward()

    return fault


def test_retry_after_is_waited_for(site):
    asked = []
    site.proxy.inject(refuses_with_patience(asked, 5), creates_job)
    site.proxy.inject(before(lambda: asked.append(time.monotonic())), creates_job)
    site.world.submit()
    site.world.job_of()
    assert 5 <= asked[1] - asked[0] < 15


def refuses_with_patience(asked, seconds):
    refuse = answers(429, "TooManyRequests", Retry_After=str(seconds))

    async def fault(request, forward):
        asked.append(time.monotonic())
        return await refuse(request, forward)

    return fault


def test_a_job_whose_creation_was_not_confirmed_is_not_created_twice(site):
    site.proxy.inject(afterwards(lambda: None), creates_job)
    site.world.submit()
    site.world.completes()
    assert [request.code for request in site.requests("create", "jobs")] in ([201], [201, 409])


def test_a_watch_that_ends_is_opened_again(site):
    world = site.world
    world.submit()
    pod = world.runs()
    site.proxy.end_watches()
    world.ends(pod, 0)
    world.becomes("Completed")
    world.submit("next")
    world.completes("next")


def test_a_watch_that_has_expired_begins_with_a_new_list(site):
    world = site.world
    world.submit()
    pod = world.runs()
    listed = len(site.requests("list", "trainingpipelines"))
    site.proxy.end_watches(expired=True)
    world.ends(pod, 0)
    world.becomes("Completed")
    eventually(lambda: len(site.requests("list", "trainingpipelines")) > listed, "the pipelines were listed anew")
    world.submit("next")
    world.completes("next")
    assert site.operator.process.poll() is None


def test_a_job_that_was_deleted_unseen_is_found_missing(site):
    world = site.world
    world.submit()
    pod = world.runs()
    job = world.job()
    # All of this Job's news, for good: the last of it may come when others know already that it is gone.
    uid = job["metadata"]["uid"]
    site.proxy.hides = lambda kind, event: (
        kind == "jobs" and event["type"] != "ADDED" and event["object"]["metadata"]["uid"] == uid
    )
    world.delete_job()
    world.confirm(pod)
    world.disappears("job")
    world.job_of(after=job["metadata"]["uid"], seconds=90)
    world.completes(after=(pod,))
    assert [line for line in site.operator.logged() if "had missed" in line["message"]]


def test_a_pipeline_that_was_deleted_unseen_is_forgotten(site):
    world = site.world

    def series():
        return [line for line in site.operator.get("/metrics")[1].splitlines() if line.startswith(INFO)]

    world.submit()
    pod = world.runs()
    assert len(series()) == 1
    site.proxy.hides = lambda kind, event: kind == "trainingpipelines" and event["type"] == "DELETED"
    world.delete()
    world.disappears("pipeline")
    world.confirm(pod)
    eventually(lambda: not series(), "its series are gone", 90)


def test_a_pod_that_ended_and_went_unseen_leaves_an_attempt(site):
    world = site.world
    world.submit(policy={"maxRetries": 1})
    pod = world.runs()
    site.proxy.hides = lambda kind, event: kind == "pods" and event["type"] in {"DELETED", "MODIFIED"}
    world.delete_pod(pod)
    world.confirm(pod)
    eventually(
        lambda: pod["metadata"]["uid"] not in [each["metadata"]["uid"] for each in world.pods()], "the pod is gone"
    )
    site.proxy.hides = lambda kind, event: False
    done = world.completes(after=(pod,))
    first = done["status"]["attempts"][-1]
    assert (first["index"], first["uid"]) == (1, pod["metadata"]["uid"])
    # The sweep may have met it between its end and its removal.
    assert first["reason"] in {"Deleted", "Terminated"}
    assert done["status"]["failures"] == 1
