"""The pods of a pipeline on several nodes: one attempt for all of them, and whose end began that of the others.

They start and end as one. When one of them ends before its time, the others wait to be taken away, and are: so they
count for nothing, and the Job stays, with the quota that a queue has given it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Final

from feedline.contract import FATAL_EXIT_CODES, ExitCode
from feedline_operator.reconcile import times
from feedline_operator.reconcile.attempts import KEPT, Attempt, disruption, of_pod, started, uids
from feedline_operator.reconcile.observed import Object, container_state, deleting, ended, index_of


class _Belief(IntEnum):
    """How much an end says of itself that it began the others'; the least one is believed."""

    FATAL = 0
    SIGNAL = 1
    FAILED = 2
    TAKEN_AWAY = 3
    TEMPORARY = 4  # also of whoever has waited in vain for the others
    TERMINATED = 5
    WELL = 6


_GONE_MESSAGE: Final = "a pod was gone before its end was seen"


def update(
    recorded: Sequence[Object], pods: Sequence[Object], now: datetime, nodes: int, *, is_leaving: bool
) -> list[Attempt]:
    """Return the record with what the pods now say.

    Parameters
    ----------
    recorded
        The attempts as they were written last, newest first.
    pods
        Those of the Job, also some of earlier ones.
    nodes
        How many pods train together.
    is_leaving
        Whether the Job itself ends all of them.
    """
    attempts = [dict(attempt) for attempt in recorded]
    current = attempts[0] if attempts and "endTime" not in attempts[0] else None
    fresh = _fresh(attempts, pods)
    while current is not None or fresh:
        if current is None:
            current = {"index": attempts[0]["index"] + 1 if attempts else 1, "members": []}
            attempts.insert(0, current)
        others = _successors(current, fresh, pods, nodes)
        current["members"] = [*current["members"], *_uids(pod for pod in fresh if pod not in others)]
        _describe(current, pods, now, is_leaving=is_leaving)
        if not others or "endTime" not in current:
            break
        current, fresh = None, others
    since = _since(attempts)
    there = {pod["metadata"]["uid"]: pod["metadata"]["creationTimestamp"] for pod in pods if "gone" not in pod}
    for number, attempt in enumerate(attempts):
        members = attempt.get("members", ())
        if number > 1:  # only those that would be taken for new ones: it was a moment ago
            members = [uid for uid in members if there.get(uid, "") >= since]
            attempt["members"] = members
        if "endTime" in attempt and there.keys().isdisjoint(members):
            attempt.pop("members", None)
    return attempts[:KEPT]


def failures(before: Sequence[Object], after: Iterable[Attempt], pods: Sequence[Object]) -> int:
    """Return how many attempts have ended since that count as failures: those that no disruption began."""
    known = {attempt["index"] for attempt in before if "endTime" in attempt}
    by_uid = {pod["metadata"]["uid"]: pod for pod in pods}
    ends = [attempt for attempt in after if "endTime" in attempt and attempt["index"] not in known]
    return sum(_belief(by_uid.get(attempt["uid"])) not in (_Belief.TAKEN_AWAY, _Belief.WELL) for attempt in ends)


def is_plain(attempt: Object) -> bool:
    """Return whether nothing that may be heard in a moment can change who began the end of an attempt."""
    code = attempt.get("exitCode")
    return code not in (None, ExitCode.TEMPORARY, ExitCode.TERMINATED, *FATAL_EXIT_CODES)


def left_over(attempts: Sequence[Object], pods: Iterable[Object]) -> list[Object]:
    """Return the pods that run on behind the end of their attempt, and are not being taken away yet.

    Where that end is the Job's, well or not, it takes them away itself.
    """
    if attempts and attempts[0].get("exitCode") in (ExitCode.OK, *FATAL_EXIT_CODES):
        return []
    over = {uid for attempt in attempts if "endTime" in attempt for uid in attempt.get("members", ())}
    return [pod for pod in pods if pod["metadata"]["uid"] in over and not ended(pod) and not deleting(pod)]


def cannot_go_on(pods: Iterable[Object]) -> bool:
    """Return whether a pod but the first has ended well, which is never replaced, and the first has not."""
    well = {index_of(pod) for pod in pods if container_state(pod).get("terminated", {}).get("exitCode") == ExitCode.OK}
    return bool(well) and 0 not in well


