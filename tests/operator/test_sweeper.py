"""A sweep in a cluster: what begins, what is ended and what is said."""

import copy
import json
from unittest.mock import patch

import pytest
from simulation.sweeps import MEDIAN, NAME, Operator, Server, standing

from feedline.contract import DISCARD_ANNOTATION, LABEL_SWEEP, LABEL_TRIAL, PARAMETERS_ANNOTATION, SUSPENDED_ANNOTATION
from feedline_operator.build.pod import build_pod
from feedline_operator.errors import InvalidError, RefusedError


def started(**spec):
    """Return a server with a sweep whose first trials were created, and the operator that did."""
    server = Server(**spec)
    operator = Operator(server)
    operator.settle()
    return server, operator


def test_as_many_trials_begin_as_may_run_at_once():
    server, operator = started(parallel=2)
    assert server.created == [f"{NAME}-0", f"{NAME}-1"]
    assert server.sweep["status"]["trials"] == {"created": 2, "running": 2, "complete": 0, "pruned": 0, "failed": 0}
    assert standing(server)["message"] == "2 of 6 trials: 2 running."
    server.reports(f"{NAME}-0", 3.0, 2.0)
    server.ends(f"{NAME}-0")
    operator.hear()
    operator.settle()
    assert server.created[2:] == [f"{NAME}-2"]
    assert operator.calls.events == []
    assert operator.looked_at() == [f"{NAME}-{index}" for index in range(3)], "no watch tells of what was written here"


