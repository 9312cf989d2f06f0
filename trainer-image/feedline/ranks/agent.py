"""Starts the ranks of this machine by torchrun's agent, and tells which of them ended first, and how."""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ADDRESS: Final = "127.0.0.1"
_KILL_SECONDS: Final = 5
_PR_SET_PDEATHSIG: Final = 1  # of linux/prctl.h


@dataclass(frozen=True)
class Ended:
    """How the ranks ended: the exit code of each that failed, by local rank, and which of them was the first."""

    codes: dict[int, int]
    first: int | None


def start_ranks(processes: int, command: list[str], folder: Path) -> Ended:
    """Run a command once a rank, with torchrun's variables, until all have ended; if one fails, the others are ended.

    Called by the main thread, whose signals stay what they are.

    Parameters
    ----------
    processes
        How many.
    command
        Program and arguments.
    folder
        Where the agent leaves files of its own.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    # It tells of ends in lines of its own; what there is to say is in the report.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        role="trainer",
        rdzv_backend="static",
        rdzv_endpoint=f"{ADDRESS}:{_free_port()}",
        rdzv_configs={"rank": 0, "timeout": 60},
        max_restarts=0,
        local_addr=ADDRESS,
        signals_to_handle="SIGQUIT",
        shutdown_timeout=_KILL_SECONDS,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
    )
    try:
        launch_agent(config, command[0], command[1:])
    except ChildFailedError as error:
        failures = error.failures.values()
        first = min(failures, key=lambda failure: failure.timestamp)
        return Ended({failure.local_rank: failure.exitcode for failure in failures}, first.local_rank)
    return Ended({}, None)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((ADDRESS, 0))
        return int(found.getsockname()[1])


def end_with_parent() -> None:
    """Have the kernel end this process when the one that has started it is gone, as by SIGKILL; on Linux.

    A rank has a session of its own, and would train on and keep its output locked.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


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
    return {"OMP_NUM_THREADS": str(max(1, threads // processes))} if said == str(threads) else {}
