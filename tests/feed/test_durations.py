"""Windows of durations and their percentiles."""

import numpy as np
import pytest

from feedline.feed import Durations


def test_before_the_first_there_are_zeros():
    assert Durations().percentiles() == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("count", [1, 2, 4096, 5000], ids=lambda count: f"{count} durations")
def test_percentiles_look_back_on_the_last_4096_durations(count):
    durations = Durations()
    told = [float(number) for number in range(count)]
    for seconds in told:
        durations.add(seconds)
    assert durations.percentiles() == pytest.approx(np.percentile(told[-4096:], (50, 95, 99)))
    assert (durations.count, durations.total) == (count, sum(told))