def test_a_trial_is_a_pipeline_that_says_whose_it_is():
    server, _ = started()
    trial = server.pipelines[f"{NAME}-1"]
    metadata = trial["metadata"]
    assert metadata["labels"] == {LABEL_SWEEP: NAME, LABEL_TRIAL: "1"}
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("TrainingSweep", NAME, server.sweep["metadata"]["uid"])
    values = json.loads(metadata["annotations"][PARAMETERS_ANNOTATION])
    assert trial["spec"]["train"]["parameters"] == {"learningRate": values["learningRate"]}
    assert trial["spec"]["loader"]["batchSize"] == values["batch"]
    assert trial["spec"]["objective"] == {"value": "val_loss", "goal": "Minimize"}
    # Near the others, whose files are in memory there; unless the template says otherwise.
    pod = trial["spec"]["pod"]
    (near,) = pod["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert near["podAffinityTerm"]["labelSelector"] == {"matchLabels": {LABEL_SWEEP: NAME}}
    template = build_pod(trial, "image", {})
    assert template["metadata"]["labels"][LABEL_SWEEP] == NAME
    elsewhere, _ = started(template={"spec": {"pod": {"affinity": {"nodeAffinity": {}}}}})
    assert elsewhere.pipelines[f"{NAME}-0"]["spec"]["pod"]["affinity"] == {"nodeAffinity": {}}


def run_through(server, operator, value_of=float):
    """Let every trial run to its end; return the operator."""
    while standing(server)["status"] == "Unknown":
        name = server.unfinished()[0]
        server.reports(name, value_of(int(name.rpartition("-")[2])))
        server.ends(name)
        operator.hear()
        operator.settle()


def test_the_best_comes_first_when_all_have_ended():
    server, operator = started(parallel=3)
    run_through(server, operator, lambda index: abs(index - 3) + 0.25)
    status = server.sweep["status"]
    assert standing(server)["reason"] == "Completed"
    assert standing(server)["message"] == f"6 of 6 trials: 6 complete; the best is {NAME}-3, val_loss 0.25."
    assert status["best"]["trial"] == f"{NAME}-3"
    assert status["best"]["value"] == "0.25"
    assert set(status["best"]["parameters"]) == {"learningRate", "batch"}
    assert [each["trial"] for each in status["leaders"]] == [f"{NAME}-{index}" for index in (3, 2, 4, 1, 5, 0)]
    assert operator.calls.events == ["Completed"]
    assert status["completionTime"]
    assert not Operator(server).look(), "whoever comes later has nothing to do"


def test_the_best_are_confirmed_and_the_mean_decides():
    server, operator = started(trials=3, parallel=3, confirm={"top": 2, "seeds": 2})
    values = {0: 5.0, 1: 1.0, 2: 2.0, 1001: 3.0, 2001: 4.0, 1002: 2.5, 2002: 2.0}
    run_through(server, operator, values.get)
    assert server.created == [f"{NAME}-{index}" for index in (0, 1, 2, 1001, 1002, 2001, 2002)]
    best = server.sweep["status"]["best"]
    assert (best["trial"], best["mean"], best["confirmations"]) == (f"{NAME}-2", "2.25", 2)
    assert standing(server)["message"] == (
        f"3 of 3 trials and 4 confirmations: 7 complete; the best is {NAME}-2, val_loss 2, confirmed at 2.25 ± 0.35."
    )
    assert [each["trial"] for each in server.sweep["status"]["leaders"]] == [f"{NAME}-{index}" for index in (2, 1, 0)]


def pruned(**spec):
    """Return a server and an operator after the third trial was found to be worse than the first two were."""
    server, operator = started(**{"parallel": 3, "trials": 4, "pruning": MEDIAN, **spec})
    for index, value in enumerate((1.0, 2.0)):
        server.reports(f"{NAME}-{index}", 5.0, value, value)
        server.ends(f"{NAME}-{index}")
    server.reports(f"{NAME}-2", 5.0, 4.0)
    operator.hear()
    operator.look()
    return server, operator


def test_what_goes_badly_is_stopped_with_a_reason_and_keeps_its_place_until_it_has():
    server, operator = pruned()
    assert server.pipelines[f"{NAME}-2"]["spec"]["stop"] == {
        "message": "4 after 2 epochs; the median of 2 trials there is 1.5"
    }
    operator.hear()
    operator.settle()
    assert server.sweep["status"]["trials"]["pruned"] == 1
    assert standing(server)["status"] == "Unknown"
    server.obeys()
    operator.hear()
    operator.settle()
    run_through(server, operator)
    assert standing(server)["message"].startswith("4 of 4 trials: 3 complete, 1 pruned; ")


def test_a_trial_that_is_waiting_for_a_pod_keeps_what_it_told():
    server, operator = started(parallel=3, trials=4, pruning=MEDIAN)
    for index, value in enumerate((1.0, 2.0)):
        server.reports(f"{NAME}-{index}", 5.0, value)  # and both are preempted: they say nothing any more
    operator.hear()
    server.samples.clear()
    server.reports(f"{NAME}-2", 5.0, 4.0)
    operator.hear()
    operator.settle()
    assert "stop" in server.pipelines[f"{NAME}-2"]["spec"]
    assert "stop" not in server.pipelines[f"{NAME}-0"]["spec"]


def test_a_trial_frees_the_room_of_those_that_were_ended_before_it():
    output = {"persistentVolumeClaim": {"claimName": "runs"}, "path": "mine"}
    server, operator = pruned(trials=6, template={"spec": {"output": output}})
    operator.hear()
    operator.settle()
    server.obeys()
    operator.hear()
    operator.settle()
    assert server.created == [f"{NAME}-{index}" for index in range(6)]
    ended, before, last = (server.pipelines[f"{NAME}-{index}"] for index in (2, 4, 5))
    folder = f"{NAME}-2-{ended['metadata']['uid'][:8]}"
    assert last["metadata"]["annotations"][DISCARD_ANNOTATION] == folder
    assert DISCARD_ANNOTATION not in before["metadata"]["annotations"], "it was about to save itself"
    (container,) = build_pod(last, "image", {})["spec"]["containers"]
    assert {"name": "FEEDLINE_DISCARD", "value": folder} in container["env"]


def test_what_a_person_ended_keeps_what_it_saved():
    output = {"persistentVolumeClaim": {"claimName": "runs"}, "path": "mine"}
    server, operator = started(parallel=1, template={"spec": {"output": output}})
    metadata = server.pipelines[f"{NAME}-0"]["metadata"]
    server.patch_pipeline(f"{NAME}-0", metadata["uid"], {"spec": {"stop": {"message": "good enough"}}})
    server.obeys()
    operator.hear()
    operator.settle()
    assert server.sweep["status"]["trials"]["pruned"] == 1
    assert DISCARD_ANNOTATION not in server.pipelines[f"{NAME}-1"]["metadata"]["annotations"]


def test_a_trial_that_was_deleted_runs_again_with_its_number():
    server, operator = started(parallel=2)
    server.reports(f"{NAME}-0", 1.0)
    server.ends(f"{NAME}-0")
    operator.hear()
    operator.settle()
    before = server.pipelines[f"{NAME}-1"]["metadata"]["annotations"][PARAMETERS_ANNOTATION]
    server.delete(f"{NAME}-1")
    operator.hear()
    operator.settle()
    assert server.created == [f"{NAME}-{index}" for index in (0, 1, 2, 1)]
    assert server.pipelines[f"{NAME}-1"]["metadata"]["annotations"][PARAMETERS_ANNOTATION] == before


def test_a_trial_of_which_nobody_knows_what_it_reported_runs_again():
    server, operator = started(parallel=1, maxFailed=0, trials=2)
    before = server.pipelines[f"{NAME}-0"]["metadata"]
    server.loses(f"{NAME}-0")
    operator.hear()
    operator.settle()
    again = server.pipelines[f"{NAME}-0"]["metadata"]
    assert server.created == [f"{NAME}-0"] * 2
    assert again["uid"] != before["uid"]
    assert again["annotations"][PARAMETERS_ANNOTATION] == before["annotations"][PARAMETERS_ANNOTATION]
    assert operator.calls.events == ["TrialLost"]
    run_through(server, operator)
    assert server.sweep["status"]["trials"] == {"created": 2, "running": 0, "complete": 2, "pruned": 0, "failed": 0}
    server.loses(f"{NAME}-0")
    operator.hear()
    operator.settle()
    assert server.created == [f"{NAME}-{index}" for index in (0, 0, 1)], "a sweep that has ended is let alone"


ENDED = "2026-01-01T10:05:00Z"


@pytest.mark.parametrize(
    "attempts",
    [
        pytest.param([{"reason": "Deleted", "endTime": ENDED}], id="gone"),
        pytest.param([{}], id="never seen"),
        pytest.param(
            [{"reason": "Deleted", "endTime": ENDED}, {"reason": "Evicted", "exitCode": 143, "endTime": ENDED}],
            id="seen before",
        ),
        pytest.param([{"reason": "Evicted", "exitCode": 143, "endTime": ENDED}], id="the last one never seen"),
    ],
)
@pytest.mark.parametrize("reported", [None, 143])
@pytest.mark.parametrize("told", [(), (5.0, 0.001)], ids=["nothing told", "told before"])
def test_what_a_trial_told_before_its_end_is_not_what_it_came_to(attempts, told, reported):
    server, operator = started(parallel=1, maxFailed=0, trials=2)
    if told:
        server.reports(f"{NAME}-0", *told)
    server.loses(f"{NAME}-0", *attempts)
    if attempts == [{}]:
        del server.pipelines[f"{NAME}-0"]["status"]["attempts"]
    if reported:  # by the pod before
        server.pipelines[f"{NAME}-0"]["status"]["report"] = {"exitCode": reported, "values": {}}
    operator.hear()
    operator.settle()
    assert server.created == [f"{NAME}-0"] * 2
    run_through(server, operator)
    assert (standing(server)["reason"], server.sweep["status"]["best"]["value"]) == ("Completed", "0.0")


def test_a_trial_whose_pod_has_not_told_its_end_yet_is_waited_for():
    server, operator = started(parallel=2, maxFailed=0, trials=3, pruning={**MEDIAN, "warmup": 1, "minTrials": 1})
    server.reports(f"{NAME}-0", 9.0)
    server.loses(f"{NAME}-0", {"reason": "Running"})  # its Job is done, and the watch of pods late
    server.reports(f"{NAME}-1", 1.0)
    operator.hear()
    operator.settle()
    assert (standing(server)["status"], len(server.created)) == ("Unknown", 2)
    assert "stop" not in server.pipelines[f"{NAME}-0"]["spec"], "what has ended is not ended once more"
    server.reports(f"{NAME}-0", 9.0, 0.5)
    server.ends(f"{NAME}-0")
    operator.hear()
    operator.settle()
    assert server.sweep["status"]["best"]["value"] == "0.5"


def test_each_of_several_that_were_lost_at_once_is_told():
    server, operator = started(parallel=2)
    for index in range(2):
        server.loses(f"{NAME}-{index}")
    names = []

    async def keep(body):
        names.append(body["metadata"]["name"])

    operator.calls.create_event = keep
    refusing(server, RefusedError("exceeded quota"))
    operator.hear()
    operator.settle()
    assert len(set(names)) == 2, "also where what follows is refused"


def test_a_lost_trial_of_a_sweep_that_fails_stays():
    server, operator = started(parallel=2, maxFailed=0)
    server.loses(f"{NAME}-0")
    server.ends(f"{NAME}-1", "False", "UserError", "ValueError")
    operator.hear()
    operator.settle()
    assert standing(server)["reason"] == "TrialsFailed"
    assert server.created == [f"{NAME}-0", f"{NAME}-1"]
    assert set(server.pipelines) == {f"{NAME}-0", f"{NAME}-1"}
    assert server.sweep["status"]["trials"]["failed"] == 2
    assert operator.calls.events == ["TrialsFailed"]


def test_a_program_that_says_nothing_is_not_run_again():
    server, operator = started(parallel=1, maxFailed=0, trials=2)
    server.loses(f"{NAME}-0")
    server.pipelines[f"{NAME}-0"]["status"]["attempts"][0] |= {"reason": "Completed", "exitCode": 0}
    operator.hear()
    operator.settle()
    assert standing(server)["message"].endswith(f"{NAME}-0: val_loss was never reported; reported was nothing")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((), "val_loss was never reported; reported was loss"),
        ((float("nan"),), "val_loss was never a finite number"),
        ((1e301, float("inf")), "val_loss was never a finite number below 1e300"),
    ],
)
def test_a_trial_without_a_value_has_failed_and_says_what_was_reported(values, message):
    server, operator = started(parallel=1, maxFailed=0)
    if values:
        server.reports(f"{NAME}-0", *values)
    server.ends(f"{NAME}-0")
    operator.hear()
    operator.settle()
    assert standing(server)["reason"] == "TrialsFailed"
    assert standing(server)["message"].endswith(f"{NAME}-0: {message}")
    assert operator.calls.events == ["TrialsFailed"]


