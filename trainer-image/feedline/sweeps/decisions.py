"""What is to be done for a sweep, by what its trials are now: which are stopped, which are begun, and whether it ends.

Pure: whoever asks again, at another time or after any crash, with the same trials, gets the same answer. Trials that
exist are all that a sweep remembers; the next one is the smallest number that none has, so that one that was deleted
runs again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice

from feedline.manifest import Sweep
from feedline.sweeps.pruning import pruned
from feedline.sweeps.trials import State, Trial, confirmations, is_confirmation

_ALIKE = 3
"""So many first trials that fail with one message, before any has reported something, fail for the code."""


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
        Whether the sweep is done: nothing runs, and nothing is to begin, or it has failed.
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
        return Decision(is_finished=True, failure=failure)
    searching = [each for each in trials if not is_confirmation(each.index)]
    stop = tuple(_stops(sweep, searching))
    # One that is stopped still has to save itself, and takes the place of another until then.
    start = tuple(islice(_coming(sweep, searching, trials), max(0, sweep.parallel - len(running))))
    is_finished = not running and not start
    if is_finished and not any(each.state == State.COMPLETE for each in searching):
        last = trials[-1]
        failure = f"no trial came to its end with {sweep.objective.value}; {sweep.name}-{last.index}: {last.message}"
    return Decision(stop, start, is_finished=is_finished, failure=failure)


def _coming(sweep: Sweep, searching: Sequence[Trial], trials: Sequence[Trial]) -> Iterator[int]:
    """Yield the numbers of the trials that are to begin, in order: those that are left, and then confirmations."""
    known = {each.index for each in trials}
    left = sweep.trials - len(searching)
    yield from islice((index for index in count() if index not in known and index < sweep.trials), max(0, left))
    if left <= 0 and not any(each.state == State.RUNNING for each in searching):
        yield from (index for index in confirmations(sweep, searching) if index not in known)


def _stops(sweep: Sweep, trials: Sequence[Trial]) -> Iterator[Stop]:
    # One at least is to come to its end: how many could, besides the one that is looked at.
    left = sum(each.state in (State.COMPLETE, State.RUNNING) for each in trials) - 1
    for trial in [each for each in trials if each.state == State.RUNNING]:
        others = [each for each in trials if each is not trial]
        if left and (why := pruned(trial, others, sweep.objective, sweep.pruning)):
            left -= 1
            yield Stop(trial.index, why)


def _failure(sweep: Sweep, trials: Sequence[Trial]) -> str:
    failed, first = [each for each in trials if each.state == State.FAILED], trials[:_ALIKE]
    alike = len({each.message for each in first}) == 1 and all(each.state == State.FAILED for each in first)
    if len(first) == _ALIKE and alike and not any(each.curve for each in trials):
        return f"the first {_ALIKE} trials failed alike: {first[0].message}"
    if len(failed) > sweep.max_failed:
        return (
            f"{len(failed)} trials failed, and spec.maxFailed is {sweep.max_failed}; the last one, "
            f"{sweep.name}-{failed[-1].index}: {failed[-1].message}"
        )
    return ""
