"""How a plan is carried out, against an API server in memory that may refuse any call, in simulated time."""

import asyncio
import copy

import pytest
from simulation.clock import simulate
from simulation.documents import JOB_UID, POLICY, job, moment, pipeline, pod

from feedline_operator.errors import (
    BusyError,
    ExistsError,
    GoneError,
    InvalidError,
    NamespaceGoesError,
    NotLeadingError,
    RefusedError,
    StaleError,
    UnreachableError,
)
from feedline_operator.metrics import Metrics
from feedline_operator.queue import WorkQueue
from feedline_operator.store import Key, Store
from feedline_operator.worker import Workers

KEY = Key("team", "digits")


class Cluster:
    """Takes calls down, and fails those that it is told to, once or for good."""

    def __init__(self):
        self.calls = []
        self.fail = {}
        self.fail_once = {}
        self.there = self.service = None
        self.drop_volumes = False

    def names(self):
        return [name for name, *_ in self.calls]

    async def create_job(self, body):
        self._call("create_job", body)
        made = copy.deepcopy(body)
        made["metadata"] |= {"uid": JOB_UID, "resourceVersion": "50", "creationTimestamp": "2026-01-01T10:00:01Z"}
        if self.drop_volumes:
            made["spec"]["template"]["spec"]["volumes"].pop(0)
        return made

    async def get_job(self, namespace, name):
        self._call("get_job", name)
        return self.there

    async def create_service(self, body):
        self._call("create_service", body)

    async def get_service(self, namespace, name):
        self._call("get_service", name)
        return self.service

    async def evict_pod(self, namespace, name, uid):
        self._call("evict_pod", uid)

    async def delete_job(self, namespace, name, uid):
        self._call("delete_job", uid)

    async def delete(self, kind, namespace, name, uid, version):
        self._call("delete", kind, uid)

    async def patch_status(self, kind, seen, status):
        self._call("patch_status", status)
        version = str(int(seen["metadata"]["resourceVersion"]) + 100)
        return {**seen, "metadata": {**seen["metadata"], "resourceVersion": version}, "status": status}

    async def create_event(self, body):
        self._call("create_event", body["reason"])

    async def list_events(self, namespace, uid):
        self._call("list_events", uid)
        return [{"reason": "FailedMount", "message": "no such volume"}] if uid == "pod-a" else []

    def _call(self, name, *arguments):
        self.calls.append((name, *arguments))
        error = self.fail_once.pop(name, None) or self.fail.get(name)
        if error is not None:
            raise error


class Following:
    def __init__(self):
        self.targets = []

    def follow(self, key, target):
        self.targets.append(target)

    async def close(self):
        self.targets.append("closed")


class Scene:
    """Workers, and what they work with."""

    def __init__(self, **things):
        self.cluster, self.store, self.queue = Cluster(), Store(), WorkQueue()
        self.following, self.metrics = Following(), Metrics()
        self.now = 60
        for kind, thing in things.items():
            self.store.put(kind, thing)
        self.workers = Workers(
            self.store,
            self.queue,
            self.cluster,
            self.following,
            self.metrics,
            POLICY,
            "replica-1",
            lambda: moment(self.now),
        )

    async def run(self, seconds=0.5):
        task = asyncio.create_task(self.workers.run(2))
        await asyncio.sleep(seconds)
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def looks(self, result):
        return self.metrics.registry.get_sample_value("feedline_operator_reconcile_total", {"result": result})

    def state(self):
        conditions = self.store.observe(KEY).pipeline["status"]["conditions"]
        return conditions[0]["reason"], conditions[0]["message"]


@pytest.fixture
def play():
    """Return a function that runs a scene for some simulated seconds."""

    def play(prepare=lambda scene: None, seconds=0.5, **things):
        async def main():
            scene = Scene(**things)
            prepare(scene)
            await scene.run(seconds)
            return scene

        return simulate(main())

    return play


