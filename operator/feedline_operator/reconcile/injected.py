"""A pod that goes on when its trainer has ended: something put a container of its own into it, such as a mesh's proxy.

Kubernetes ends a pod when all its containers have, so the Job would never end, and the pod hold its accelerators. The
pipeline ends as its trainer did. (Sidecars that are init containers with `restartPolicy: Always` end by themselves.)
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from feedline.contract import CONTAINER, FATAL_EXIT_CODES, MESHES, ExitCode
from feedline_operator.reconcile import times
from feedline_operator.reconcile.attempts import OUT_OF_MEMORY, disruption
from feedline_operator.reconcile.observed import Object, container_state, deleting
from feedline_operator.reconcile.outcome import COMPLETED, RETRIES_EXHAUSTED, Outcome, failed

PATIENCE_SECONDS: Final = 20
"""A container that sees the trainer end, as some injected ones do, has this long to end as well."""
_ANNOTATIONS: Final[Mapping[str, str]] = {
    **MESHES,
    "vault-agent": 'vault.hashicorp.com/agent-pre-populate-only: "true"',
    "daprd": 'dapr.io/enabled: "false"',
}


def due(pods: Sequence[Object]) -> datetime | None:
    """Return when a pod whose trainer has ended has gone on for too long; None where none goes on."""
    pod = pods[-1] if pods else None
    if pod is None or deleting(pod) or disruption(pod) is not None or not _others(pod):
        return None
    finished = times.parse(container_state(pod).get("terminated", {}).get("finishedAt"))
    return None if finished is None else times.after(finished, PATIENCE_SECONDS)


def kept(pods: Sequence[Object], last: Object | None, now: datetime) -> Outcome | None:
    """Return how the pipeline ends, if its newest pod has gone on for too long; `last` is that pod's attempt."""
    since = due(pods)
    if since is None or now < since or last is None:
        return None
    names = _others(pods[-1])
    known = next((_ANNOTATIONS[name] for name in names if _ANNOTATIONS.get(name)), "")
    remedy = f"set spec.pod.annotations {known}" if known else "have it not injected, by its own annotation"
    what = f"container{'s' if len(names) > 1 else ''} {', '.join(names)}, which something injected, kept the pod"
    code, said = last.get("exitCode"), last.get("message") or last.get("reason", "")
    if code == ExitCode.OK:
        return Outcome("True", COMPLETED, f"{said}; {what}: {remedy}.")
    if code in FATAL_EXIT_CODES or last.get("reason") == OUT_OF_MEMORY:
        return failed(last["reason"], f"Attempt {last['index']}: {said}; {what}: {remedy}.")
    ended = f"Attempt {last['index']} ended ({last.get('reason', '')}): {said}"
    return failed(RETRIES_EXHAUSTED, f"{ended}; it is not retried, for {what}: {remedy}.")


def _others(pod: Object) -> list[str]:
    """Return the containers that run beside a trainer that has ended."""
    if "terminated" not in container_state(pod) or "gone" in pod:
        return []
    statuses: Sequence[Object] = pod.get("status", {}).get("containerStatuses", ())
    return [each["name"] for each in statuses if each["name"] != CONTAINER and "running" in each.get("state", {})]