def test_a_trial_whose_curve_found_no_room_has_its_best():
    server, operator = started(parallel=1, trials=1)
    server.reports(f"{NAME}-0", 0.5)
    server.samples[f"{NAME}-0"].report["objective"]["curve"] = []
    server.ends(f"{NAME}-0")
    operator.hear()
    operator.settle()
    assert server.sweep["status"]["best"]["value"] == "0.5"


def test_the_first_three_that_fail_alike_end_it_with_their_message():
    server, operator = started(parallel=4, maxFailed=100)
    for index in range(3):
        server.ends(f"{NAME}-{index}", "False", "UserError", "no module named digits")
    operator.hear()
    operator.settle()
    assert standing(server)["message"] == "the first 3 trials failed alike: no module named digits"
    # What still runs is stopped, and counted when it has ended.
    assert server.pipelines[f"{NAME}-3"]["spec"]["stop"] == {"message": "the sweep has ended"}
    server.obeys()
    operator.hear()
    operator.settle()
    assert server.sweep["status"]["trials"] == {"created": 4, "running": 0, "complete": 0, "pruned": 1, "failed": 3}


@pytest.mark.parametrize("on_finish", ["Stop", "Continue"])
def test_stop_ends_it_well_and_what_runs_as_it_says(on_finish):
    server, operator = started(onFinish=on_finish)
    server.reports(f"{NAME}-0", 0.5)
    server.ends(f"{NAME}-0")
    server.change(stop={"message": "good enough"})
    operator.hear()
    operator.settle()
    assert standing(server)["message"] == "Stopping by spec.stop: good enough; 1 of its trials have not ended yet."
    assert ("stop" in server.pipelines[f"{NAME}-1"]["spec"]) == (on_finish == "Stop")
    server.ends(f"{NAME}-1", reason="Stopped" if on_finish == "Stop" else "Completed")
    operator.hear()
    operator.settle()
    assert (standing(server)["status"], standing(server)["reason"]) == ("True", "Stopped")
    assert server.sweep["status"]["best"]["trial"] == f"{NAME}-0"
    assert len(server.created) == 2


