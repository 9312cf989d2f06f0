"""Two replicas: one works, the other watches and goes on within seconds, and however they overlap there is one Job."""

import time

from cluster.operators import eventually
from cluster.rest import CORE


def said(operator):
    return [line["message"] for line in operator.logged() if line["logger"] == "feedline_operator.lease"]


def is_active(operator):
    return "feedline_operator_active 1.0" in operator.get("/metrics")[1]


def test_one_works_and_the_other_stands_by(pair):
    pair.world.submit()
    pair.world.completes()
    assert (is_active(pair.leader), is_active(pair.standby)) == (True, False)
    pages = [replica.get("/metrics")[1] for replica in (pair.leader, pair.standby)]
    assert ["\nfeedline_pipeline_info{" in page for page in pages] == [True, False]
    assert ['resource="jobs",verb="create"' in page for page in pages] == [True, False]


def test_a_leader_that_is_told_to_end_hands_over_at_once(pair):
    world = pair.world
    world.submit()
    pod = world.runs()
    began = time.monotonic()
    assert pair.leader.terminate() == 0
    pair.takes_over(10)
    assert time.monotonic() - began < 15, "it did not wait for the Lease to run out"
    assert pair.lease["leaseTransitions"] == 1
    world.ends(pod, 0)
    world.becomes("Completed")


def test_a_leader_that_is_killed_is_followed_within_20_seconds(pair):
    world = pair.world
    world.submit()
    pod = world.runs()
    job = world.job()
    pair.leader.kill()
    world.ends(pod, 0)
    world.submit("meanwhile")
    pair.takes_over(20)
    world.becomes("Completed")
    world.completes("meanwhile")
    assert world.job()["metadata"]["uid"] == job["metadata"]["uid"]


def test_a_leader_that_was_paused_for_30_seconds_stands_by_when_it_goes_on(pair):
    world, paused = pair.world, pair.leader
    world.submit()
    first = world.runs()
    began = time.monotonic()
    paused.pause()
    world.ends(first, 74)
    world.submit("meanwhile")
    pair.takes_over(20)
    second = world.runs(after=(first,))
    world.runs("meanwhile")
    eventually(lambda: time.monotonic() - began > 30, "30 s are over", 40)
    holder = pair.lease["holderIdentity"]
    paused.go_on()
    world.submit("afterwards")
    world.runs("afterwards")
    world.ends(second, 0)
    done = world.becomes("Completed")
    eventually(lambda: said(paused)[-1] == "not leading any more; standing by", "the old leader says that it stands by")
    assert [attempt["exitCode"] for attempt in done["status"]["attempts"]] == [0, 74]
    assert pair.lease["holderIdentity"] == holder
    assert (is_active(pair.standby), is_active(paused)) == (True, False)
    for name in ("digits", "meanwhile", "afterwards"):
        owners = {pod["metadata"]["ownerReferences"][0]["uid"] for pod in world.pods(name)}
        assert owners == {world.job(name)["metadata"]["uid"]}
    events = world.rest.do("GET", f"{CORE}/namespaces/{world.namespace}/events")["items"]
    started = [event["involvedObject"]["name"] for event in events if event["reason"] == "SuccessfulCreate"]
    assert sorted(started) == ["afterwards", "digits", "digits", "meanwhile"]
