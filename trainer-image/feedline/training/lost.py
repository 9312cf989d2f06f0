"""A process that helped the training and was ended by a signal: what libraries say of it, as exit code and message.

What the kernel does to a helper is no fault of the user's function: the run ends as if it had been done to itself. A
helper whose Python code raised is none of this module's.
"""

import re
import signal
import traceback
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from operator import itemgetter
from subprocess import CalledProcessError
from typing import Final

from feedline.contract import ExitCode

_SHORT_OF_MEMORY: Final = (
    "as the kernel does where memory is short: raise spec.resources.memory, or lower loader.batchSize or the number of "
    "workers (loader.threads, or num_workers of a DataLoader of your own)"
)
_MEANINGS: Final[dict[int, str]] = {
    signal.SIGKILL: _SHORT_OF_MEMORY,
    signal.SIGBUS: "as where a data file is cut short while it is mapped (write data to a new file and rename it), or "
    "where /dev/shm is full",
    **dict.fromkeys((signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE), "a fault in compiled code"),
}
_CODES: Final = {word: -each.value for each in signal.Signals for word in (each.name, signal.strsignal(each))}


def by_signal(number: int) -> str:
    """Return a signal's name and what it means to a person; "" where no signal has that number."""
    name = next((each.name for each in signal.Signals if each == number), "")
    return f"{name}, {_MEANINGS[number]}" if number in _MEANINGS else name


def lost_process(error: BaseException) -> tuple[int, str] | None:
    """Return exit code, 128 + n for a signal n, and message where an error began with such a process, else None."""
    ended_somehow = ""
    for who, code in (end for each in _with_causes(error) for end in _ends(each)):
        if code is None:
            ended_somehow = ended_somehow or who
            continue
        number = -code if code < 0 else code - 128  # Python's way to say it, and a shell's
        signaled = by_signal(number)
        return (128 + number, f"{who} was ended by {signaled}") if signaled else None  # else it ended itself
    # Mostly it is memory, and another attempt may do.
    return (ExitCode.TEMPORARY, f"{ended_somehow} was ended abruptly, {_SHORT_OF_MEMORY}") if ended_somehow else None


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, then what it was raised from or while handling, back to the one with which it began."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


_FORMS: Final = (
    # torch's handler of SIGCHLD, from wherever the main thread is; its words for a signal are those of strsignal(3).
    re.compile(r"(?P<who>DataLoader worker \(pid \d+\)) is killed by signal: (?P<signal>[^.]+)\."),
    # The same of a worker with a handler of its own, which ends it with 128 + n, as a shell does.
    re.compile(r"(?P<who>DataLoader worker \(pid \d+\)) exited unexpectedly with exit code (?P<code>\d+)\."),
    # torch.multiprocessing.spawn.
    re.compile(r"(?P<who>process \d+) terminated with signal (?P<signal>SIG\w+)"),
    # The pool of joblib.
    re.compile(r"(?P<who>A worker process) managed by the executor .*\b(?P<signal>SIG[A-Z]+)\(-\d+\)", re.DOTALL),
)
_GONE: Final = re.compile(r"DataLoader worker \(pid\(s\) [\d, ]+\)(?= exited unexpectedly)")


def _ends(error: BaseException) -> Iterator[tuple[str, int | None]]:
    """Yield which process ended, and its exit code, where this very error tells it; None where it does not say how.

    Mostly libraries have only words for it.
    """
    if isinstance(error, CalledProcessError):
        yield f"`{error.cmd if isinstance(error.cmd, str) else error.cmd[0]}`", error.returncode
    for form in _FORMS:
        if found := form.search(str(error)):
            words = found.groupdict()
            yield words["who"], _CODES.get(words["signal"]) if "signal" in words else int(words["code"])
    yield from _ended_workers(error)
    if found := _GONE.search(str(error)):
        yield found[0], None
    if isinstance(error, BrokenProcessPool):
        yield "a process of a process pool", None


def _ended_workers(error: BaseException) -> Iterator[tuple[str, int]]:
    """Yield the workers that have ended of the DataLoader through which an error came, those that were killed first.

    Where torch's handler of SIGCHLD is not there or has not run yet, an error says no more than that some are gone, or
    that the connection to one is. Their loader still has them.
    """
    holders = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    loaders = {id(each): each for each in holders if type(each).__name__ == "_MultiProcessingDataLoaderIter"}
    workers = [worker for loader in loaders.values() for worker in getattr(loader, "_workers", ())]
    if isinstance(error, (OSError, EOFError)):
        # A process lets go of its connections a moment before it has ended.
        wait([each.sentinel for each in workers], timeout=1)
    ended = [(f"DataLoader worker (pid {each.pid})", each.exitcode) for each in workers if each.exitcode is not None]
    yield from sorted(ended, key=itemgetter(1))
