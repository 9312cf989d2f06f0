"""The store: what it has is the newest that it was told, in whatever order it was told."""

import copy

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.documents import JOB_UID, PIPELINE_UID, job, moment, pipeline, pod

from feedline_operator.reconcile import Refusal, Sample, Warned
from feedline_operator.store import Key, Store

KEY = Key("team", "digits")


def version(thing, number, **metadata):
    """Return another version of an object."""
    return {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(number), **metadata}}


def filled():
    """Return a store with a pipeline, its Job and a pod."""
    store = Store()
    for kind, thing in (("pipeline", pipeline()), ("job", job()), ("pod", pod())):
        assert store.put(kind, thing) == KEY
    return store


def test_nothing_is_known_of_a_name_without_a_pipeline():
    store = Store()
    store.put("job", job())
    assert store.observe(KEY) is None
    assert store.known() == []
    assert store.pods(KEY) == []
    store.tell(KEY, Refusal("words"))
    store.put("pipeline", pipeline())
    assert store.observe(KEY).refusal is None
    assert store.known() == [KEY]
    assert [thing["metadata"]["uid"] for thing in store.pipelines()] == [PIPELINE_UID]


def gone(store):
    """Have a store hear that a pod is gone which ended; return its pipeline's newest version, which tells of that."""
    ended = pod(running=5, exit=0, ended=60)
    store.remove("pod", ended)
    attempts = [{"index": 1, "uid": ended["metadata"]["uid"], "endTime": moment(60)}]
    return {"attempts": attempts}


def test_a_pod_that_is_gone_is_kept_until_all_that_it_has_said_is_recorded_whoever_wrote_that():
    store = filled()
    status = gone(store)
    assert store._by_key[KEY].pods
    store.put("pipeline", version(pipeline(status=status), 98))
    assert store._by_key[KEY].pods, "its report is written when the pipeline ends"
    over = pipeline(status=status, conditions={"Succeeded": ["True", "Stopped", "words"]})
    store.put("pipeline", version(over, 99))
    assert not store._by_key[KEY].pods


def test_a_pod_that_is_gone_is_forgotten_when_another_one_runs():
    store = filled()
    status = gone(store)
    status["attempts"].insert(0, {"index": 2, "uid": "another"})
    store.put("pipeline", version(pipeline(status=status), 98))
    assert not store._by_key[KEY].pods


def test_nothing_is_left_of_a_pipeline_that_is_gone():
    store = filled()
    gone(store)
    store.remove("job", job())
    store.remove("pipeline", pipeline())
    assert store._by_key == {}


def test_an_older_version_is_ignored():
    store = filled()
    assert store.put("pod", version(pod(running=5), 9)) == KEY
    assert store.put("pod", version(pod(), 8)) is None
    assert store.put("pod", version(pod(running=5), 9)) is None
    assert store.observe(KEY).pods[0]["status"]["phase"] == "Running"


def test_versions_are_numbers():
    store = filled()
    store.put("pod", version(pod(), 9))
    assert store.put("pod", version(pod(running=5), 10)) == KEY


def test_what_is_gone_does_not_come_back():
    store = filled()
    assert store.remove("job", job()) == KEY
    assert store.put("job", version(job(), 99)) is None
    assert store.observe(KEY).job is None
    assert store.remove("job", job()) is None


def test_what_was_gone_before_it_was_heard_of_does_not_come():
    store = Store()
    assert store.remove("pipeline", pipeline()) is None
    assert store.put("pipeline", pipeline()) is None
    assert store.known() == []


def test_an_earlier_pipeline_of_the_name_does_not_take_the_place_of_a_later_one():
    store, later = Store(), version(pipeline(), 7, uid="later")
    store.put("pipeline", later)
    assert store.put("pipeline", version(pipeline(), 5)) is None
    assert store.remove("pipeline", version(pipeline(), 6)) is None
    assert store.observe(KEY).pipeline["metadata"]["uid"] == "later"


def test_a_later_pipeline_of_the_name_inherits_nothing():
    store = filled()
    store.tell(KEY, Refusal("words"))
    store.tell(KEY, Sample("pod-a", moment(5), {"steps": 1}))
    store.tell(KEY, (Warned("FailedMount", "words"),))
    assert store.observe(KEY).warnings
    store.put("pipeline", version(pipeline(), 7, uid="later"))
    observed = store.observe(KEY)
    assert (observed.refusal, observed.sample, observed.warnings) == (None, None, None)


def test_a_copy_of_the_job_under_another_name_is_not_the_job():
    store = filled()
    store.put("job", version(job(), 9, name="digits-copy", uid="copy"))
    assert store.observe(KEY).job["metadata"]["uid"] == JOB_UID


def test_a_refusal_is_void_once_there_is_a_job():
    store = Store()
    store.put("pipeline", pipeline())
    store.tell(KEY, Refusal("quota"))
    assert store.observe(KEY).refusal == Refusal("quota")
    store.put("job", job())
    assert store.observe(KEY).refusal is None


def test_a_job_that_is_wrong_as_such_stays_wrong():
    store = Store()
    store.put("pipeline", pipeline())
    store.tell(KEY, Refusal("words", invalid=True))
    store.put("job", job())
    assert store.observe(KEY).refusal == Refusal("words", invalid=True)


