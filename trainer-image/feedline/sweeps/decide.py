"""What is to be done for a sweep, by what its trials are now: which are stopped, which are begun, and whether it ends.

Pure: whoever asks again, at another time or after any crash, with the same trials, gets the same answer. Trials that
exist are all that a sweep remembers; the next one is the smallest number that none has, so that one that was deleted
runs again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice

from feedline.manifest import Sweep
from feedline.sweeps.prune import pruned
from feedline.sweeps.trials import State, Trial

_ALIKE = 3
"""So many first trials that fail with one message fail for something that no parameter changes."""


@dataclass(frozen=True)
class Stop:
    """A trial that is to be ended early, and why."""

    index: int
    message: str


@dataclass(frozen=True)
class Decision:
    """What is to be done.

    Attributes
    ----------
    stop
        Trials to end.
    start
        Numbers of trials to begin.
    is_finished
        Whether the sweep is done, once what is to be stopped has ended.
    failure
        Why it failed; "" where it did not.
    """

    stop: tuple[Stop, ...] = ()
    start: tuple[int, ...] = ()
    is_finished: bool = False
    failure: str = ""


def decide(sweep: Sweep, trials: Sequence[Trial]) -> Decision:
    """Return what is to be done; `trials` are all that there are, in any order."""
    trials = sorted(trials, key=lambda each: each.index)
    running = [each for each in trials if each.state == State.RUNNING]
    if failure := _failure(sweep, trials):
        stop = tuple(Stop(each.index, "the sweep has failed") for each in running)
        return Decision(stop=stop, is_finished=True, failure=failure)
    stop = tuple(_stops(sweep, trials, running))
    known = {each.index for each in trials}
    coming = (index for index in count() if index not in known)
    room = min(sweep.parallel - len(running) + len(stop), sweep.trials - len(known))
    start = tuple(index for index in islice(coming, max(0, room)) if index < sweep.trials)
    return Decision(stop, start, is_finished=not start and len(running) == len(stop))


def _stops(sweep: Sweep, trials: Sequence[Trial], running: Sequence[Trial]) -> list[Stop]:
    found: list[Stop] = []
    for trial in running:
        # One that is stopped now is running no more for those that come after it: one of them is to go on.
        others = [each for each in trials if each is not trial]
        left = [
            each for each in others if each.state != State.RUNNING or each.index not in {stop.index for stop in found}
        ]
        if (why := pruned(trial, others, sweep.objective, sweep.pruning)) and any(
            each.state in (State.COMPLETE, State.RUNNING) for each in left
        ):
            found.append(Stop(trial.index, why))
    return found


def _failure(sweep: Sweep, trials: Sequence[Trial]) -> str:
    failed = [each for each in trials if each.state == State.FAILED]
    first = trials[:_ALIKE]
    if len(first) == _ALIKE and all(each.state == State.FAILED for each in first):
        messages = {each.message for each in first}
        if len(messages) == 1:
            return f"the first {_ALIKE} trials failed alike: {messages.pop()}"
    if len(failed) > sweep.max_failed:
        return (
            f"{len(failed)} trials failed, and spec.maxFailed is {sweep.max_failed}; the last one, "
            f"{sweep.name}-{failed[-1].index}: {failed[-1].message}"
        )
    return ""
