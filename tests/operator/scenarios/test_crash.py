"""SIGKILL at every write: right before the API server has it, and right after, before the operator knows.

A successor finds the same end: one Job for each start, every attempt, every failure counted once. Several of these
lives run at once, each with an operator, a proxy and a namespace of its own, and the operator that was started again
after one death lives through the next pipeline until it is killed in turn.
"""

import contextlib
import itertools
import queue
from collections import Counter

import pytest
from cluster.operators import eventually
from cluster.proxy import afterwards, instead
from cluster.sites import about, new_site
from cluster.together import Together

LANES = 8
FAILS_ONCE = [
    "create jobs",
    "patch trainingpipelines/status",  # Starting
    "patch trainingpipelines/status",  # Running
    "patch trainingpipelines/status",  # Retrying
    "create events",
    "patch trainingpipelines/status",  # Starting
    "patch trainingpipelines/status",  # Running
    "patch trainingpipelines/status",  # Completed
    "create events",
]
IS_SUSPENDED = [
    "create jobs",
    "patch trainingpipelines/status",  # Starting
    "patch trainingpipelines/status",  # Running
    "patch trainingpipelines/status",  # Suspending
    "delete jobs",
    "create events",
    "patch trainingpipelines/status",  # the attempt ended
    "patch trainingpipelines/status",  # Suspended
    "patch trainingpipelines/status",  # Pending
    "create jobs",
    "patch trainingpipelines/status",  # Starting
    "patch trainingpipelines/status",  # Running
    "patch trainingpipelines/status",  # Completed
    "create events",
]
STARTS_ANEW = [
    "create services",
    "create jobs",
    "patch trainingpipelines/status",  # Starting
    "patch trainingpipelines/status",  # Running
    "patch trainingpipelines/status",  # Retrying
    "create pods/eviction",
    "create events",
    "patch trainingpipelines/status",  # Starting
    "patch trainingpipelines/status",  # Running
    "patch trainingpipelines/status",  # Completed
    "create events",
]


def fails_once(world, name):
    world.submit(name, policy={"maxRetries": 2})
    world.becomes("Starting", name=name)
    first = world.runs(name)
    world.ends(first, 74)
    second = world.pod_of(name, after=(first,))
    world.becomes("Starting", name=name)
    world.kubelet.run(second)
    world.becomes("Running", name=name)
    world.ends(second, 0)
    return world.becomes("Completed", name=name)


def is_suspended(world, name):
    world.submit(name)
    world.becomes("Starting", name=name)
    pod = world.runs(name)
    job = world.job(name)
    world.change(name, suspend=True)
    eventually(lambda: "deletionTimestamp" in world.job(name)["metadata"], "the Job is told to end", 120)
    world.becomes("Suspended", name=name)
    world.ends(pod, 143)
    eventually(lambda: "endTime" in world.state(name)["status"]["attempts"][0], "the attempt has ended", 120)
    world.remove(pod)
    world.disappears("job", name)
    eventually(lambda: world.state(name)["conditions"]["Suspended"]["reason"] == "Suspended", "it is suspended", 120)
    world.change(name, suspend=False)
    world.job_of(name, after=job["metadata"]["uid"])
    world.becomes("Starting", name=name)
    second = world.runs(name, after=(pod,))
    world.ends(second, 0)
    return world.becomes("Completed", name=name)


def starts_anew(world, name):
    """One of two pods that train together is killed; the other one is taken away for it, and both are replaced."""
    world.submit(name, resources={"nodes": 2}, backend="pytorch")
    world.becomes("Starting", name=name)
    first, second = world.run_together(name, 2)
    job = world.job(name)["metadata"]["uid"]
    world.ends(second, 137)
    world.is_taken_away(first)
    again = world.run_together(name, 2, after=(first, second))
    assert world.job(name)["metadata"]["uid"] == job
    world.ends(again[0], 0)
    world.is_taken_away(again[1])
    return world.becomes("Completed", name=name)


# Jobs, failures, and how each attempt ended: nobody knows it of a pod that went while there was no operator.
ENDS = {
    fails_once: (1, 1, [{74}, {0}]),
    is_suspended: (2, 0, [{143, None}, {0}]),
    starts_anew: (1, 1, [{137}, {0}]),
}
LIVES = {fails_once: FAILS_ONCE, is_suspended: IS_SUSPENDED, starts_anew: STARTS_ANEW}
# All lives begin and end alike; of the others only what is not in the first one is gone through.
NUMBERS = {fails_once: range(1, 10), is_suspended: range(4, 11), starts_anew: [1, 2, 4, 5, 6, 7]}
DEATHS = [
    pytest.param(live, number, death, id=f"{live.__name__} {number} {LIVES[live][number - 1]}, killed {death}")
    for live, numbers in NUMBERS.items()
    for number in numbers
    for death in ("before", "after")
]


@pytest.fixture(scope="module")
def lane(request, bare_cluster, tmp_path_factory):
    """Give each test a lane that no other uses meanwhile."""
    free = queue.SimpleQueue()

    with contextlib.ExitStack() as stack:

        @contextlib.contextmanager
        def take():
            try:
                lane = free.get_nowait()
            except queue.Empty:
                lane = stack.enter_context(new_site(bare_cluster, folder))
            try:
                yield lane
            finally:
                free.put(lane)

        folder = tmp_path_factory.mktemp("lanes")
        together = Together(request, take, LANES)
        yield together
        together.close()


@pytest.mark.parametrize("live", LIVES, ids=lambda live: live.__name__)
def test_undisturbed_a_life_has_the_writes_that_are_gone_through_here(lane, live):
    name = f"{live.__name__.replace('_', '-')}-in-peace"
    live(lane.world, name)
    eventually(lambda: "Completed" in lane.world.events(name), "its end is told")
    seen, known = kinds(f"{write.verb} {write.resource}" for write in lane.writes_about(name)), kinds(LIVES[live])
    # A slow Job controller tells in two steps what is told in one otherwise, and each gets its status write and event.
    rest = iter(seen)
    assert all(write in rest for write in known), seen
    assert (Counter(seen) - Counter(known)).keys() <= {"patch trainingpipelines/status", "create events"}


def kinds(writes):
    return [write for write, _ in itertools.groupby(writes)]


@pytest.mark.parametrize(("live", "number", "death"), DEATHS)
def test_killed_at_a_write_it_comes_to_the_same_end(lane, live, number, death):
    name = f"{live.__name__.replace('_', '-')}-{number}-{death}"
    fault = {"before": instead, "after": afterwards}[death](lane.die)
    lane.proxy.inject(fault, lambda request: about(request, name), skip=number - 1)
    status = live(lane.world, name)["status"]
    eventually(lambda: not lane.proxy.pending, "the write at which it is to be killed has come")
    jobs, failures, codes = ENDS[live]
    created = [write.code for write in lane.writes_about(name) if f"{write.verb} {write.resource}" == "create jobs"]
    assert created.count(201) == jobs
    assert status["failures"] == failures
    assert [attempt["index"] for attempt in status["attempts"]] == [2, 1]
    assert all(attempt.get("exitCode") in known for attempt, known in zip(status["attempts"], codes[::-1], strict=True))
    assert status["report"]["exitCode"] == 0