def test_a_pod_that_is_gone_is_kept_until_its_end_is_in_the_status():
    store = filled()
    ended = pod(running=5, exit=65, ended=9)
    assert store.remove("pod", version(ended, 9)) == KEY
    assert store.pods(KEY) == []
    (gone,) = store.observe(KEY).pods
    assert gone["gone"]
    assert gone["status"]["phase"] == "Failed"
    assert store.missing("pod", set(), store.now()) == []
    attempts = [{"index": 1, "uid": "pod-a", "endTime": "2026-01-01T10:00:09Z"}]
    over = {"Succeeded": ["False", "DataInvalid", "words"]}
    store.put("pipeline", version(pipeline(status={"attempts": attempts}, conditions=over), 9))
    assert store.observe(KEY).pods == ()


def test_the_last_state_of_a_pod_stays_when_a_sweep_misses_it_as_well():
    store = filled()
    before = store.missing("pod", set(), store.now())
    store.remove("pod", version(pod(running=5, exit=65, ended=9), 9))
    assert [store.remove("pod", thing) for thing in before] == [None]
    assert store.observe(KEY).pods[0]["status"]["phase"] == "Failed"


def test_a_pod_of_a_pipeline_that_is_gone_goes_at_once():
    store = filled()
    store.remove("pipeline", pipeline())
    store.remove("pod", pod())
    store.remove("job", job())
    store.put("pipeline", version(pipeline(), 9, uid="later"))
    assert store.observe(KEY).pods == ()


def test_no_more_than_ten_pods_are_kept_that_are_gone():
    store = Store()
    store.put("pipeline", pipeline())
    for name in "abcdefghijklm":
        store.put("pod", pod(name=name))
        store.remove("pod", pod(name=name, exit=74))
    assert [thing["metadata"]["name"][-1] for thing in store.observe(KEY).pods] == list("defghijklm")


def test_what_a_list_lacks_is_missing_unless_it_came_since():
    store = filled()
    mark = store.now()
    store.put("pod", pod(name="b"))
    assert [thing["metadata"]["uid"] for thing in store.missing("pod", set(), mark)] == ["pod-a"]
    assert store.missing("pod", {"pod-a"}, mark) == []
    assert [thing["metadata"]["uid"] for thing in store.missing("job", set(), mark)] == [JOB_UID]
    assert [thing["metadata"]["uid"] for thing in store.missing("pipeline", set(), mark)] == [PIPELINE_UID]
    store.put("job", version(job(), 9))
    assert store.missing("job", set(), mark) == []


def test_it_has_a_version_and_those_before_it():
    store = filled()
    store.put("pod", version(pod(), 9))
    assert store.has("pod", version(pod(), 8))
    assert store.has("pod", version(pod(), 9))
    assert not store.has("pod", version(pod(), 10))
    assert not store.has("pod", pod(name="b"))
    assert not Store().has("pod", pod())


def test_only_what_somebody_reads_is_kept():
    thing = pod(running=5, metadata={"managedFields": [{}], "annotations": {"a": "b"}}, spec={"containers": [{}]})
    thing["status"]["conditions"] += [{"type": "Ready", "status": "True"}]
    store = filled()
    store.put("pod", version(thing, 9))
    kept = store.observe(KEY).pods[0]
    assert kept["spec"] == {"nodeName": "node-1"}
    assert kept["status"]["conditions"] == []
    assert not {"managedFields", "annotations"} & set(kept["metadata"])


HISTORY = [
    ("put", "pipeline", pipeline()),
    ("put", "job", job(started=None)),
    ("put", "job", version(job(), 4)),
    ("put", "pod", version(pod(), 5)),
    ("put", "pod", version(pod(running=5), 6)),
    ("put", "pipeline", version(pipeline(status={"failures": 0}), 7)),
    ("put", "pod", version(pod(running=5, exit=0, ended=9), 8)),
    ("put", "job", version(job(ended=["Complete", "CompletionsReached", "", 9]), 9)),
    ("remove", "job", version(job(deleting=10), 10)),
    ("remove", "pipeline", version(pipeline(), 11)),
    ("put", "pipeline", version(pipeline(), 12, uid="later")),
    ("put", "job", version(job(of="later"), 13, uid="later-job")),
    ("put", "pod", version(pod(of="later-job", name="z"), 14)),
]


@settings(max_examples=100)
@given(st.permutations(HISTORY), st.lists(st.sampled_from(HISTORY), max_size=5))
def test_in_whatever_order_it_is_told_it_knows_the_same(history, again):
    store = Store()
    for verb, kind, thing in (*history, *again):
        getattr(store, verb)(kind, copy.deepcopy(thing))
    observed = store.observe(KEY)
    assert observed.pipeline["metadata"]["uid"] == "later"
    assert observed.job["metadata"]["uid"] == "later-job"
    newest = {thing["metadata"]["uid"]: thing["metadata"]["resourceVersion"] for thing in observed.pods}
    assert newest == {"pod-a": "8", "pod-z": "14"}


def test_a_pod_of_another_namespace_is_another_pipelines():
    store = filled()
    assert store.put("pod", pod(name="x", metadata={"namespace": "elsewhere"})) == Key("elsewhere", "digits")
    assert len(store.observe(KEY).pods) == 1
