"""Who called the API server, for what and when, from its audit log: the count that nobody can get wrong.

The server writes a call down before it answers it, so that what has been answered has been written.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

WRITES = frozenset({"create", "update", "patch", "delete"})


@dataclass(frozen=True)
class Call:
    """One call; times in seconds since 1970. `resource` has the subresource, as in `pods/status`."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    began: float
    ended: float


def read(log: Path, *, since: float = 0.0, user: str = "") -> list[Call]:
    """Return the calls that began at `since` or later, of one user or of all; watches and Leases aside.

    A Lease is renewed every two seconds whatever there is to do, and a watch is one call for any number of news.
    """
    with log.open(encoding="utf-8") as lines:
        calls = [_call(json.loads(line)) for line in lines if user in line]
    return [call for call in calls if call is not None and call.began >= since and user in ("", call.user)]


def kinds(calls: Iterable[Call]) -> dict[str, int]:
    """Return how many calls there were of each verb and resource, the most frequent first."""
    return dict(Counter(f"{call.verb} {call.resource}" for call in calls).most_common())


def _call(record: dict) -> Call | None:
    target = record.get("objectRef")
    if target is None or record["verb"] == "watch" or target["resource"] == "leases":
        return None
    resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
    return Call(
        user=record["user"]["username"],
        verb=record["verb"],
        resource=resource,
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=record["responseStatus"]["code"],
        began=_seconds(record["requestReceivedTimestamp"]),
        ended=_seconds(record["stageTimestamp"]),
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
