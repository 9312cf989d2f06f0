"""What holds whatever happens, in whatever order it is heard: `reconcile` and the store against a model of Kubernetes."""

import json
import random
from datetime import timedelta
from typing import ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from simulation.kubernetes import Kubernetes
from simulation.operator import Operator

from feedline.contract import FATAL_EXIT_CODES, REASONS
from feedline_operator.reconcile.conditions import SUCCEEDED
from feedline_operator.reconcile.observed import condition, ended, index_of, job_end, owned_by

CODES = st.sampled_from([0, 1, 64, 65, 66, 70, 74, 75, 78, 130, 135, 137, 143, 255])
MESSAGES = st.one_of(
    st.just(""),
    st.text(max_size=50),
    st.builds(
        lambda steps, wait: json.dumps({"steps": steps, "waitPermille": wait, "message": "words"}),
        st.integers(-1, 9),
        st.integers(-1, 1001),
    ),
)


class Life(RuleBasedStateMachine):
    """A pipeline, everything that may happen to it, and an operator that hears of it late, twice, disordered or never."""

    spec: ClassVar = {}

    def __init__(self):
        super().__init__()
        self.kubernetes = Kubernetes()
        self.kubernetes.create_pipeline({"policy": {"maxRetries": 2, "activeDeadlineSeconds": 600}, **self.spec})
        self.operator = Operator(self.kubernetes)
        self.kubernetes.news.clear()

    # --- what the operator does and hears ----------------------------------------------------------------------------

    @rule()
    def look(self):
        self.operator.look()

    @precondition(lambda self: self.kubernetes.news)
    @rule(data=st.data())
    def hear(self, data):
        which = data.draw(st.integers(0, len(self.kubernetes.news) - 1))
        self.operator.hear(self.kubernetes.news.pop(which))

    @precondition(lambda self: self.kubernetes.news)
    @rule()
    def hear_everything(self):
        for news in self.kubernetes.news:
            self.operator.hear(news)
        self.kubernetes.news.clear()
        self.operator.look()

    @precondition(lambda self: self.kubernetes.news)
    @rule(data=st.data())
    def hear_without_end(self, data):
        self.operator.hear(data.draw(st.sampled_from(self.kubernetes.news)))

    @precondition(lambda self: self.kubernetes.news)
    @rule()
    def lose_news(self):
        self.kubernetes.news.pop()

    @rule()
    def resync(self):
        self.operator.resync()

    @rule()
    def restart(self):
        self.kubernetes.news.clear()
        self.operator = Operator(self.kubernetes)

    @rule()
    def die(self):
        self.operator.die_after_the_status()
        self.restart()

    # --- what Kubernetes does ----------------------------------------------------------------------------------------

    @rule()
    def control(self):
        self.kubernetes.control()

    @precondition(lambda self: self.kubernetes.live_pods())
    @rule(data=st.data())
    def run(self, data):
        pod = data.draw(st.sampled_from(self.kubernetes.live_pods()))
        if pod not in self.kubernetes.running_pods():
            self.kubernetes.run(pod)

    @rule()
    def go_on(self):
        """Let the ordinary happen, and let it be heard, so that the rest happens late in a life as well."""
        self.operator.look()
        self.kubernetes.control()
        for pod in self.kubernetes.live_pods():
            if pod not in self.kubernetes.running_pods():
                self.kubernetes.run(pod)
        self.kubernetes.pass_time(3)
        for news in self.kubernetes.news:
            self.operator.hear(news)
        self.kubernetes.news.clear()
        self.operator.look()

    @precondition(lambda self: self.kubernetes.running_pods())
    @rule(data=st.data(), code=CODES, message=MESSAGES)
    def end(self, data, code, message):
        self.kubernetes.end(data.draw(st.sampled_from(self.kubernetes.running_pods())), code, message)

    @precondition(lambda self: self.kubernetes.live_pods())
    @rule(data=st.data())
    def evict(self, data):
        self.kubernetes.evict(data.draw(st.sampled_from(self.kubernetes.live_pods())))

    @precondition(lambda self: self.kubernetes.live_pods())
    @rule(
        data=st.data(), reason=st.sampled_from(["ContainerCreating", "ImagePullBackOff", "CreateContainerConfigError"])
    )
    def wait(self, data, reason):
        pod = data.draw(st.sampled_from(self.kubernetes.live_pods()))
        if pod not in self.kubernetes.running_pods():
            self.kubernetes.wait(pod, reason, "words")

    @precondition(lambda self: self.kubernetes.pods)
    @rule(data=st.data())
    def lose_pod(self, data):
        self.kubernetes.lose(self.kubernetes.pods[data.draw(st.sampled_from(sorted(self.kubernetes.pods)))])

    @rule()
    def confirm(self):
        for pod in list(self.kubernetes.pods.values()):
            if "deletionTimestamp" in pod["metadata"]:
                self.kubernetes.confirm(pod)

    @rule(seconds=st.sampled_from([0, 1, 3, 11, 40, 700]))
    def pass_time(self, seconds):
        self.kubernetes.pass_time(seconds)

    # --- what people and queues do -----------------------------------------------------------------------------------

    @precondition(lambda self: self.kubernetes.pipeline)
    @rule(suspend=st.booleans())
    def suspend(self, suspend):
        self.kubernetes.change_pipeline({"suspend": suspend})

    @precondition(lambda self: self.kubernetes.job)
    @rule(held=st.booleans())
    def queue(self, held):
        self.kubernetes.hold(held)

    @precondition(lambda self: self.kubernetes.job)
    @rule()
    def delete_job(self):
        self.kubernetes.delete_job()

    @precondition(lambda self: self.kubernetes.pods)
    @rule(data=st.data())
    def delete_pod(self, data):
        self.kubernetes.delete_pod(self.kubernetes.pods[data.draw(st.sampled_from(sorted(self.kubernetes.pods)))])

    @precondition(lambda self: self.kubernetes.pipeline)
    @rule(anew=st.booleans())
    def delete_pipeline(self, anew):
        self.kubernetes.delete_pipeline()
        if anew:
            self.kubernetes.create_pipeline({"policy": {"maxRetries": 1}, **self.spec})

    @precondition(lambda self: self.kubernetes.pipeline is None)
    @rule()
    def create_pipeline(self):
        self.kubernetes.create_pipeline({"policy": {"ttlSecondsAfterFinished": 600}, **self.spec})

    # --- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def at_most_one_pod_of_a_number_trains(self):
        numbers = [index_of(pod) for pod in self.kubernetes.live_pods()]
        assert len(numbers) == len(set(numbers))

    def teardown(self):
        """However it came, once everything is heard and every wait is over, a restart finds nothing to do."""
        for _ in range(3):
            self.operator.resync()
            self.operator.settle()
            self.confirm()
            self.kubernetes.control()
            self.kubernetes.pass_time(100)
        self.operator.resync()
        self.operator.settle()
        assert Operator(self.kubernetes).look() is False
        if self.kubernetes.pipeline is not None:
            self._check_what_is_told()

    def _check_what_is_told(self):
        """Whatever Kubernetes shows of the Job and its pods is in the status."""
        job, status = self.kubernetes.job, self.kubernetes.pipeline["status"]
        verdict = condition(self.kubernetes.pipeline, SUCCEEDED)
        assert verdict is not None, "nothing is told"
        uid = self.kubernetes.pipeline["metadata"]["uid"]
        if job is None or not owned_by(job, uid) or "deletionTimestamp" in job["metadata"]:
            return
        assert (job_end(job) is not None) == (verdict["status"] != "Unknown"), "one has ended and the other has not"
        self._check_attempts(status.get("attempts", ()))

    def _check_attempts(self, attempts):
        recorded = {attempt["uid"]: attempt for attempt in attempts}
        for name, pod in self.kubernetes.pods.items():
            if ended(pod) or pod in self.kubernetes.running_pods():
                assert name in recorded or len(recorded) == 10, f"{name} is not recorded"
                assert name not in recorded or ended(pod) == ("endTime" in recorded[name])


