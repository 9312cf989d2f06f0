"""The timeline, by a clock that the tests move: what is waiting, what is a step, and what is neither."""

import time

import pytest
from clocks import HandClock

from feedline.training.snapshot import Spans
from feedline.training.timeline import HostClock, Kind, Timeline


class Watched:
    """A timeline, and everything it told."""

    def __init__(self):
        self.clock = HandClock()
        self.waits, self.steps = [], []
        self.timeline = Timeline(self.clock, self.waits.append, self.steps.append)

    def ask(self, after=0.0):
        self.clock.now += after
        self.timeline.ask()

    def give(self, after):
        self.clock.now += after
        self.timeline.give()

    def batch(self, wait, step):
        """Wait for a batch, and work on it; the step counts with the next `ask`."""
        self.ask()
        self.give(after=wait)
        self.clock.now += step


@pytest.fixture
def watched():
    return Watched()


def test_waiting_is_from_asking_to_having_and_a_step_from_having_to_asking(watched):
    for wait, step in ((9, 90), (1, 10), (2, 20), (4, 40)):
        watched.batch(wait, step)
    watched.ask()
    assert (watched.waits, watched.steps) == ([1, 2, 4], [10, 20, 40])
    assert (watched.timeline.waits.total, watched.timeline.steps.total) == (7, 70)
    assert (watched.timeline.waits.count, watched.timeline.steps.count) == (3, 3)


def test_the_first_batch_and_the_first_step_are_apart(watched):
    watched.batch(wait=9, step=90)
    watched.ask()
    assert (watched.timeline.waits.first, watched.timeline.steps.first) == (9, 90)
    assert (watched.waits, watched.steps) == ([], [])


def test_nothing_is_known_of_a_run_that_has_not_begun(watched):
    assert watched.timeline.waits.first is None
    assert watched.timeline.waits.percentiles() == (0.0, 0.0, 0.0)


def test_what_lies_between_epochs_is_neither(watched):
    for _ in range(2):
        watched.batch(wait=1, step=10)
        watched.batch(wait=1, step=10)
        watched.ask()  # the epoch has no more
        watched.timeline.end()
        watched.clock.now += 1000
    assert (watched.timeline.waits.total, watched.timeline.steps.total) == (3, 30)


def test_the_last_step_of_an_epoch_that_nobody_asks_after_counts_up_to_its_mark(watched):
    watched.batch(wait=1, step=10)
    watched.batch(wait=1, step=10)
    watched.timeline.mark()
    watched.clock.now += 1000
    watched.timeline.end()
    assert watched.steps == [10]


def test_an_epoch_left_without_a_mark_loses_its_last_step(watched):
    watched.batch(wait=1, step=10)
    watched.batch(wait=1, step=10)
    watched.timeline.end()
    assert watched.steps == []


def test_the_mark_of_an_earlier_step_is_not_taken_for_the_last_one(watched):
    watched.batch(wait=1, step=10)
    watched.timeline.mark()
    watched.batch(wait=1, step=20)
    watched.timeline.end()
    assert watched.steps == []


def test_an_end_without_a_batch_says_nothing(watched):
    watched.timeline.mark()
    watched.timeline.end()
    assert (watched.timeline.waits.first, watched.timeline.steps.first) == (None, None)


def test_it_tells_when_the_loop_is_blocked(watched):
    asking = [watched.timeline.asking]
    watched.ask()
    asking.append(watched.timeline.asking)
    watched.give(after=1)
    asking.append(watched.timeline.asking)
    watched.ask()
    watched.timeline.end()
    asking.append(watched.timeline.asking)
    assert asking == [False, True, False, False]


def test_durations_of_a_device_count_in_order_when_the_device_has_come_so_far(watched):
    watched.clock.reached = -1.0
    watched.batch(wait=1, step=10)
    watched.batch(wait=2, step=20)
    watched.ask()
    assert watched.timeline.waits.first is None
    watched.clock.reached = 12.0  # up to the second ask's step, not to the second batch
    watched.ask()
    assert (watched.timeline.waits.first, watched.timeline.steps.first, watched.waits) == (1, 10, [])
    watched.clock.reached = 1000.0
    watched.ask()
    assert (watched.waits, watched.steps) == ([2], [20])


def test_a_timeline_of_its_own_takes_the_host_clock():
    timeline = Timeline()
    for _ in range(3):
        timeline.ask()
        timeline.give()
    timeline.ask()
    assert (timeline.waits.count, timeline.steps.count) == (3 - 1, 3 - 1)
    assert timeline.waits.total >= 0


def test_host_stamps_are_known_at_once_and_never_run_backwards():
    clock = HostClock()
    start, stop = clock.stamp(), clock.stamp()
    assert clock.known(stop)
    assert clock.seconds(start, stop) >= 0


def test_the_first_duration_is_kept_apart_and_not_observed():
    observed = []
    kind = Kind(observed.append)
    for seconds in (1e9, 1.0, 3.0):
        kind.add(seconds)
    assert observed == [1.0, 3.0]
    assert kind.spans() == Spans(1e9, 2, 4.0, kind.percentiles())
    assert kind.percentiles()[0] == 2.0


@pytest.fixture
def host(monkeypatch, watched):
    """Have the host's clock be the one that the test moves."""
    monkeypatch.setattr(time, "perf_counter", lambda: watched.clock.now)


@pytest.mark.usefixtures("host")
def test_a_wait_that_goes_on_counts_but_the_one_for_the_first_batch(watched):
    watched.ask()
    watched.clock.now += 9
    assert watched.timeline.waiting == 0
    watched.give(after=0)
    watched.ask(after=1)
    watched.clock.now += 7
    assert watched.timeline.waiting == 7
    watched.give(after=1)
    assert watched.timeline.waiting == 0


@pytest.mark.usefixtures("host")
def test_a_wait_that_is_broken_off_counts_for_good(watched):
    watched.batch(1, 1)
    watched.ask()
    watched.clock.now += 11
    watched.timeline.break_off()
    watched.timeline.end()
    watched.clock.now += 100
    assert watched.timeline.waiting == 11