def test_a_pipeline_gets_its_job_and_a_status(play):
    scene = play(pipeline=pipeline())
    assert scene.cluster.names() == ["create_job", "patch_status"]
    assert scene.state()[0] == "Starting"
    assert scene.following.targets[-1] == "closed"


def test_a_job_that_is_there_already_and_is_ours_is_success(play):
    def prepare(scene):
        scene.cluster.fail["create_job"] = ExistsError("there")
        scene.cluster.there = job(spec={"template": {"spec": {}}})

    scene = play(prepare, pipeline=pipeline())
    assert scene.cluster.names()[:3] == ["create_job", "get_job", "patch_status"]
    assert scene.cluster.names().count("create_job") == 1


def test_a_job_of_somebody_else_is_told_of_and_tried_again(play):
    def prepare(scene):
        scene.cluster.fail["create_job"] = ExistsError("there")
        scene.cluster.there = job(foreign=True)

    scene = play(prepare, 30, pipeline=pipeline())
    assert scene.state()[0] == "Pending"
    assert "is not feedline's" in scene.state()[1]
    assert scene.cluster.names().count("patch_status") == 1
    assert 3 <= scene.cluster.names().count("create_job") <= 8


def test_a_quota_is_told_of_and_tried_again(play):
    def prepare(scene):
        scene.cluster.fail["create_job"] = RefusedError("exceeded quota:\njobs=1")

    scene = play(prepare, 30, pipeline=pipeline())
    assert scene.state() == ("Pending", "exceeded quota: jobs=1")
    # The alert on the operator's errors must not be about a namespace that has enough.
    assert scene.looks("refused") >= 3
    assert scene.looks("error") == 0


def test_a_job_that_is_wrong_as_such_ends_the_pipeline(play):
    def prepare(scene):
        scene.cluster.fail["create_job"] = InvalidError("spec.template: wrong")

    scene = play(prepare, 100, pipeline=pipeline())
    assert scene.state()[0] == "InvalidSpec"
    assert scene.cluster.names() == ["create_job", "patch_status", "create_event"]


TOGETHER = {"resources": {"nodes": 2}}
DIED = [
    pod(running=5),
    pod(name="b", index=1, running=5, exit=137, ended=50),
]


def test_pods_that_train_together_get_their_service_before_their_job(play):
    scene = play(pipeline=pipeline(spec=TOGETHER))
    assert scene.cluster.names() == ["create_service", "create_job", "patch_status"]


def test_a_service_that_is_there_already_and_is_ours_is_success(play):
    def prepare(scene):
        scene.cluster.fail["create_service"] = ExistsError("there")
        scene.cluster.service = {
            "metadata": {"name": "digits-peers", "ownerReferences": job()["metadata"]["ownerReferences"]}
        }

    scene = play(prepare, pipeline=pipeline(spec=TOGETHER))
    assert scene.cluster.names() == ["create_service", "get_service", "create_job", "patch_status"]


@pytest.mark.parametrize(
    ("owners", "told"),
    [
        pytest.param([], "A Service digits-peers is there already and is not feedline's", id="somebody else's"),
        pytest.param(
            job(of="uid-of-another")["metadata"]["ownerReferences"],
            "The Service digits-peers of an earlier pipeline of this name is still being deleted.",
            id="an earlier pipeline's",
        ),
    ],
)
def test_a_service_of_another_is_told_of_and_tried_again(owners, told, play):
    def prepare(scene):
        scene.cluster.fail["create_service"] = ExistsError("there")
        scene.cluster.service = {"metadata": {"name": "digits-peers", "ownerReferences": owners}}

    scene = play(prepare, 30, pipeline=pipeline(spec=TOGETHER))
    assert scene.state()[0] == "Pending"
    assert told in scene.state()[1]
    assert "create_job" not in scene.cluster.names()
    assert scene.cluster.names().count("create_service") >= 3
    assert scene.looks("error") == 0