Life.TestCase.settings = settings(max_examples=50, stateful_step_count=40)
TestLife = Life.TestCase


class LifeTogether(Life):
    """The same of pods that train together."""

    spec: ClassVar = {"resources": {"nodes": 3}}

    def _check_attempts(self, attempts):
        """Who runs is of the newest attempt, which goes on, and who is of one that has ended runs no more."""
        running = {pod["metadata"]["uid"] for pod in self.kubernetes.running_pods()}
        if running:
            assert "endTime" not in attempts[0]
            assert running <= set(attempts[0]["members"])
        for attempt in attempts[1:]:
            assert "endTime" in attempt
            assert not running & set(attempt.get("members", ()))


LifeTogether.TestCase.settings = settings(max_examples=50, stateful_step_count=40)
TestLifeTogether = LifeTogether.TestCase


def test_pods_that_are_still_being_taken_away_are_not_taken_for_new_ones():
    """Two attempts end in the second in which the pods of the one before are told to end."""
    life = LifeTogether()
    kubernetes = life.kubernetes
    life.go_on()
    kubernetes.end(kubernetes.pods["pod-3"], 1, "")
    life.go_on()
    life.confirm()
    life.control()
    kubernetes.evict(kubernetes.pods["pod-6"])
    life.go_on()
    kubernetes.end(kubernetes.pods["pod-9"], 1, "")
    life.go_on()
    assert [attempt["uid"] for attempt in kubernetes.pipeline["status"]["attempts"]] == [
        f"pod-{number}" for number in (10, 9, 6, 3)
    ]
    life.teardown()


