"""What the API server wrote down of a user's requests."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.api import ApiCluster


@dataclass(frozen=True)
class Asked:
    """A request that asks for a resource: `resource` with its subresource, `code` what was answered."""

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    code: int


def size(cluster: ApiCluster) -> int:
    """Return where the audit log ends now, for `asked`."""
    return cluster.audit_log.stat().st_size


def asked(cluster: ApiCluster, user: str, since: int = 0) -> Iterator[Asked]:
    """Iterate over a user's requests for resources since a place in the log; discovery is none of them."""
    with cluster.audit_log.open("rb") as log:
        log.seek(since)
        for line in log:
            # Most of the log is about others.
            if user.encode() not in line:
                continue
            record = json.loads(line)
            about = record.get("objectRef")
            if record["user"]["username"] != user or about is None:
                continue
            resource = about["resource"] + (f"/{about['subresource']}" if "subresource" in about else "")
            yield Asked(
                record["verb"],
                about.get("apiGroup", ""),
                resource,
                about.get("namespace", ""),
                about.get("name", ""),
                record.get("responseStatus", {}).get("code", 0),
            )
