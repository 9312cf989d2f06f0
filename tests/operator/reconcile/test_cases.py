"""`reconcile`, case by case: each document of cases/*.yaml is what was seen and what follows from it.

`simulation.documents` says what a case may write for a pipeline, a Job and a pod, and what they are where it writes
nothing. Times are seconds since the pipeline was created; `now` is 60.
"""

from pathlib import Path

import pytest
from simulation import schema
from simulation.documents import POLICY, job, moment, pipeline, pod

from feedline.manifest.yamlread import read_yaml
from feedline_operator.reconcile import (
    CreateJob,
    CreateService,
    DeleteJob,
    DeletePipeline,
    EvictPod,
    Observed,
    Policy,
    Refusal,
    Sample,
    Warned,
    reconcile,
)
from feedline_operator.reconcile.conditions import ORDER

CASES = [
    pytest.param(case, id=f"{path.stem}: {case['case']}")
    for path in sorted(Path(__file__).parent.glob("cases/*.yaml"))
    for case in read_yaml(path.read_text(), path.name)
]


@pytest.mark.parametrize("case", CASES)
def test_what_is_seen_leads_to_what_is_done(case):
    given, expected = case["given"], case["expect"]
    assert not given.keys() - {"now", "policy", *_READERS}, "an unknown field of the case"
    assert not expected.keys() - _CHECKS.keys(), "an unknown field of the case"
    observed = Observed(**{field: read(given[field]) for field, read in _READERS.items() if field in given})
    policy = Policy({}) if given.get("policy") == "no images" else POLICY
    plan = reconcile(observed, moment(given.get("now", 60)), policy)
    if plan.status is not None:
        assert schema.problems(plan.status) == []
        assert [entry["type"] for entry in plan.status["conditions"]] == list(ORDER)
    for field, check in _CHECKS.items():
        check(plan, expected.get(field, _NOTHING[field]))


def _sample(given):
    return Sample(given.get("pod", "pod-a"), moment(given["time"]), given["report"])


_READERS = {
    "pipeline": lambda given: pipeline(**given),
    "job": lambda given: job(**given),
    "pods": lambda given: tuple(pod(**each) for each in given),
    "sample": _sample,
    "warnings": lambda given: tuple(Warned(*each) for each in given),
    "refusal": lambda given: Refusal(**given),
}


def _check_state(plan, expected):
    if expected == "none":
        assert plan.status is None
    elif expected is not ...:
        assert plan.status is not None, "no status is written"
        found = _conditions(plan)["Succeeded"]
        assert [found["status"], found["reason"]] == expected, found["message"]


def _check_message(plan, expected):
    for part in [expected] if isinstance(expected, str) else expected:
        assert part in _conditions(plan)["Succeeded"]["message"]


def _check_conditions(plan, expected):
    for kind, values in expected.items():
        found = _conditions(plan)[kind]
        assert [found["status"], found["reason"], found["message"]][: len(values)] == values[:2] + [
            found["message"] for part in values[2:] if part in found["message"]
        ]


def _check_actions(plan, expected):
    names = []
    for action in plan.actions:
        match action:
            case CreateJob():
                names.append("CreateJob")
            case CreateService(body):
                names.append(f"CreateService {body['metadata']['name']}")
            case EvictPod(name, uid):
                names.append(f"EvictPod {name} {uid}")
            case DeleteJob(uid):
                names.append(f"DeleteJob {uid}")
            case DeletePipeline(uid, version):
                names.append(f"DeletePipeline {uid} {version}")
    assert names == expected


def _check_job(plan, expected):
    for action in plan.actions:
        if isinstance(action, CreateJob):
            _holds(action.body, expected, "job")


def _check_transitions(plan, expected):
    assert [[told.kind, told.reason] for told in plan.transitions] == expected


def _check_has(plan, expected):
    _holds(plan.status or {}, expected, "status")


def _check_has_not(plan, expected):
    assert not set(expected) & set(plan.status or {})


def _check_again(plan, expected):
    assert plan.again == (None if expected is None else moment(expected))


_CHECKS = {
    "state": _check_state,
    "message": _check_message,
    "conditions": _check_conditions,
    "actions": _check_actions,
    "job": _check_job,
    "transitions": _check_transitions,
    "has": _check_has,
    "has_not": _check_has_not,
    "again": _check_again,
    "ask": lambda plan, expected: _equal(plan.ask, expected),
    "look_at": lambda plan, expected: _equal(list(plan.look_at), expected),
}
# What a case expects where it says nothing: that nothing is done. A status may be written.
_NOTHING = {
    "state": ...,
    "message": (),
    "conditions": {},
    "actions": [],
    "job": {},
    "transitions": [],
    "has": {},
    "has_not": (),
    "again": None,
    "ask": None,
    "look_at": [],
}


def _equal(found, expected):
    assert (list(found) if isinstance(found, tuple) else found) == expected


def _conditions(plan):
    assert plan.status is not None, "no status is written"
    return {entry["type"]: entry for entry in plan.status["conditions"]}


def _holds(found, expected, where):
    """Check that a document has at least what is expected of it; the elements of a list all count."""
    if isinstance(expected, dict):
        assert isinstance(found, dict), where
        for field, value in expected.items():
            if value is None:
                assert field not in found, f"{where}.{field}"
            else:
                assert field in found, f"{where}.{field} is missing: {found}"
                _holds(found[field], value, f"{where}.{field}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), f"{where}: {found}"
        for index, (each, value) in enumerate(zip(found, expected, strict=True)):
            _holds(each, value, f"{where}[{index}]")
    else:
        assert found == expected, where
