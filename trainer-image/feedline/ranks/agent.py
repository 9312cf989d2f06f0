"""Starts the ranks of this machine by torchrun's agent, and tells which of them ended first, and how."""

import contextlib
import ctypes
import logging
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from feedline.ranks.meeting import Meeting

_KILL_SECONDS: Final = 5
_BEGIN_SECONDS: Final = 30
# Who ends when is ours to say, and waiting there hears no signal.
_BARRIER_SECONDS: Final = 1
_PR_SET_PDEATHSIG: Final = 1  # of linux/prctl.h


@dataclass(frozen=True)
class Ended:
    """How the ranks of a machine ended.

    Attributes
    ----------
    codes
        The exit code of each that failed, by local rank, -n for a signal n.
    first
        Which of them was the first, None if none failed.
    is_apart
        Whether the machines lost each other before a rank was started.
    """

    codes: dict[int, int] = field(default_factory=dict)
    first: int | None = None
    is_apart: bool = False


def start_ranks(meeting: Meeting, processes: int, command: list[str], folder: Path) -> Ended:
    """Run a command once a rank, with torchrun's variables, until all have ended; if one fails, the others are ended.

    Called by the main thread, whose signals stay what they are.

    Parameters
    ----------
    meeting
        The machines that train together.
    processes
        How many ranks each of them has.
    command
        Program and arguments.
    folder
        Where the agent leaves files of its own.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

    # They tell of ends in lines of their own; what there is to say is in the report.
    for module in ("agent.server.api", "agent.server.local_elastic_agent", "multiprocessing.api"):
        logging.getLogger(f"torch.distributed.elastic.{module}").setLevel(logging.CRITICAL)
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"
    site, address, port = meeting.site, meeting.address, meeting.port
    agent = LocalElasticAgent(
        WorkerSpec(
            role="trainer",
            local_world_size=processes,
            entrypoint=command[0],
            args=tuple(command[1:]),
            rdzv_handler=StaticTCPRendezvous(address, port, site.node, site.nodes, meeting.name, _BEGIN_SECONDS),
            max_restarts=0,
            monitor_interval=0.1,
            master_addr=address,
            master_port=port,
            local_addr=address,
        ),
        DefaultLogsSpecs(log_dir=str(folder)),
        exit_barrier_timeout=_BARRIER_SECONDS,
        shutdown_timeout=_KILL_SECONDS,
    )
    try:
        result = agent.run()
    except DistError:
        return Ended(is_apart=True)
    if not result.is_failed():
        return Ended()
    failures = result.failures.values()
    first = min(failures, key=lambda failure: failure.timestamp)
    return Ended({failure.local_rank: failure.exitcode for failure in failures}, first.local_rank)


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