def test_suspension_is_for_the_trials_that_run_and_ends_with_it():
    server, operator = started()
    by_hand = server.pipelines[f"{NAME}-1"]["metadata"]
    server.patch_pipeline(f"{NAME}-1", by_hand["uid"], {"spec": {"suspend": True}})
    server.change(suspend=True)
    operator.hear()
    operator.settle()
    assert standing(server)["reason"] == "Suspended"
    assert server.pipelines[f"{NAME}-0"]["spec"]["suspend"] is True
    server.change(suspend=False)
    operator.hear()
    operator.settle()
    assert server.pipelines[f"{NAME}-0"]["spec"]["suspend"] is False
    assert SUSPENDED_ANNOTATION not in server.pipelines[f"{NAME}-0"]["metadata"]["annotations"]
    assert server.pipelines[f"{NAME}-1"]["spec"]["suspend"] is True, "who suspended it by hand resumes it"


@pytest.mark.parametrize("ends", ["stop", "failure"])
def test_what_was_suspended_and_is_to_continue_does(ends):
    server, operator = started(parallel=3, onFinish="Continue", maxFailed=0)
    server.change(suspend=True)
    operator.hear()
    operator.settle()
    if ends == "stop":
        server.change(stop={})
    else:
        server.ends(f"{NAME}-2", "False", "UserError", "why")
    operator.hear()
    operator.settle()
    server.change(suspend=False)
    operator.hear()
    operator.settle()
    assert [server.pipelines[name]["spec"]["suspend"] for name in server.unfinished()] == [False] * (
        3 if ends == "stop" else 2
    )


