"""Deadlines and clean-up: what is counted from when, what is not counted, and what goes with what."""

from cluster.operators import eventually
from cluster.world import seconds_since


def test_no_container_in_time_is_a_failure_and_the_job_goes(world):
    world.submit(policy={"startDeadlineSeconds": 2})
    failed = world.becomes("StartDeadlineExceeded", says="spec.policy.startDeadlineSeconds (2 s)")
    assert failed["conditions"]["Succeeded"]["status"] == "False"
    world.disappears("job")
    assert world.state()["conditions"]["Succeeded"] == failed["conditions"]["Succeeded"]


def test_a_start_in_time_is_a_start_however_long_it_runs(world):
    world.submit(policy={"startDeadlineSeconds": 20})
    pod = world.runs()
    start = world.state()["status"]["startTime"]
    world.ends(pod, 74)
    world.becomes("Retrying")
    eventually(lambda: seconds_since(start) > 21, "the start deadline is over", 30)
    world.completes(after=(pod,))


def test_time_in_a_queue_is_not_counted(world):
    limit = 4
    world.submit(policy={"startDeadlineSeconds": limit, "activeDeadlineSeconds": limit + 56})
    world.job_of()
    world.change_job(suspend=True)
    world.becomes("Queued")
    since = world.job()["metadata"]["creationTimestamp"]
    eventually(lambda: seconds_since(since) > limit + 2, "both deadlines would be over", 30)
    world.becomes("Queued")
    world.change_job(suspend=False)
    failed = world.becomes("StartDeadlineExceeded")
    # Only the time before and after the queue was counted, not the time in it.
    assert failed["status"].get("activeSeconds", 0) <= limit


def test_the_active_deadline_sums_the_runs_before_and_after_a_suspension(world):
    limit, first_run = 24, 14
    world.submit(policy={"activeDeadlineSeconds": limit})
    pod = world.runs()
    started = eventually(
        lambda: world.state()["status"].get("job", {}).get("startTime"), "the start of the Job is told"
    )
    eventually(lambda: seconds_since(started) >= first_run, "the first run took its time", first_run + 5)
    world.change(suspend=True)
    world.becomes("Suspended")
    used = eventually(lambda: world.state()["status"]["activeSeconds"], "the first run is counted")
    assert used >= first_run
    world.confirm(pod)
    world.disappears("job")
    assert world.state()["status"]["activeSeconds"] == used
    world.change(suspend=False)
    job = world.job_of()
    assert job["spec"]["activeDeadlineSeconds"] == limit - used + 60
    world.runs(after=(pod,))
    failed = world.becomes("DeadlineExceeded", says=f"spec.policy.activeDeadlineSeconds ({limit} s)")
    again = world.job()["status"]["startTime"]
    assert seconds_since(again) >= limit - used
    assert failed["conditions"]["Succeeded"]["status"] == "False"


def test_the_active_deadline_stops_a_training(world):
    world.submit(policy={"activeDeadlineSeconds": 5})
    pod = world.pod_of()
    world.kubelet.run(pod)
    world.becomes("DeadlineExceeded")
    eventually(lambda: all("deletionTimestamp" in each["metadata"] for each in world.pods()), "the pod is told to end")
    world.confirm(pod)
    world.disappears("job")
    (attempt,) = eventually(lambda: ended(world.state()), "the end of the attempt is told")
    assert attempt["exitCode"] == 143


def ended(pipeline):
    return [attempt for attempt in pipeline["status"]["attempts"] if "endTime" in attempt]


def test_a_finished_pipeline_goes_when_its_time_is_up_with_all_that_it_owns(world):
    world.submit(policy={"ttlSecondsAfterFinished": 1})
    world.ends(world.runs(), 0)
    world.disappears("pipeline")
    world.disappears("job")
    eventually(lambda: not world.pods(), "its pods are gone")


def test_the_time_to_live_may_be_set_after_the_end(world):
    world.submit()
    world.completes()
    world.change(policy={"ttlSecondsAfterFinished": 0})
    world.disappears("pipeline")
    world.disappears("job")


def test_the_time_to_live_may_be_lengthened_after_the_end(world):
    world.submit(policy={"ttlSecondsAfterFinished": 6})
    done = world.completes()
    world.change(policy={"ttlSecondsAfterFinished": 3600})
    completed = done["status"]["completionTime"]
    eventually(lambda: seconds_since(completed) > 9, "the first time is up")
    assert "deletionTimestamp" not in world.state()["metadata"]
