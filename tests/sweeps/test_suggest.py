"""The parameters of the next trial: within their space, the same for whoever asks, and better than by chance."""

import math
import statistics
import warnings

import pytest

from feedline.sweeps import State, Trial, suggest


def done(sweep, index, value_of, known):
    parameters = suggest(sweep, index, known)
    return Trial(index, parameters, State.COMPLETE, ((100, value_of(parameters)),), 100)


def test_nobody_is_warned_of_a_last_value_that_is_on_no_step(sweep):
    stepped = [{"name": "batch", "path": "spec.loader.batchSize", "int": {"min": 8, "max": 30, "step": 8}}]
    asked, known = sweep(algorithm={"type": "TPE", "seed": 1}, parameters=stepped), []
    with warnings.catch_warnings(action="error"):
        for index in range(20):
            known.append(done(asked, index, lambda values: values["batch"], known))
    assert {each.parameters["batch"] for each in known} == {8, 16, 24}


@pytest.mark.parametrize("algorithm", ["Random", "QuasiRandom", "TPE"])
def test_values_are_of_their_space_and_types(sweep, algorithm):
    known = []
    asked = sweep(algorithm={"type": algorithm, "seed": 1})
    for index in range(25):
        known.append(done(asked, index, lambda values: values["learningRate"], known))
        values = known[-1].parameters
        assert 1e-4 <= values["learningRate"] <= 1e-1
        assert type(values["batch"]) is int
        assert 8 <= values["batch"] <= 64
        assert repr(values["optimizer"]) in ("'sgd'", "'adamw'", "True", "1")
    assert len({repr(each.parameters) for each in known}) == 25
    assert len({repr(each.parameters["optimizer"]) for each in known}) == 4, "true and 1 are two choices"


@pytest.mark.parametrize("algorithm", ["Random", "QuasiRandom", "TPE"])
def test_whoever_asks_again_gets_the_same(sweep, algorithm):
    one, other = sweep(algorithm={"type": algorithm}), sweep(algorithm={"type": algorithm, "seed": 4})
    known = []
    for index in range(15):
        known.append(done(one, index, lambda values: values["learningRate"], known))
    again = [suggest(one, index, known[:index][::-1]) for index in range(15)]
    assert again == [each.parameters for each in known]
    assert suggest(other, 0, []) != again[0]


def test_a_point_of_a_grid_is_that_of_its_number(sweep):
    parameters = [
        {"name": "optimizer", "choice": {"values": ["a", "b"]}},
        {"name": "x", "choice": {"values": [1, 2, 3]}},
    ]
    asked = sweep(parameters=parameters, algorithm={"type": "Grid"})
    assert [suggest(asked, index, []) for index in range(6)] == [asked.point(index) for index in range(6)]


def test_quasi_random_values_are_spread(sweep):
    asked = sweep(algorithm={"type": "QuasiRandom"})
    logs = sorted(math.log10(suggest(asked, index, [])["learningRate"]) for index in range(32))
    eighths = [sum(-4 + part * 3 / 8 <= log < -4 + (part + 1) * 3 / 8 for log in logs) for part in range(8)]
    assert eighths == [4] * 8


def test_each_whole_number_has_as_much_room(sweep):
    asked = sweep(
        parameters=[{"name": "x", "int": {"min": 1, "max": 4}}], algorithm={"type": "QuasiRandom"}, trials=1000
    )
    found = [suggest(asked, index, [])["x"] for index in range(64)]
    assert [found.count(number) for number in (1, 2, 3, 4)] == [16] * 4


def test_trials_of_every_state_are_taken_into_account(sweep):
    asked = sweep(algorithm={"type": "TPE"})
    base = [suggest(sweep(), index, []) for index in range(12)]
    states = [State.COMPLETE, State.PRUNED, State.RUNNING, State.FAILED]
    curves = [((100, 0.5),), ((100, math.nan), (200, 2.0)), (), ((50, math.inf),)]
    known = [Trial(i, p, states[i % 4], curves[i % 4], 100) for i, p in enumerate(base)]
    suggest(asked, 12, known)
    all_failed = [Trial(i, p, State.COMPLETE, ((100, math.nan),), 100) for i, p in enumerate(base)]
    suggest(asked, 12, all_failed)


def best_after(asked, value_of, trials):
    known = []
    for index in range(trials):
        known.append(done(asked, index, value_of, known))
    return min(each.best(asked.objective) for each in known)


def test_tpe_learns_from_what_is_known(sweep):
    """The same budget as by chance, on a bowl whose bottom lies away from the middle; medians of five seeds."""
    parameters = [{"name": name, "float": {"min": "-5", "max": "5"}} for name in ("x", "y")]

    def bowl(values):
        return (values["x"] - 2) ** 2 + (values["y"] + 3) ** 2

    found = {
        algorithm: statistics.median(
            best_after(sweep(parameters=parameters, algorithm={"type": algorithm, "seed": seed}), bowl, 40)
            for seed in range(5)
        )
        for algorithm in ("TPE", "Random")
    }
    assert found["TPE"] < found["Random"] / 2
