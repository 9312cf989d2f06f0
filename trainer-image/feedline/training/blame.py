"""Who began it where the ranks of a machine have ended.

Each rule looks for one cause, and the first that finds it is right. So their order is that of belief: an error of a
rank's own before a death, a death before the end of others.
"""

import contextlib
import json
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from feedline.contract import ExitCode, Report
from feedline.manifest import Manifest
from feedline.ranks import Ended
from feedline.training.lost import by_signal
from feedline.training.outcome import failure_report
from feedline.training.ranks_folder import RanksFolder

_DIED_BY_US: Final = frozenset({-signal.SIGTERM, -signal.SIGKILL, ExitCode.TERMINATED})


class End(NamedTuple):
    """How the ranks of a machine ended, and whether it was by themselves: done, at fault, or asked to stop."""

    report: Report
    is_own: bool


class _Scene(NamedTuple):
    """What is found when all ranks of a machine have ended; `failed` are those that were not ended for another."""

    document: Manifest
    folder: RanksFolder
    ranks: Sequence[int]
    reports: Mapping[int, Report]
    codes: Mapping[int, int]
    failed: Sequence[int]

    def end(self, rank: int, code: int, message: str, *, is_own: bool = True) -> End:
        told = message if message.startswith("rank ") else f"rank {rank}: {message}"
        return End({**failure_report(self.document, code, told), "rank": rank}, is_own)


def judged(document: Manifest, folder: RanksFolder, ended: Ended, ranks: Sequence[int]) -> End:
    """Return the report of the ranks of this machine, with exit code, reason and message of the one that began it.

    Parameters
    ----------
    ranks
        Those that ran here.
    """
    reports = _reports(folder, ranks)
    codes = {rank: ended.codes.get(local, 0) for local, rank in enumerate(ranks)}
    first = None if ended.first is None else ranks[ended.first]
    failed = [rank for rank, code in codes.items() if code and (code not in _DIED_BY_US or rank == first)]
    scene = _Scene(document, folder, ranks, reports, codes, failed)
    end = next((found for rule in _RULES if (found := rule(scene)) is not None), None)
    numbers = reports.get(ranks[0]) or failure_report(document, ExitCode.TEMPORARY, f"rank {ranks[0]} left no report")
    return End(numbers, is_own=True) if end is None else End({**numbers, **end.report}, end.is_own)


def _reports(folder: RanksFolder, ranks: Sequence[int]) -> dict[int, Report]:
    found: dict[int, Report] = {}
    for rank in ranks:
        with contextlib.suppress(OSError, ValueError):
            found[rank] = json.loads(folder.report(rank).read_text())
    return found


def _hung(scene: _Scene) -> End | None:
    for rank in scene.ranks:
        if (told := scene.folder.hung(rank)) is not None:
            return scene.end(rank, ExitCode.TEMPORARY, told)
    return None


def _raised(scene: _Scene) -> End | None:
    culprit = scene.folder.culprit()
    if culprit is None or culprit not in scene.reports:
        return None
    report = scene.reports[culprit]
    return scene.end(culprit, report["exitCode"], report["message"])


def _left_early(scene: _Scene) -> End | None:
    for rank, code in scene.codes.items():
        if code == 0 and rank not in scene.reports:
            message = "ended with exit code 0 in the middle of the training: end it by returning from the function"
            return scene.end(rank, ExitCode.USER_ERROR, f"rank {rank} {message}")
    return None


def _killed(scene: _Scene) -> End | None:
    for rank in scene.failed:
        if (code := scene.codes[rank]) >= 0 or scene.folder.is_victim(rank):
            continue
        if code == -signal.SIGABRT and scene.folder.uses_nccl():
            told = f"rank {rank} was ended by SIGABRT, as NCCL does where another rank does not answer"
            return scene.end(rank, ExitCode.TEMPORARY, told, is_own=False)
        return scene.end(rank, 128 - code, f"rank {rank} was ended by {by_signal(-code)}")
    return None


def _stopped(scene: _Scene) -> End | None:
    """All ended at one step, as they were asked to, here or in another pod."""
    stop, first = scene.folder.stop_code(), scene.reports.get(scene.ranks[0])
    if not scene.failed or first is None or first["exitCode"] not in (stop, ExitCode.TERMINATED):
        return None
    told: Report = {"reason": first["reason"], "exitCode": first["exitCode"], "message": first["message"]}
    return End(told, is_own=stop is not None)


def _failed(scene: _Scene) -> End | None:
    """Return what else there is; a rank without an error of its own has ended because of others."""
    if not scene.failed:
        return None
    own = [rank for rank in scene.failed if not scene.folder.is_victim(rank)]
    rank = (own or scene.failed)[0]
    if rank in scene.reports:
        report = scene.reports[rank]
        if report["exitCode"] == ExitCode.OK:
            told = f"rank {rank} was done when the training ended before its time"
            return scene.end(rank, ExitCode.TERMINATED, told, is_own=False)
        return scene.end(rank, report["exitCode"], report["message"], is_own=bool(own))
    code = scene.codes[rank]
    return scene.end(rank, code, f"rank {rank} ended with exit code {code}, and left no report", is_own=bool(own))


_RULES: Final[tuple[Callable[[_Scene], End | None], ...]] = (_hung, _raised, _left_early, _killed, _stopped, _failed)