def running(attempts: Sequence[Object], pods: Iterable[Object]) -> dict[int, Object]:
    """Return the pods that train together now or wait for each other, by index."""
    members = set(attempts[0].get("members", ())) if attempts and "endTime" not in attempts[0] else set()
    return {
        index_of(pod): pod
        for pod in pods
        if pod["metadata"]["uid"] in members and not deleting(pod) and "running" in container_state(pod)
    }


def _fresh(attempts: Sequence[Attempt], pods: Iterable[Object]) -> list[Object]:
    """Return the pods that have started and are of no attempt yet."""
    known, since = uids(attempts), _since(attempts)
    return [
        pod
        for pod in pods
        if "gone" not in pod
        and pod["metadata"]["uid"] not in known
        and started(pod)
        and pod["metadata"]["creationTimestamp"] >= since
    ]


def _since(attempts: Sequence[Attempt]) -> str:
    """Return when the attempt before the newest began; pods that failed before are kept for longer than attempts."""
    return max((attempt.get("startTime", "") for attempt in attempts[1:]), default="")


def _successors(attempt: Attempt, fresh: Sequence[Object], pods: Iterable[Object], nodes: int) -> list[Object]:
    """Return those of the pods not seen before that take the place of another one of an attempt."""
    members = [pod for pod in pods if pod["metadata"]["uid"] in attempt["members"]]
    taken = {index_of(pod) for pod in members}
    if len(members) < len(attempt["members"]) and len(attempt["members"]) + len(fresh) > nodes:
        # Nobody knows any more which places those had that are gone.
        return list(fresh)
    found = []
    for pod in sorted(fresh, key=lambda pod: str(pod["metadata"]["creationTimestamp"])):
        if index_of(pod) in taken:
            found.append(pod)
        taken.add(index_of(pod))
    return found


def _uids(pods: Iterable[Object]) -> list[str]:
    return [pod["metadata"]["uid"] for pod in pods]


def _describe(attempt: Attempt, pods: Sequence[Object], now: datetime, *, is_leaving: bool) -> None:
    """Say of an attempt what its pods say, and, where one of them has ended it, how."""
    by_uid = {pod["metadata"]["uid"]: pod for pod in pods}
    members = [by_uid.get(uid) for uid in attempt["members"]]
    has_ended, pod = _end(members, is_leaving=is_leaving)
    if not has_ended:
        there = [pod for pod in members if pod is not None]
        attempt.update(of_pod(min(there, key=index_of), now) if there else {})
        return
    if pod is None:
        attempt.update(endTime=times.write(now), reason="Deleted", message=_GONE_MESSAGE)
        return
    told = of_pod(pod, now)
    attempt.update(told, startTime=attempt.get("startTime") or told.get("startTime") or times.write(now))
    if not ended(pod):
        attempt.update(
            endTime=times.write(now),
            reason=disruption(pod) or "Deleted",
            message=f"pod {told['pod']} is being taken off node {told.get('node', '')}",
        )


def _end(members: Sequence[Object | None], *, is_leaving: bool) -> tuple[bool, Object | None]:
    """Return whether an attempt has ended, and the pod that began that, None for one that is gone."""
    for pod in members:
        if pod is not None and index_of(pod) == 0 and _belief(pod) is _Belief.WELL:
            return True, pod
    over = [pod for pod in members if _is_over(pod, is_leaving=is_leaving)]
    if not over:
        return False, None
    pod = min(over, key=_order)
    began_it = _belief(pod) < _Belief.TAKEN_AWAY or not is_leaving
    return began_it or len(over) == len(members), pod


def _is_over(pod: Object | None, *, is_leaving: bool) -> bool:
    """Return whether a pod has ended before its time, or is about to."""
    if pod is None:
        return True
    return _belief(pod) is not _Belief.WELL and (ended(pod) or (deleting(pod) and not is_leaving))


def _order(pod: Object | None) -> tuple[int, str, int]:
    finished = "" if pod is None else container_state(pod).get("terminated", {}).get("finishedAt") or ""
    return _belief(pod), finished, 0 if pod is None else index_of(pod)


def _belief(pod: Object | None) -> _Belief:
    code = None if pod is None else container_state(pod).get("terminated", {}).get("exitCode")
    if code == ExitCode.OK:
        return _Belief.WELL
    if pod is None or code is None or disruption(pod) or deleting(pod):
        return _Belief.TAKEN_AWAY
    if code in FATAL_EXIT_CODES:
        return _Belief.FATAL
    if code == ExitCode.TEMPORARY:
        return _Belief.TEMPORARY
    if code == ExitCode.TERMINATED:
        return _Belief.TERMINATED
    return _Belief.SIGNAL if code > 128 else _Belief.FAILED