def test_it_goes_when_its_time_is_up():
    server, operator = started(trials=1, ttlSecondsAfterFinished=60)
    run_through(server, operator)
    server.pass_time(59)
    operator.settle()
    assert server.sweep is not None
    server.pass_time(1)
    operator.look()
    assert server.sweep is None


def test_it_goes_only_after_the_trials_that_were_to_continue():
    server, operator = started(parallel=2, maxFailed=0, onFinish="Continue", ttlSecondsAfterFinished=60)
    server.ends(f"{NAME}-0", "False", "UserError", "why")
    operator.hear()
    operator.settle()
    assert standing(server)["reason"] == "TrialsFailed"
    server.pass_time(90)
    operator.settle()
    assert server.sweep is not None, "a training of it runs"
    server.ends(f"{NAME}-1")
    server.pipelines[f"{NAME}-1"]["status"]["completionTime"] = server.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    server.pass_time(59)
    operator.hear()
    operator.settle()
    assert server.sweep is not None
    server.pass_time(1)
    operator.look()
    assert server.sweep is None


def test_more_trials_may_be_asked_for_while_it_runs():
    server, operator = started(trials=2)
    server.reports(f"{NAME}-0", 0.5)
    server.ends(f"{NAME}-0")
    server.change(trials=3)
    operator.hear()
    operator.settle()
    assert len(server.created) == 3


def test_a_sweep_that_makes_no_valid_pipeline_says_so_before_any_trial():
    huge = [{"name": "batch", "path": "spec.loader.batchSize", "int": {"min": 8, "max": 10**12}}]
    server, operator = started(parameters=huge)
    assert standing(server)["reason"] == "InvalidSpec"
    assert "spec.parameters.batch: 1000000000000 is not possible" in standing(server)["message"]
    assert server.created == []
    assert operator.calls.events == ["InvalidSpec"]
    writes = len(operator.deaths.writes)
    for _ in range(5):
        server.pass_time(60)
        operator.hear()
        operator.look()
    assert len(operator.deaths.writes) == writes, "it is said once"


def test_a_sweep_that_a_newer_operator_finds_wrong_stays_as_it_ended_and_goes_in_time():
    server, operator = started(trials=1, ttlSecondsAfterFinished=60)
    run_through(server, operator)
    before = server.sweep["status"]
    server.change(objective={"value": ""})
    server.pass_time(30)
    Operator(server).settle()
    assert server.sweep["status"] == before
    server.pass_time(30)
    Operator(server).look()
    assert server.sweep is None


def test_a_sweep_that_an_older_operator_cannot_read_is_left_as_it_is():
    server, operator = started(parallel=2)
    server.reports(f"{NAME}-0", 0.5)
    server.ends(f"{NAME}-0")
    operator.hear()
    operator.settle()
    before = server.sweep["status"]
    server.change(newer=True)
    older = Operator(server)
    older.settle()
    status = server.sweep["status"]
    assert (standing(server)["status"], standing(server)["reason"]) == ("Unknown", "Running")
    assert "this operator cannot read the spec: spec.newer: unknown field" in standing(server)["message"]
    assert [status[field] for field in ("trials", "best", "startTime")] == [
        before[field] for field in ("trials", "best", "startTime")
    ]
    assert older.calls.events == []
    del server.sweep["spec"]["newer"]
    server.change()
    operator = Operator(server)
    operator.settle()
    run_through(server, operator)
    assert standing(server)["reason"] == "Completed"


