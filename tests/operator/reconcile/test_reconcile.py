"""What of `reconcile` a table cannot say: long records and long texts."""

from simulation.documents import POLICY, at, job, moment, pipeline, pod
from simulation.kubernetes import Kubernetes
from simulation.operator import Operator

from feedline.contract import MAX_MANIFEST_BYTES
from feedline_operator.reconcile import Observed, Sample, reconcile


def test_the_newest_ten_attempts_are_kept_and_those_before_them_do_not_come_back():
    kubernetes = Kubernetes()
    kubernetes.create_pipeline({"policy": {"maxRetries": 100}})
    operator = Operator(kubernetes)
    operator.settle()
    for _ in range(14):
        kubernetes.control()
        kubernetes.run(kubernetes.live_pods()[0])
        kubernetes.pass_time(10)
        kubernetes.end(kubernetes.running_pods()[0], 74)
        kubernetes.pass_time(10)
        kubernetes.control()
        operator.resync()
        operator.settle()
    assert len(kubernetes.pods) == 15
    status = kubernetes.pipeline["status"]
    assert [attempt["index"] for attempt in status["attempts"]] == list(range(14, 4, -1))
    assert status["failures"] == 14
    assert Operator(kubernetes).look() is False


def test_a_pod_that_failed_again_and_again_while_nobody_looked_is_counted_by_its_job():
    pods = tuple(pod(name=f"{n:02}", created=10 * n, running=10 * n, exit=74, ended=10 * n + 5) for n in range(1, 13))
    plan = reconcile(Observed(pipeline(), job(failed=20), pods), moment(200), POLICY)
    assert [attempt["uid"] for attempt in plan.status["attempts"]] == [f"pod-{n:02}" for n in range(12, 2, -1)]
    assert plan.status["failures"] == 20


def test_a_pod_of_an_earlier_pipeline_that_goes_is_none_of_the_next_one():
    earlier = {**pod(name="b", created=0), "gone": True}
    earlier["metadata"]["ownerReferences"][0]["uid"] = "another-job"
    plan = reconcile(Observed(pipeline(), job(), (pod(running=5), earlier)), moment(60), POLICY)
    assert [attempt["uid"] for attempt in plan.status["attempts"]] == ["pod-a"]


def test_a_manifest_that_no_pod_takes_is_refused_with_its_size():
    command = ["x" * 4096] * 40
    plan = reconcile(Observed(pipeline(spec={"train": {"command": command}})), moment(1), POLICY)
    message = plan.status["conditions"][0]["message"]
    assert plan.actions == ()
    assert plan.status["conditions"][0]["reason"] == "InvalidSpec"
    assert str(MAX_MANIFEST_BYTES) in message
    assert "shorten train.parameters or train.command" in message


def test_messages_fit_the_status_and_the_event():
    words = "w" * 1023
    report = {"waitPermille": 500, "verdict": {"cause": "Disk", "advice": words}}
    sample = Sample("pod-a", moment(9), report)
    plan = reconcile(Observed(pipeline(), job(), (pod(running=5),), sample), moment(10), POLICY)
    (told,) = plan.transitions
    assert len(told.message) == 1024
    assert plan.status["conditions"][3]["message"].endswith(words)


def test_a_time_with_another_offset_is_the_same_time():
    condition = {"type": "Complete", "status": "True", "reason": "x", "message": "", "lastTransitionTime": at(9)}
    done = job(status={"startTime": "2026-01-01T11:00:02+01:00", "conditions": [condition]})
    plan = reconcile(Observed(pipeline(), done), moment(100), POLICY)
    assert plan.status["conditions"][0]["reason"] == "Completed"
