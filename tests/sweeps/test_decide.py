"""What is done for a sweep: which trials begin and which are ended, whoever looks and however often they forget."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mergepatch import merge

from feedline.manifest import parse_sweep
from feedline.sweeps import State, Trial, best_of, decide, suggest

from .conftest import DOCUMENT

ROWS = 100


def trial(index, state=State.RUNNING, values=(), message=""):
    """Return a trial that reported a value after each epoch."""
    curve = tuple((ROWS * (epoch + 1), value) for epoch, value in enumerate(values))
    return Trial(index, {}, state, curve, ROWS, message)


def made(**spec):
    return parse_sweep(merge(DOCUMENT, {"spec": spec}))


def test_as_many_as_may_run_at_once_begin():
    sweep = made(parallel=3, trials=5)
    assert decide(sweep, []).start == (0, 1, 2)
    assert decide(sweep, [trial(0), trial(1, State.COMPLETE, [1])]).start == (2, 3)
    assert decide(sweep, [trial(index) for index in range(3)]).start == ()
    done = [trial(index, State.COMPLETE, [1]) for index in range(4)]
    assert decide(sweep, done).start == (4,)
    assert not decide(sweep, [*done, trial(4)]).is_finished
    assert decide(sweep, [*done, trial(4, State.COMPLETE, [1])]).is_finished


def test_a_trial_that_was_deleted_runs_again():
    done = [trial(index, State.COMPLETE, [1]) for index in range(5) if index != 2]
    assert decide(made(parallel=1, trials=5), done).start == (2,)


def test_failures_end_a_sweep_when_they_are_too_many():
    sweep = made(maxFailed=2)
    good = [trial(0, State.COMPLETE, [1])]
    failed = [trial(index, State.FAILED, message=f"why {index}") for index in range(1, 4)]
    assert decide(sweep, [*good, *failed[:2]]).failure == ""
    decision = decide(sweep, [*good, *failed, trial(4)])
    assert decision.failure == "3 trials failed, and spec.maxFailed is 2; the last one, lr-search-3: why 3"
    assert (decision.stop, decision.start, decision.is_finished) == ((), (), True), "the others only end, and may go on"


def test_a_sweep_of_which_no_trial_came_to_its_end_has_failed():
    failed = [trial(index, State.FAILED, message="why") for index in range(2)]
    decision = decide(made(trials=2), failed)
    assert decision.failure == "no trial came to its end with val_loss; lr-search-1: why"
    assert decide(made(trials=3), [*failed, trial(2, State.COMPLETE, [1])]).failure == ""


def test_the_first_trials_that_fail_alike_end_it_at_once():
    sweep = made(maxFailed=100)
    alike = [trial(index, State.FAILED, message="no module named digits") for index in range(3)]
    assert decide(sweep, alike).failure == "the first 3 trials failed alike: no module named digits"
    other = [*alike[:2], trial(2, State.FAILED, message="out of memory")]
    assert decide(sweep, other).failure == ""
    assert decide(sweep, [*alike[:2], trial(2, State.COMPLETE, [1])]).failure == ""
    assert decide(sweep, [*alike, trial(3, State.COMPLETE, [1])]).failure == "", "it is not the code, then"
    waiting = [trial(index) for index in range(3)]
    others = [trial(index, State.FAILED, message=f"why {index}") for index in range(3, 6)]
    assert decide(sweep, [*waiting, *others]).failure == "", "the first three have not failed"
    diverged = [trial(index, State.FAILED, [math.nan], "never a finite number") for index in range(3)]
    assert decide(sweep, diverged).failure == "", "those are the parameters"


MEDIAN = {"rule": "Median", "warmup": 2, "interval": 1, "minTrials": 3}


def stopped(sweep, trials):
    return {stop.index: stop.message for stop in decide(sweep, trials).stop}


def test_what_is_worse_than_the_median_of_what_others_had_there_is_ended():
    sweep = made(pruning=MEDIAN)
    others = [
        trial(0, State.COMPLETE, [3, 2, 1]),
        trial(1, State.COMPLETE, [3, 2.5, 1]),
        trial(2, State.PRUNED, [5, 4]),
    ]
    assert stopped(sweep, [*others, trial(3, values=[9, 3])]) == {
        3: "3 after 2 epochs; the median of 3 trials there is 2.5"
    }
    assert stopped(sweep, [*others, trial(3, values=[9, 2.5])]) == {}, "ties go on"
    assert stopped(sweep, [*others, trial(3, values=[9])]) == {}, "before the warmup none is compared"
    assert stopped(sweep, [*others, trial(3, values=[2, 9])]) == {}, "its best so far counts"
    assert stopped(sweep, [*others[:2], trial(3, values=[9, 9])]) == {}, "too few have come as far"
    assert stopped(sweep, [*others, trial(3, values=[math.nan, math.nan])]) == {
        3: "nothing after 2 epochs; the median of 3 trials there is 2.5"
    }


def test_what_others_had_there_is_compared_and_not_what_they_have_now():
    sweep = made(pruning=MEDIAN)
    late = [trial(index, State.COMPLETE, [9, 8, 1, 1]) for index in range(3)]
    assert stopped(sweep, [*late, trial(3, values=[9, 7])]) == {}
    assert list(stopped(sweep, [*late, trial(3, values=[9, 7, 7])])) == [3]


def test_what_cannot_be_reckoned_with_is_worse_than_all_else():
    sweep = made(objective={"goal": "Maximize"}, pruning={"rule": "Median", "warmup": 1, "minTrials": 2}, trials=9)
    others = [trial(0, State.COMPLETE, [math.nan]), trial(1, State.COMPLETE, [math.inf])]
    assert decide(sweep, [*others, trial(2, values=[0.9])]).stop == ()
    better = [trial(index, State.COMPLETE, [0.5]) for index in range(3, 6)]
    stopped = decide(sweep, [*better, trial(6, values=[math.inf]), trial(7, values=[0.9])]).stop
    assert [stop.index for stop in stopped] == [6]


def test_larger_is_better_where_it_is_so():
    sweep = made(pruning=MEDIAN, objective={"value": "accuracy", "goal": "Maximize"})
    others = [trial(index, State.COMPLETE, [0.1, 0.5]) for index in range(3)]
    assert list(stopped(sweep, [*others, trial(3, values=[0.1, 0.4])])) == [3]
    assert stopped(sweep, [*others, trial(3, values=[0.1, 0.6])]) == {}


def test_one_in_so_many_goes_on_by_halving():
    sweep = made(pruning={"rule": "SuccessiveHalving", "warmup": 1, "reductionFactor": 3, "minTrials": 3}, parallel=9)
    others = [trial(index, State.COMPLETE, [float(index)]) for index in range(5)]
    assert stopped(sweep, [*others, trial(5, values=[1.5])]) == {
        5: "1.5 after 1 epoch; the best 2 of 6 trials there go on"
    }
    assert stopped(sweep, [*others, trial(5, values=[0.5])]) == {}
    assert stopped(sweep, [*others, trial(5, values=[0.5, 99.0])]) == {}, "the next comparison is after 3 epochs"


def test_the_last_that_could_come_to_its_end_goes_on():
    sweep = made(pruning=MEDIAN, parallel=2)
    others = [trial(index, State.PRUNED, [1, 1]) for index in range(3)]
    assert stopped(sweep, [*others, trial(3, values=[9, 9])]) == {}
    both = [trial(3, values=[9, 9]), trial(4, values=[8, 8])]
    assert list(stopped(sweep, [*others, *both])) == [3]


def test_failed_trials_are_not_compared_with():
    sweep = made(pruning=MEDIAN)
    others = [trial(index, State.FAILED, [1, 1], f"why {index}") for index in range(3)]
    assert stopped(sweep, [*others, trial(3, State.COMPLETE, [1, 1]), trial(4, values=[9, 9])]) == {}


def test_the_place_of_one_that_is_stopped_is_free_when_it_is_gone():
    sweep = made(pruning=MEDIAN, parallel=1)
    others = [trial(index, State.COMPLETE, [1, 1]) for index in range(3)]
    decision = decide(sweep, [*others, trial(3, values=[9, 9])])
    assert [stop.index for stop in decision.stop] == [3]
    assert decision.start == ()


def test_the_best_is_one_that_came_to_its_end():
    objective = made().objective
    trials = [trial(0, State.PRUNED, [0.1]), trial(1, State.COMPLETE, [3, 0.5, 2]), trial(2, State.COMPLETE, [0.5])]
    assert best_of(trials, objective).index == 1
    assert best_of([trials[0], trial(3, State.COMPLETE, [math.nan])], objective) is None


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    rule=st.sampled_from(["None", "Median", "SuccessiveHalving"]),
    parallel=st.integers(1, 5),
    looks=st.lists(st.integers(1, 4), min_size=1, max_size=20),
)
def test_a_sweep_ends_with_each_trial_once_however_often_it_is_looked_at(seed, rule, parallel, looks):
    """Trials go on between looks, at their own pace; whoever looks knows nothing but what they are then."""
    chance = random.Random(seed)
    sweep = made(pruning={"rule": rule, "minTrials": 2}, parallel=parallel, trials=9)
    curves = {index: [chance.random() for _ in range(5)] for index in range(9)}
    trials, begun = {}, []
    for turn in range(500):
        decision = decide(sweep, chance.sample(list(trials.values()), len(trials)))
        for stop in decision.stop:
            assert trials[stop.index].state == State.RUNNING
            trials[stop.index] = trial(stop.index, State.PRUNED, [v for _, v in trials[stop.index].curve], stop.message)
        for index in decision.start:
            begun.append(index)
            trials[index] = trial(index)
        assert sum(each.state == State.RUNNING for each in trials.values()) <= parallel
        if decision.is_finished:
            break
        for index, each in list(trials.items()):
            if each.state == State.RUNNING:
                epochs = min(5, len(each.curve) + chance.randrange(looks[turn % len(looks)] + 1))
                state = State.COMPLETE if epochs == 5 else State.RUNNING
                trials[index] = trial(index, state, curves[index][:epochs])
    assert sorted(begun) == list(range(9)), "each trial begins once"
    assert all(each.state in (State.COMPLETE, State.PRUNED) for each in trials.values())
    assert any(each.state == State.COMPLETE for each in trials.values())


@pytest.mark.parametrize("algorithm", ["Random", "TPE"])
def test_a_sweep_that_begins_anew_at_any_time_has_the_same_trials(algorithm):
    def run(forgets):
        sweep, trials = made(algorithm={"type": algorithm}, parallel=1, trials=14), []
        while not (decision := decide(sweep, trials)).is_finished:
            if forgets:
                sweep = made(algorithm={"type": algorithm}, parallel=1, trials=14)
            (index,) = decision.start
            values = suggest(sweep, index, trials)
            trials.append(Trial(index, values, State.COMPLETE, ((ROWS, values["learningRate"]),), ROWS))
        return trials

    assert run(forgets=True) == run(forgets=False)


def with_confirmations(trials, **outcomes):
    """Return trials and the confirmations of them, ``c1003=[0.5]``."""
    found = list(trials)
    for name, values in outcomes.items():
        index = int(name[1:])
        of = next(each for each in trials if each.index == index % 1000)
        again = trial(index, State.COMPLETE if values else State.RUNNING, values)
        found.append(replace(again, parameters=of.parameters))
    return found


def test_the_best_are_trained_once_more_when_all_have_ended():
    sweep = made(trials=4, parallel=2, confirm={"top": 2, "seeds": 2})
    values = suggest(sweep, 0, [])
    done = [
        replace(trial(index, State.COMPLETE, [value]), parameters=values) for index, value in enumerate([3, 1, 2, 9])
    ]
    assert decide(sweep, [*done[:3], trial(3)]).start == (), "one still runs"
    assert decide(sweep, done).start == (1001, 1002), "the best two, each with the first of its seeds"
    assert not decide(sweep, done).is_finished
    one = with_confirmations(done, c1001=[1.5], c1002=[])
    assert decide(sweep, one).start == (2001,)
    every = with_confirmations(done, c1001=[1.5], c1002=[1.1], c2001=[1.7], c2002=[1.3])
    assert decide(sweep, every).is_finished
    assert best_of(every, sweep.objective).index == 2, "it was the second, and is the best on average"
    other = [replace(each, parameters={}) if each.index == 2002 else each for each in every]
    other = [replace(each, parameters={}) if each.index == 1002 else each for each in other]
    assert best_of(other, sweep.objective).index == 1, "they are of an earlier trial 2, which was deleted"
    assert decide(made(trials=5, parallel=2, confirm={"top": 2, "seeds": 2}), every).start == (4,), (
        "one more was asked for"
    )


def test_a_confirmation_is_never_ended_early_nor_compared_with():
    sweep = made(trials=3, pruning=MEDIAN, confirm={"top": 1, "seeds": 1})
    done = [trial(index, State.COMPLETE, [3, 2, 1]) for index in range(3)]
    assert stopped(sweep, [*done, trial(1000, values=[9, 9])]) == {}
    running = [*done[:2], trial(2, values=[9, 2.5])]
    assert stopped(sweep, running) == {}, "two others are not three"
    assert stopped(sweep, [*running, trial(1000, State.COMPLETE, [3, 2, 1])]) == {}


def test_a_confirmation_has_the_parameters_of_what_it_confirms_and_other_seeds():
    sweep = made(trials=2, confirm={"top": 1, "seeds": 2})
    known = [Trial(index, suggest(sweep, index, []), State.COMPLETE, ((100, 1.0),), 100) for index in range(2)]
    values = suggest(sweep, 2001, known)
    assert values == known[1].parameters
    first, again = (sweep.pipeline_of(index, values)["spec"] for index in (1, 2001))
    assert again["train"]["seed"] == first["train"].get("seed", 0) + 2
    assert again["loader"]["shuffle"]["seed"] == first["loader"]["shuffle"]["seed"] + 2
    assert again["train"]["parameters"] == first["train"]["parameters"]
    assert suggest(sweep, 2005, known) is None, "there is no trial 5"
    seeded = made(
        parameters=[{"name": "seed", "path": "spec.train.seed", "int": {"min": 0, "max": 9}}],
        confirm={"top": 1, "seeds": 1},
    )
    assert seeded.pipeline_of(1003, {"seed": 3})["spec"]["train"]["seed"] == 4
    asked = made(algorithm={"type": "TPE"})
    assert suggest(asked, 5, known) == suggest(
        asked, 5, [*known, Trial(1000, values, State.COMPLETE, ((1, 9.0),), 100)]
    )