def test_what_its_trials_will_be_is_checked_once():
    server = Server(parallel=1)
    operator = Operator(server)
    with patch("feedline.manifest.sweep._trial_problems", return_value=[]) as check:
        operator.settle()
        run_through(server, operator)
    assert check.call_count == 1


def test_a_change_that_is_refused_holds_up_nothing_else_and_is_told():
    server, operator = started(parallel=3)
    take = server.patch_pipeline

    def refuse_one(name, uid, change):
        if name == f"{NAME}-1":
            raise RefusedError("denied by a policy")
        return take(name, uid, change)

    server.patch_pipeline = refuse_one
    server.change(suspend=True)
    for _ in range(3):
        operator.hear()
        operator.look()
    assert [server.pipelines[f"{NAME}-{index}"]["spec"].get("suspend", False) for index in range(3)] == [
        True,
        False,
        True,
    ]
    told = f"{NAME}-1 could not be changed: denied by a policy"
    assert standing(server)["message"] == f"Suspended by spec.suspend; set it to false to go on. {told}"
    server.ends(f"{NAME}-1")  # so that nothing is to be changed any more
    operator.hear()
    operator.look()
    assert operator.due() == [NAME], "what is told no longer holds"
    operator.look()
    assert standing(server)["message"] == "Suspended by spec.suspend; set it to false to go on."


def test_what_was_decided_is_not_done_when_somebody_has_thought_otherwise():
    server = Server(parallel=3)
    operator, create = Operator(server), server.create_pipeline

    def create_and_stop(body):
        server.create_pipeline = create
        server.change(stop={"message": "wrong"})
        operator.store.put("sweep", copy.deepcopy(server.sweep))
        return create(body)

    server.create_pipeline = create_and_stop
    operator.look()
    assert server.created == [f"{NAME}-0"]


def test_a_refusal_is_about_the_sweep_that_asked_and_not_about_the_next_of_its_name():
    server = Server()
    operator, create = Operator(server), server.create_pipeline

    def replace_and_refuse(body):
        server.create_pipeline = create
        operator.store.remove("sweep", server.sweep)
        server.sweep = server._new(NAME, {"spec": server.sweep["spec"]})
        operator.store.put("sweep", copy.deepcopy(server.sweep))
        raise InvalidError("spec.pod: is wrong")

    server.create_pipeline = replace_and_refuse
    operator.look()
    operator.settle()
    assert standing(server)["reason"] == "Running"


def test_trials_of_an_earlier_sweep_of_the_name_are_waited_for():
    server, _ = started(parallel=2)
    server.sweep = server._new(NAME, {"spec": server.sweep["spec"]})
    operator = Operator(server)
    for _ in range(3):
        operator.look()
        operator.hear()
    assert standing(server)["message"] == f"The trial {NAME}-0 of an earlier sweep of this name is still being deleted."
    for index in range(2):
        server.delete(f"{NAME}-{index}")
    operator.hear()
    operator.settle()
    assert server.created == [f"{NAME}-0", f"{NAME}-1"] * 2


def test_a_pipeline_of_that_name_that_is_somebody_else_s_is_told_and_waited_for():
    server = Server()
    server.pipelines[f"{NAME}-0"] = server._new(f"{NAME}-0", {"spec": server.sweep["spec"]["template"]["spec"]})
    operator = Operator(server)
    for _ in range(4):
        operator.look()
        operator.hear()
    said = f"A TrainingPipeline {NAME}-0 is there already and is no trial of this sweep: delete it"
    assert standing(server)["message"].startswith(said)
    assert (standing(server)["status"], standing(server)["reason"]) == ("Unknown", "Pending")
    assert server.created == []
    server.delete(f"{NAME}-0")
    operator.hear()
    operator.settle()
    assert server.created == [f"{NAME}-0", f"{NAME}-1"]