def together(prepare=lambda scene: None):
    def pods(scene):
        scene.store.put("job", job(failed=1))
        for each in DIED:
            scene.store.put("pod", each)
        prepare(scene)

    return pods


def test_who_began_it_is_written_down_before_the_others_are_taken_away(play):
    scene = play(together(lambda scene: scene.queue.add_after(KEY, 10)), 30, pipeline=pipeline(spec=TOGETHER))
    names = scene.cluster.names()
    assert names.index("patch_status") < names.index("evict_pod")
    # Though no news of it comes, and the pipeline is looked at again.
    assert [call for call in scene.cluster.calls if call[0] == "evict_pod"] == [("evict_pod", "pod-a")]


@pytest.mark.parametrize("error", [GoneError("gone"), StaleError("another uid")])
def test_a_pod_that_is_gone_need_not_be_taken_away(error, play):
    scene = play(
        together(lambda scene: scene.cluster.fail.update(evict_pod=error)), 30, pipeline=pipeline(spec=TOGETHER)
    )
    assert scene.looks("error") == scene.looks("conflict") == 0


def test_a_disruption_budget_that_forbids_it_is_asked_again(play):
    scene = play(
        together(lambda scene: scene.cluster.fail_once.update(evict_pod=BusyError("budget", 5.0))),
        30,
        pipeline=pipeline(spec=TOGETHER),
    )
    assert scene.cluster.names().count("evict_pod") >= 2
    assert scene.looks("error") == 1


ON_AN_IMAGE = {"data": {"volumes": [{"name": "digits", "image": {"reference": "registry.example/digits:1"}}]}}


def test_a_job_that_was_there_already_without_its_data_says_why(play):
    def prepare(scene):
        scene.cluster.fail["create_job"] = ExistsError("there")
        scene.cluster.there = job(spec={"template": {"spec": {}}})

    scene = play(prepare, pipeline=pipeline(spec=ON_AN_IMAGE))
    assert scene.state()[0] == "InvalidSpec"


def test_a_job_without_its_data_is_stopped_and_says_why(play):
    scene = play(lambda scene: setattr(scene.cluster, "drop_volumes", True), pipeline=pipeline(spec=ON_AN_IMAGE))
    assert scene.state()[0] == "InvalidSpec"
    assert "image volumes need Kubernetes 1.35" in scene.state()[1]
    scene.store.put("job", job(started=None))
    simulate(_again(scene))
    assert scene.cluster.calls[-1] == ("delete_job", JOB_UID)


async def _again(scene):
    again = Scene()
    again.workers._store, again.workers._cluster = scene.store, scene.cluster
    await again.run()


ERRORS = {
    "stale": (StaleError("changed"), "conflict"),
    "gone": (GoneError("gone"), "conflict"),
    "away": (UnreachableError("no answer"), "error"),
    "busy": (BusyError("later", 20.0), "error"),
    "a fault": (ZeroDivisionError("oops"), "fault"),
}


@pytest.mark.parametrize(("error", "result"), ERRORS.values(), ids=ERRORS)
def test_whatever_goes_wrong_it_comes_back(play, error, result):
    def prepare(scene):
        scene.cluster.fail_once["patch_status"] = error

    scene = play(prepare, 30, pipeline=pipeline(), job=job())
    assert scene.cluster.names()[:2] == ["patch_status", "patch_status"]
    assert f'result="{result}"}} 1.0' in scene.metrics.text().decode()
    assert scene.state()[0] == "Starting"


def test_the_server_is_given_the_time_that_it_asks_for(play):
    def prepare(scene):
        scene.cluster.fail_once["patch_status"] = BusyError("later", 20.0)

    assert play(prepare, 19, pipeline=pipeline(), job=job()).cluster.names() == ["patch_status"]


def test_who_does_not_lead_any_more_does_not_try_again(play):
    def prepare(scene):
        scene.cluster.fail["patch_status"] = NotLeadingError("not leading")

    assert play(prepare, 1000, pipeline=pipeline(), job=job()).cluster.names() == ["patch_status"]


