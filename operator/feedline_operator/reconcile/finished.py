"""What the end of the Job means: why it failed is in the last attempt, not in the Job."""

import re
from collections.abc import Sequence
from typing import Final

from feedline.contract import FATAL_EXIT_CODES, REASONS, ExitCode
from feedline_operator.reconcile.attempts import OUT_OF_MEMORY
from feedline_operator.reconcile.observed import Object, condition, holds
from feedline_operator.reconcile.outcome import (
    COMPLETED,
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    RETRIES_EXHAUSTED,
    Outcome,
    failed,
)
from feedline_operator.untrusted import clean

_CAUSES: Final = frozenset({OUT_OF_MEMORY, *(REASONS[code] for code in FATAL_EXIT_CODES)})
"""Reasons of an attempt that say more than that the retries are used up."""
_EXHAUSTED: Final = frozenset({"MaxFailedIndexesExceeded", "FailedIndexes", "BackoffLimitExceeded"})
_EXIT_CODE: Final = re.compile(r"failed with exit code (\d{1,3}) ")


def finished(job: Object, attempts: Sequence[Object]) -> Outcome | None:
    """Return how a Job ended, None while it has not; `attempts` are the Job's, newest first."""
    last = attempts[0] if attempts else {}
    if holds(job, "Complete"):
        said = last.get("message") if last.get("exitCode") == ExitCode.OK else None
        return Outcome("True", COMPLETED, said or "The training is done.")
    if not holds(job, "Failed"):
        return None
    found = condition(job, "Failed") or {}
    reason, message = found.get("reason", ""), clean(found.get("message", ""))
    if reason == "DeadlineExceeded":
        return failed(DEADLINE_EXCEEDED, "The Job was active longer than spec.policy.activeDeadlineSeconds.")
    if reason == "PodFailurePolicy" and last.get("exitCode") not in FATAL_EXIT_CODES:
        return _by_exit_code(message)
    if last.get("reason") in _CAUSES or reason in _EXHAUSTED:
        return exhausted(last, job.get("status", {}).get("failed", 0))
    return failed(INTERNAL_ERROR, f"The Job failed for a reason unknown to feedline: {reason or 'none'}, {message}")


def exhausted(last: Object, failures: int) -> Outcome:
    """Return how a pipeline ends that is not tried again; `last` is its newest attempt."""
    if last.get("reason") in _CAUSES:
        return failed(last["reason"], f"Attempt {last['index']}: {last['message']}")
    why = f"; the last one ({last['reason']}): {last['message']}" if last.get("message") else ""
    return failed(RETRIES_EXHAUSTED, f"{failures} failed attempts, no retry left (spec.policy.maxRetries){why}")


def _by_exit_code(message: str) -> Outcome:
    # The pod came and went unseen; the Job's message still has its exit code.
    match = _EXIT_CODE.search(message)
    code = int(match[1]) if match else -1
    reason = REASONS[code] if code in FATAL_EXIT_CODES else REASONS[ExitCode.USER_ERROR]
    return failed(reason, f"{message}; the pod was gone before its report was read")
