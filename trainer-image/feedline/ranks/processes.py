"""Starts the ranks of this machine, and tells which of them ended first, and how.

They are forked from one process that has imported what all of them need (`multiprocessing`'s fork server), and have
torchrun's variables. Importing torch and what its optimizers import takes seconds of a core, which each of them would
take for itself, at every start of the gang.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver
from multiprocessing.process import BaseProcess
from typing import Any, Final

import numpy as np

from feedline.errors import TemporaryError
from feedline.ranks.end import end_with_parent, prctl
from feedline.ranks.meeting import Meeting

_KILL_SECONDS: Final = 5
# A signal that comes just before a wait is heard after it.
_LOOK_SECONDS: Final = 0.1
_SAFE_PATH: Final = "PYTHONSAFEPATH"
_PR_SET_NAME: Final = 15  # of linux/prctl.h


@dataclass(frozen=True)
class Ended:
    """How the ranks of a machine ended.

    Attributes
    ----------
    codes
        The exit code of each that failed, by local rank, -n for a signal n.
    first
        Which of them was the first, None if none failed.
    """

    codes: dict[int, int] = field(default_factory=dict)
    first: int | None = None


def forking(modules: Sequence[str]) -> Any:
    """Return a context of `multiprocessing` whose processes are forked from one that has imported some modules.

    It ends with this process. None where there can be none.
    """
    # On macOS no process may fork that has torch.
    if sys.platform != "linux":
        return None
    forkserver.set_forkserver_preload(["feedline.ranks.server", *modules])
    # Ctrl-C is for all processes of a terminal, and this one would not outlive it before it ignores it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    safe = os.environ.get(_SAFE_PATH)
    # Or a file of the current folder would come before a module of the standard library that bears its name.
    os.environ[_SAFE_PATH] = "1"
    try:
        forkserver.ensure_running()
    except OSError:  # the path of its socket is too long
        return None
    finally:
        os.environ.pop(_SAFE_PATH) if safe is None else os.environ.update({_SAFE_PATH: safe})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return multiprocessing.get_context("forkserver")


class Ranks:
    """Those of this machine, from the moment at which one begins to import what they need.

    Parameters
    ----------
    module
        Its `main` is called in each of them, and returns the exit code.
    others
        What else is imported once for all of them, as far as it is there.
    """

    def __init__(self, module: str, others: Sequence[str] = ()) -> None:
        self._module = module
        self._context: Any = forking([module, *others]) or multiprocessing.get_context("spawn")

    def run(self, meeting: Meeting, processes: int) -> Ended:
        """Start them and wait until all have ended; if one fails, the others are ended.

        Parameters
        ----------
        meeting
            The machines that train together.
        processes
            How many ranks each of them has.

        Raises
        ------
        TemporaryError
            The process that forks them has ended.
        """
        ranks: list[BaseProcess] = []
        try:
            for variables in _variables(meeting, processes):
                ranks.append(self._context.Process(target=_be_rank, args=(self._module, {**os.environ, **variables})))
                ranks[-1].start()
            first = _first_failure(ranks)
        except (EOFError, ConnectionError) as error:
            raise TemporaryError("the process that starts those of the training has ended before they ran") from error
        finally:
            _end(ranks)
        return Ended({local: code for local, rank in enumerate(ranks) if (code := rank.exitcode)}, first)


def _variables(meeting: Meeting, processes: int) -> Iterator[dict[str, str]]:
    site = meeting.site
    world = str(site.nodes * processes)
    for local in range(processes):
        rank = str(site.node * processes + local)
        yield {
            "RANK": rank,
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": world,
            "LOCAL_WORLD_SIZE": str(processes),
            "GROUP_RANK": str(site.node),
            "GROUP_WORLD_SIZE": str(site.nodes),
            "ROLE_NAME": "trainer",
            "ROLE_RANK": rank,
            "ROLE_WORLD_SIZE": world,
            "MASTER_ADDR": meeting.address,
            "MASTER_PORT": str(meeting.port),
            "TORCHELASTIC_RUN_ID": meeting.name,
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_MAX_RESTARTS": "0",
            # Rank 0 opens no store where there is one.
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
        }


def _be_rank(module: str, variables: Mapping[str, str]) -> None:
    """Run a module's `main` in a process that is ended together with all that it starts."""
    os.setsid()
    end_with_parent()
    # What a process of its own would have for itself: chance, and a choice that the user's code may make.
    np.random.seed()  # noqa: NPY002 - that of whoever asks for no other
    multiprocessing.set_start_method(None, force=True)
    os.environ.clear()
    os.environ.update(variables)
    prctl(_PR_SET_NAME, f"rank {variables['RANK']}".encode())  # as ps and top show it
    code = importlib.import_module(module).main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A framework that waits for ranks that are gone must not keep this one.
    os._exit(code)


def _first_failure(ranks: Sequence[BaseProcess]) -> int | None:
    """Wait until all have ended well or one has not; return which."""
    running: dict[Any, int] = {rank.sentinel: local for local, rank in enumerate(ranks)}
    while running:
        for sentinel in connection.wait(running, _LOOK_SECONDS):
            local = running.pop(sentinel)
            ranks[local].join()
            if ranks[local].exitcode:
                return local
    return None


def _end(ranks: Sequence[BaseProcess]) -> None:
    """End those that run, with what they have started, at once where they do not hear that they should end."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = {rank: rank.pid for rank in ranks if rank.pid is not None and rank.is_alive()}
        for pid in left.values():
            _signal_all(pid, number)
        due = time.monotonic() + _KILL_SECONDS
        for rank in left:
            rank.join(max(due - time.monotonic(), 0))


def _signal_all(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.killpg(pid, number)
        except ProcessLookupError:  # it has just been forked
            os.kill(pid, number)


def rank_variables(processes: int, threads: int) -> dict[str, str]:
    """Return what ranks find in their environment besides torchrun's own.

    Parameters
    ----------
    processes
        How many ranks there are here.
    threads
        How many threads may compute on this machine.
    """
    said = os.environ.get("OMP_NUM_THREADS", str(threads))
    # Where it says as many as there are, feedline has set it, for one process.
    own = {"OMP_NUM_THREADS": str(max(1, threads // processes))} if said == str(threads) else {}
    # It tells each try to connect in lines of its own, and reads this when it is imported.
    return {"TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"), **own}