def refusing(server, error):
    """Have a server refuse every trial, each time in other words; return the list of what it said."""
    said = []

    def refuse(body):
        said.append(f"{error}, request {len(said)}")
        raise type(error)(said[-1])

    server.create_pipeline = refuse
    return said


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RefusedError("exceeded quota"), "Pending"), (InvalidError("spec.pod: is wrong"), "InvalidSpec")],
)
def test_what_the_server_refuses_is_told_and_not_asked_for_again_and_again(error, reason):
    server = Server()
    said = refusing(server, error)
    operator = Operator(server)
    for _ in range(20):
        operator.look()
        operator.hear()
    assert (standing(server)["reason"], standing(server)["message"]) == (reason, said[0])
    assert len(said) == 1
    assert len(operator.deaths.writes) <= 3


def test_a_policy_that_comes_in_the_middle_ends_no_sweep():
    server, operator = started(parallel=2)
    refusing(server, InvalidError("denied by a policy"))
    server.reports(f"{NAME}-0", 1.0)
    server.ends(f"{NAME}-0")
    for _ in range(5):
        operator.hear()
        operator.look()
    assert (standing(server)["status"], standing(server)["reason"]) == ("Unknown", "Running")
    assert "denied by a policy" in standing(server)["message"]


ODD = [
    pytest.param("[" * 50_000, id="deep"),
    pytest.param("[1]", id="no map"),
    pytest.param("{}", id="empty"),
    pytest.param(json.dumps({"learningRate": [1], "batch": 9}), id="other types"),
    pytest.param(json.dumps({"learningRate": 0.01, "batch": 8, **{f"n{n}": "x" * 5000 for n in range(20)}}), id="more"),
]


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("algorithm", ["Random", "TPE"])
def test_what_somebody_writes_on_a_trial_stops_nothing(text, algorithm):
    stepped = [{"name": "batch", "path": "spec.loader.batchSize", "int": {"min": 8, "max": 64, "step": 8}}]
    parameters = [{"name": "learningRate", "float": {"min": "1e-4", "max": "1e-1"}}, *stepped]
    server, operator = started(
        algorithm={"type": algorithm}, parallel=1, trials=3, parameters=parameters, confirm={"top": 3, "seeds": 1}
    )
    metadata = server.pipelines[f"{NAME}-0"]["metadata"]
    server.patch_pipeline(
        f"{NAME}-0", metadata["uid"], {"metadata": {"annotations": {PARAMETERS_ANNOTATION: text}}, "spec": {}}
    )
    run_through(server, operator)
    assert standing(server)["reason"] == "Completed"
    assert server.created[:3] == [f"{NAME}-{index}" for index in range(3)]


@pytest.mark.parametrize(
    ("curve", "steps", "rows"),
    [(["9999999999999999999:0.5"], 1, 1), (["1:1.7e308", "2:-1.7e308"], 1, 1), (["5:0.1"], 0, 10), (["5:0.1"], 10, 0)],
)
def test_whatever_a_trainer_says_of_itself_is_reckoned_with_in_no_time(curve, steps, rows):
    server, operator = started(parallel=3, pruning={**MEDIAN, "warmup": 1}, confirm={"top": 1, "seeds": 2})
    told = {"curve": curve, "best": curve[0].partition(":")[2], "epochSteps": steps, "epochSamples": rows}
    for name in server.unfinished():
        server.reports(name, 1.0)
        server.samples[name].report["objective"].update(told)
    operator.hear()
    operator.settle()
    run_through(server, operator)


def test_a_trial_that_is_gone_while_it_is_to_be_confirmed_is_no_fault():
    server, operator = started(trials=2, parallel=2, confirm={"top": 2, "seeds": 1})
    for index in range(2):
        server.reports(f"{NAME}-{index}", float(index))
        server.ends(f"{NAME}-{index}")
    operator.hear()
    create = server.create_pipeline

    def create_and_lose(body):
        # While the first confirmation is written, the trial of the second one is deleted, and that is heard of.
        server.create_pipeline = create
        gone = server.pipelines[f"{NAME}-1"]
        server.delete(f"{NAME}-1")
        operator.store.remove("pipeline", gone)
        return create(body)

    server.create_pipeline = create_and_lose
    operator.look()
    operator.hear()
    operator.settle()
    run_through(server, operator)
