"""What holds for any sweep in a cluster, whatever dies in between and in whatever order it is heard."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from simulation.sweeps import MEDIAN, NAME, DeadError, Deaths, Operator, Server, standing

from feedline.contract import PARAMETERS_ANNOTATION


def a_life(server, deaths):
    """Let a sweep of many trials run to its end: each reports by its number; the operator that dies is started again."""
    chance = random.Random(7)  # the same life each time, whoever dies when
    operator = Operator(server, deaths)
    for _ in range(500):
        try:
            operator.settle()
        except DeadError:
            operator = Operator(server, deaths)
            continue
        if standing(server)["status"] != "Unknown":
            return
        server.obeys()
        for name in server.unfinished():
            index = int(name.rpartition("-")[2])
            values = [100.0 - epoch - (index * 7 % 30) for epoch in range(8)]
            told = server.samples.get(name)
            epochs = (len(told.report["objective"]["curve"]) if told else 0) + 2
            server.reports(name, *values[:epochs])
            if epochs == 8:
                server.ends(name)
        if chance.random() < 0.05 and server.unfinished():
            server.ends(server.unfinished()[0], "False", "UserError", f"diverged {len(server.created)}")
        operator.hear()
    raise AssertionError("it does not come to its end")


THIRTY = {
    "trials": 30,
    "parallel": 4,
    "maxFailed": 30,
    "pruning": {"rule": "Median", "warmup": 2, "interval": 2, "minTrials": 4},
}


def outcome(server):
    """Return what came of each trial."""
    return {
        name: (
            pipeline["metadata"]["annotations"][PARAMETERS_ANNOTATION],
            pipeline["spec"].get("stop"),
            pipeline["status"]["conditions"][0]["reason"],
        )
        for name, pipeline in server.pipelines.items()
    }


@pytest.fixture(scope="module")
def in_peace():
    """Return the writes and the outcome of a sweep of thirty trials that nothing disturbs."""
    server, deaths = Server(**THIRTY), Deaths()
    a_life(server, deaths)
    assert Counter(reason for _, _, reason in outcome(server).values()).keys() == {"Completed", "Stopped", "UserError"}
    assert len(server.created) == 30
    return deaths.writes, outcome(server)


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_killed_at_any_write_of_thirty_trials_it_is_the_same_sweep(in_peace, is_after):
    """None twice, none lost, each with its parameters, ended for the same reason."""
    writes, expected = in_peace
    for number in range(1, len(writes) + 1):
        if is_after and writes[number - 1] == "status":
            continue  # who finds it written finds what it would write
        server = Server(**THIRTY)
        a_life(server, Deaths(number, is_after=is_after))
        assert server.created == [f"{NAME}-{index}" for index in range(30)], (number, writes[number - 1])
        assert outcome(server) == expected, (number, writes[number - 1])


class Life(RuleBasedStateMachine):
    """A sweep, what may happen to its trials, and an operator that hears of it late, dies and comes back."""

    def __init__(self):
        super().__init__()
        self.server = Server(pruning=MEDIAN, maxFailed=2)
        self.operator = Operator(self.server)

    @rule()
    def look(self):
        self.operator.look()

    @rule()
    def hear(self):
        self.operator.hear()

    @rule(at=st.integers(1, 4), is_after=st.booleans())
    def die(self, at, is_after):
        deaths = self.operator.deaths
        deaths.at, deaths.is_after = len(deaths.writes) + at, is_after
        try:
            self.operator.settle()
        except DeadError:
            self.operator = Operator(self.server)
        self.operator.deaths.at = None

    @precondition(lambda self: self.server.unfinished())
    @rule(data=st.data(), values=st.lists(st.floats(-10, 10), min_size=1, max_size=4))
    def report(self, data, values):
        self.server.reports(data.draw(st.sampled_from(self.server.unfinished())), *values)

    @precondition(lambda self: self.server.unfinished())
    @rule(data=st.data(), end=st.sampled_from([("True", "Completed"), ("True", "Stopped"), ("False", "UserError")]))
    def end(self, data, end):
        self.server.ends(data.draw(st.sampled_from(self.server.unfinished())), *end)

    @precondition(lambda self: self.server.unfinished())
    @rule(data=st.data())
    def lose(self, data):
        self.server.loses(data.draw(st.sampled_from(self.server.unfinished())))

    @precondition(lambda self: self.server.pipelines)
    @rule(data=st.data())
    def delete(self, data):
        self.server.delete(data.draw(st.sampled_from(sorted(self.server.pipelines))))

    @rule(suspend=st.booleans())
    def suspend(self, suspend):
        if self.server.sweep["spec"].get("suspend", False) != suspend:
            self.server.change(suspend=suspend)

    @invariant()
    def no_trial_is_beyond_the_last(self):
        assert all(int(name.rpartition("-")[2]) < 6 for name in self.server.pipelines)

    def teardown(self):
        """Whatever happened, it comes to its end when nothing more does."""
        self.server.change(suspend=False)
        for pipeline in self.server.pipelines.values():
            pipeline["spec"].pop("suspend", None)
        self.operator = Operator(self.server)
        for _ in range(30):
            self.operator.hear()
            self.operator.settle()
            if standing(self.server)["status"] != "Unknown":
                return
            self.server.obeys()
            for name in self.server.unfinished():
                self.server.reports(name, 1.0)
                self.server.ends(name)
        raise AssertionError("it does not come to its end")


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@given(
    values=st.lists(st.lists(st.floats(0, 10), min_size=8, max_size=8), min_size=6, max_size=6),
    seen=st.lists(st.integers(1, 3), min_size=40, max_size=40),
    restarts=st.sets(st.integers(0, 39)),
)
@settings(max_examples=30, deadline=None)
def test_decisions_are_the_same_with_and_without_restarts(values, seen, restarts):
    """Given equal curves at equal times; who is started anew has asked all trials again before anything is decided."""

    def live(restarts):
        server = Server(pruning=MEDIAN, parallel=2, trials=6)
        operator, epochs = Operator(server), Counter()
        for turn, steps in enumerate(seen):
            if turn in restarts:
                operator = Operator(server)
            operator.hear()
            operator.settle()
            if standing(server)["status"] != "Unknown":
                break
            server.obeys()
            for name in server.unfinished():
                epochs[name] = min(8, epochs[name] + steps)
                server.reports(name, *values[int(name.rpartition("-")[2])][: epochs[name]])
                if epochs[name] == 8:
                    server.ends(name)
        return outcome_so_far(server)

    assert live(restarts) == live(set())


def outcome_so_far(server):
    return {name: (each["spec"].get("stop"), bool(each["status"])) for name, each in server.pipelines.items()}
