"""The record of attempts: one for each pod whose container ran or which ended, newest first, and never fewer.

What is recorded stays as it is; only the end of an attempt is added to it.
"""

import signal
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from feedline.contract import REASONS, ExitCode
from feedline_operator.reconcile import times
from feedline_operator.reconcile.observed import Object, condition, container_state, ended
from feedline_operator.untrusted import clean, last_line, parse_report, word

KEPT: Final = 10
OUT_OF_MEMORY: Final = "OutOfMemory"
_SIGBUS_EXIT: Final = 128 + signal.SIGBUS
_SIGBUS_MESSAGE: Final = (
    "a data file was cut short while it was mapped (SIGBUS); write data to a new file and rename it"
)

Attempt = dict[str, Any]


def update(recorded: Sequence[Object], pods: Iterable[Object], now: datetime) -> list[Attempt]:
    """Return the record with what the pods now say."""
    by_uid: dict[str, Attempt] = {attempt["uid"]: dict(attempt) for attempt in recorded if "uid" in attempt}
    others = [dict(attempt) for attempt in recorded if "uid" not in attempt]
    number = max((attempt["index"] for attempt in recorded), default=0)
    latest = max((attempt["startTime"] for attempt in recorded if "startTime" in attempt), default="")
    seen = set()
    for pod in sorted(pods, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["uid"])):
        uid = pod["metadata"]["uid"]
        seen.add(uid)
        if uid not in by_uid:
            if not (started(pod) or ended(pod)):
                continue
            if len(recorded) >= KEPT and pod["metadata"]["creationTimestamp"] < latest:
                # It has been recorded and has made room since; the Job keeps its failed pods.
                continue
            number += 1
            by_uid[uid] = {"index": number}
        if "endTime" not in by_uid[uid]:
            by_uid[uid].update(of_pod(pod, now))
    for uid, attempt in by_uid.items():
        if uid not in seen and "endTime" not in attempt:
            attempt.update(
                endTime=times.write(now), reason="Deleted", message="the pod was gone before its end was seen"
            )
    everything = sorted([*by_uid.values(), *others], key=lambda attempt: -attempt["index"])
    return everything[:KEPT]


def uids(attempts: Iterable[Object]) -> set[str]:
    """Return the uids of all pods that attempts are known to be of."""
    return {uid for each in attempts for uid in (each.get("uid"), *each.get("members", ())) if uid is not None}


def report_of(pod: Object) -> dict[str, Any] | None:
    """Return the report that a pod left behind."""
    return parse_report(_termination_message(pod))


def disruption(pod: Object) -> str | None:
    """Return Kubernetes' word for why it took the pod away, None if it did not."""
    found = condition(pod, "DisruptionTarget")
    return None if found is None or found["status"] != "True" else word(found.get("reason"), "Disrupted")


def started(pod: Object) -> bool:
    """Return whether the container of a pod runs or ran."""
    state = container_state(pod)
    return "running" in state or "terminated" in state


def of_pod(pod: Object, now: datetime) -> Attempt:
    """Return what an attempt says of a pod: which it is, where and since when, and how it ended, if it has."""
    state, status = container_state(pod), pod.get("status", {})
    running = state.get("running") or state.get("terminated") or {}
    known = {
        "pod": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
        "node": pod["spec"].get("nodeName"),
        "startTime": running.get("startedAt") or status.get("startTime"),
    }
    if ended(pod):
        known |= _end(pod, now)
    return {field: value for field, value in known.items() if value is not None}


def _end(pod: Object, now: datetime) -> Attempt:
    terminated = container_state(pod).get("terminated")
    disrupted = disruption(pod)
    if terminated is None:
        status = pod.get("status", {})
        return {
            "endTime": times.write(now),
            "reason": disrupted or word(status.get("reason"), "Deleted" if "gone" in pod else "Failed"),
            "message": clean(status.get("message", "")) or "the pod ended before its container ran",
        }
    code = terminated["exitCode"]
    reason, message = _why(pod, terminated)
    report = report_of(pod) or {}
    return {
        "endTime": terminated.get("finishedAt") or times.write(now),
        "reason": disrupted if disrupted and code != ExitCode.OK else reason,
        "message": message,
        **({"exitCode": code} if 0 <= code <= 255 else {}),
        **{field: report[field] for field in ("fromStep", "rank") if field in report},
    }


def _why(pod: Object, terminated: Object) -> tuple[str, str]:
    code, said = terminated["exitCode"], _said(pod)
    if terminated.get("reason") == "OOMKilled":
        limit = "its memory limit; raise spec.resources.memory, or lower loader.batchSize or loader.prefetchBatches"
        return OUT_OF_MEMORY, f"the container went over {limit}"
    if code == _SIGBUS_EXIT:
        return "DataInvalid", said or _SIGBUS_MESSAGE
    if code in REASONS:
        return REASONS[code], said or f"exit code {code}"
    if code > 128 and (name := _signal_name(code - 128)):
        return "Killed", said or f"the container was ended by {name}"
    # Such as ContainerCannotRun or StartError, where the runtime found no program to run.
    return word(terminated.get("reason"), "Error"), said or f"exit code {code}"


def _said(pod: Object) -> str:
    text = _termination_message(pod)
    report = parse_report(text)
    return last_line(text) if report is None else report.get("message", "")


def _termination_message(pod: Object) -> str:
    return container_state(pod).get("terminated", {}).get("message") or ""


def _signal_name(number: int) -> str | None:
    try:
        return signal.Signals(number).name
    except ValueError:
        return None