def test_what_a_pod_reported_is_kept_until_its_job_is_gone_too():
    """Its end is recorded, then it is taken away, and then the Job, when the status of the end is written."""
    life = Life()
    kubernetes = life.kubernetes
    life.go_on()
    kubernetes.change_pipeline({"stop": {"message": "good enough"}})
    life.hear_everything()
    (pod,) = kubernetes.pods.values()
    assert "deletionTimestamp" in pod["metadata"]
    kubernetes.end(pod, 143, json.dumps({"steps": 67, "exitCode": 143, "message": "terminated after 67 of 700 steps"}))
    kubernetes.pass_time(11)
    life.hear_everything()
    assert kubernetes.pipeline["status"]["attempts"][0]["exitCode"] == 143
    kubernetes._remove(pod)
    life.hear_everything()
    kubernetes._collect_garbage()
    life.hear_everything()
    assert kubernetes.pipeline["status"]["report"]["steps"] == 67
    life.teardown()


FATES = st.lists(st.sampled_from([74, 75, 137, 135, "oom", "evicted"]), max_size=5)
ENDS = st.sampled_from([0, 64, 65, 66, 70, 78, 74, "oom"])
RETRIES = 2


def expected(fates):
    """Return the state, the failures and the attempts that a pipeline ends with whose pods end like this."""
    failures, attempts = 0, []
    for fate in fates:
        if fate == "evicted":
            attempts.append(("EvictionByEvictionAPI", 143))
            continue
        code = 137 if fate == "oom" else fate
        reason = "OutOfMemory" if fate == "oom" else {135: "DataInvalid", 137: "Killed"}.get(code) or REASONS[code]
        attempts.append((reason, code))
        if code == 0:
            return "Completed", failures, attempts
        failures += 1
        if code in FATAL_EXIT_CODES:
            return reason, failures, attempts
        if failures > RETRIES:
            cause = reason if reason in {"OutOfMemory", "DataInvalid"} else "RetriesExhausted"
            return cause, failures, attempts
    return None, failures, attempts


class Watches:
    """Three watches, each of which tells in order what it tells, up to five seconds late, and some of it twice."""

    def __init__(self, kubernetes, operator, chance):
        self._kubernetes, self._operator, self._chance = kubernetes, operator, chance
        self._late = {kind: [] for kind in ("pipeline", "job", "pod")}
        self._told = []

    def tell(self):
        for news in self._kubernetes.news:
            self._late[news[1]].append((self._kubernetes.now + timedelta(seconds=5), news))
        self._kubernetes.news.clear()
        for late in self._late.values():
            while late and (late[0][0] <= self._kubernetes.now or self._chance.random() < 0.5):
                self._told.append(late.pop(0)[1])
                self._operator.hear(self._told[-1])
        if self._told and self._chance.random() < 0.2:
            self._operator.hear(self._chance.choice(self._told))


@settings(max_examples=40)
@given(fates=FATES, end=ENDS, seed=st.integers(0, 2**32))
def test_the_end_is_the_same_however_late_which_watch_is(fates, end, seed):
    kubernetes, chance = Kubernetes(), random.Random(seed)
    kubernetes.create_pipeline({"policy": {"maxRetries": RETRIES}})
    operator = Operator(kubernetes)
    kubernetes.news.clear()
    watches = Watches(kubernetes, operator, chance)
    fates = [*fates, *[end] * (RETRIES + 1)]
    outcome, failures, attempts = expected(fates)
    left = iter(fates)
    while condition(kubernetes.pipeline, SUCCEEDED) is None or not _over(kubernetes):
        if chance.random() < 0.7:
            _let_one_step_happen(kubernetes, left)
        watches.tell()
        if chance.random() < 0.7:
            operator.look()
        kubernetes.pass_time(1)
    kubernetes.pass_time(5)
    watches.tell()
    operator.settle()
    status = kubernetes.pipeline["status"]
    assert condition(kubernetes.pipeline, SUCCEEDED)["reason"] == outcome
    assert status["failures"] == failures
    newest_first = [(attempt["reason"], attempt["exitCode"]) for attempt in status["attempts"]]
    assert newest_first == attempts[::-1][:10]


def _over(kubernetes):
    return condition(kubernetes.pipeline, SUCCEEDED)["status"] != "Unknown"


def _let_one_step_happen(kubernetes, fates):
    kubernetes.control()
    for pod in kubernetes.live_pods():
        if pod not in kubernetes.running_pods():
            kubernetes.run(pod)
            return
        match next(fates):
            case "evicted":
                kubernetes.evict(pod)
            case "oom":
                kubernetes.end(pod, 137, why="OOMKilled")
            case code:
                kubernetes.end(pod, code)


def test_a_pipeline_that_just_runs_through_takes_three_writes():
    kubernetes = Kubernetes()
    kubernetes.create_pipeline({})
    operator = Operator(kubernetes)
    writes = 0
    for seconds in range(60):
        writes += operator.look()
        if seconds == 10:
            kubernetes.end(kubernetes.running_pods()[0], 0)
        elif kubernetes.job is not None:
            kubernetes.control()
            if not kubernetes.running_pods() and seconds < 10:
                kubernetes.run(kubernetes.live_pods()[0])
        kubernetes.pass_time(1)
        for news in kubernetes.news:
            operator.hear(news)
        kubernetes.news.clear()
    assert condition(kubernetes.pipeline, SUCCEEDED)["reason"] == "Completed"
    assert writes == 3, "the Job, Running, Completed"