@pytest.mark.parametrize("error", [RefusedError("terminating"), ExistsError("told"), InvalidError("x"), GoneError("x")])
def test_an_event_that_nobody_takes_does_not_matter(play, error):
    def prepare(scene):
        scene.cluster.fail["create_event"] = error

    scene = play(prepare, 30, pipeline=pipeline(spec={"suspend": True}))
    assert scene.cluster.names() == ["patch_status", "create_event"]
    assert scene.state()[0] == "Suspended"


@pytest.mark.parametrize("foreign", [False, True])
def test_where_the_namespace_is_being_deleted_the_job_is_too(play, foreign):
    def prepare(scene):
        scene.cluster.fail["create_event"] = NamespaceGoesError("because it is being terminated")

    # Suspended, which is told by an Event; the Job has been told to go already, or is nobody's business.
    gone = job(deleting=50, foreign=foreign)
    names = play(prepare, 30, pipeline=pipeline(spec={"suspend": True}), job=gone).cluster.names()
    assert ("delete_job" in names) != foreign


def test_pods_that_cannot_be_evicted_from_a_namespace_that_is_being_deleted_go_with_their_job(play):
    refused = NamespaceGoesError("because it is being terminated")
    scene = play(
        together(lambda scene: scene.cluster.fail.update(evict_pod=refused)), 30, pipeline=pipeline(spec=TOGETHER)
    )
    assert {"evict_pod", "delete_job"} <= set(scene.cluster.names())
    assert scene.looks("error") == 0


def test_status_first_then_actions_then_events(play):
    scene = play(pipeline=pipeline(spec={"suspend": True}), job=job())
    assert scene.cluster.names()[:3] == ["patch_status", "delete_job", "create_event"]


@pytest.mark.parametrize("error", [None, GoneError("gone")])
def test_what_is_to_be_deleted_may_be_gone(play, error):
    def prepare(scene):
        scene.now = 10_000
        scene.cluster.fail["delete"] = error

    turned = {"Succeeded": ["True", "Completed", "done"]}
    status = {"observedGeneration": 1, "completionTime": "2026-01-01T10:00:50Z"}
    document = pipeline(conditions=turned, status=status, spec={"policy": {"ttlSecondsAfterFinished": 60}})
    scene = play(prepare, 30, pipeline=document)
    assert scene.cluster.names() == ["delete"]


def test_a_running_trainer_is_followed_until_its_pipeline_is_gone(play):
    scene = play(pipeline=pipeline(), job=job(), pod=pod(running=5))
    assert ("pod-a", "203.0.113.7") in scene.following.targets

    def prepare(scene):
        scene.queue.add(KEY)

    assert play(prepare).following.targets == [None, "closed"]


def test_events_are_read_for_what_does_not_start_and_told_in_the_status(play):
    waiting = pod(waiting=["ContainerCreating", ""])
    scene = play(pipeline=pipeline(), job=job(), pod=waiting, seconds=40)
    assert scene.state() == ("Starting", "The pod cannot start: no such volume")
    assert scene.cluster.names().count("list_events") == 4, "twice in 40 seconds, for the Job and for the pod"
    assert scene.cluster.names().count("patch_status") == 2


def test_a_deadline_brings_it_back(play):
    async def main():
        document = pipeline(spec={"policy": {"activeDeadlineSeconds": 70}})
        scene = Scene(pipeline=document, job=job(), pod=pod(running=5))
        asyncio.get_running_loop().call_later(12, lambda: setattr(scene, "now", 73))
        await scene.run(30)
        assert scene.state()[0] == "DeadlineExceeded"
        assert ("delete_job", JOB_UID) in scene.cluster.calls

    simulate(main())


def test_looks_at_every_pipeline_when_it_begins_to_lead(play):
    def prepare(scene):
        for name in "abc":
            scene.store.put("pipeline", pipeline(metadata={"name": name, "uid": name}))

    assert play(prepare).cluster.names().count("create_job") == 3
