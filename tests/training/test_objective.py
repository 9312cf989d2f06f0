"""The objective: its best, which is never a NaN, and a curve of at most 64 points."""

import math

from hypothesis import given
from hypothesis import strategies as st

from feedline.manifest import Objective
from feedline.training.objective import Tracked

VALUES = st.lists(st.floats(-10, 10) | st.just(math.nan), max_size=400)


def tracked(values, *, is_maximized=True):
    aim = Tracked(Objective("accuracy", is_maximized))
    return aim, [aim.add(step, value) for step, value in enumerate(values)]


@given(VALUES, st.booleans())
def test_the_best_is_the_first_of_the_best_numbers(values, is_maximized):
    aim, was_best = tracked(values, is_maximized=is_maximized)
    steps = [step for step, value in enumerate(values) if not math.isnan(value)]
    numbers = [(values[step] if is_maximized else -values[step], -step) for step in steps]
    if not numbers:
        assert aim.best is None
    else:
        assert aim.best == (-max(numbers)[1], values[-max(numbers)[1]])
        assert max(step for step, best in enumerate(was_best) if best) == aim.best[0]


@given(VALUES)
def test_the_curve_has_the_first_and_the_newest_and_at_most_64_points(values):
    aim, _ = tracked(values)
    steps = [step for step, _ in aim.curve()]
    assert len(steps) <= 64
    assert steps == sorted(set(steps))
    if values:
        assert (steps[0], steps[-1]) == (0, len(values) - 1)
        gaps = {after - before for before, after in zip(steps[:-1], steps[1:-1] or [], strict=False)}
        assert len(gaps) <= 1
    if len(values) <= 63:
        assert steps == list(range(len(values)))


@given(VALUES, st.integers(0, 400))
def test_one_that_goes_on_is_as_one_that_was_never_ended(values, at):
    whole, _ = tracked(values)
    before, _ = tracked(values[:at])
    after = Tracked(before.objective)
    after.restore(before.state())
    for step, value in enumerate(values[at:], start=len(values[:at])):
        after.add(step, value)
    assert repr((after.newest, after.best, after.curve())) == repr((whole.newest, whole.best, whole.curve()))


def test_the_best_of_another_objective_is_left_aside():
    aim = Tracked(Objective("loss", is_maximized=False))
    aim.restore(tracked([1.0, 2.0])[0].state())
    assert (aim.newest, aim.best, aim.curve()) == (None, None, [])
