"""The report: the numbers of a run as bounded JSON, for people, the operator and Prometheus alike."""

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from feedline.checkpoints import Kept
from feedline.contract import (
    MAX_REPORT_VALUES,
    TERMINATION_LOG_BYTES,
    CheckpointReport,
    ObjectiveReport,
    Percentiles,
    Report,
)
from feedline.feed import FeedStats
from feedline.native import copied_by
from feedline.paging import Limits
from feedline.training.snapshot import Aim, Snapshot, SplitSnapshot
from feedline.training.verdict import Evidence, judge
from feedline.transforms import Spent

_MAX_MESSAGE = 1024
_LONG_WAIT_SECONDS = 1.0
_LEAST_MESSAGE = 256


def micros(seconds: tuple[float, float, float]) -> Percentiles:
    """Return median, 95th and 99th percentile in whole microseconds."""
    p50, p95, p99 = (round(each * 1e6) for each in seconds)
    return {"p50": p50, "p95": p95, "p99": p99}


def values(reported: Mapping[str, float]) -> dict[str, str]:
    """Return at most 16 reported values as decimal strings; what is not finite is NaN, Infinity or -Infinity."""
    return {_clean(name)[:63]: decimal(value) for name, value in list(reported.items())[-MAX_REPORT_VALUES:]}


def decimal(value: float) -> str:
    """Return a number as a short decimal string."""
    if math.isfinite(value):
        return f"{value:.6g}"
    return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"


def sentence(text: str) -> str:
    """Return text without control characters and of bounded length, as a message for status and logs."""
    clean = _clean(text)
    return clean if len(clean) <= _MAX_MESSAGE else clean[: _MAX_MESSAGE - 1] + "…"


def _clean(text: str) -> str:
    """Replace control characters, and halves of surrogate pairs (bytes of a path that are no UTF-8), by one space."""
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]+", " ", text).strip()


def termination_message(report: Report) -> bytes:
    """Return the report as JSON of at most 4,096 bytes, the kubelet's limit.

    The message is cut first, to 256 bytes at least; then the objective's curve is thinned out, its newest point last;
    then go the values, and how rows came in; then the message is cut further.
    """
    text = _cut(report, _LEAST_MESSAGE)
    while len(text) > TERMINATION_LOG_BYTES and (curve := report.get("objective", {}).get("curve")):
        thinner = [*curve[:-1:2], curve[-1]] if len(curve) > 2 else []
        report = {**report, "objective": {**report["objective"], "curve": thinner}}
        text = _cut(report, _LEAST_MESSAGE)
    if len(text) > TERMINATION_LOG_BYTES:
        text = _cut({key: value for key, value in report.items() if key not in ("values", "paging")}, 0)
    return text


def _cut(report: Mapping[str, Any], least: int) -> bytes:
    """Return the report as JSON, its message cut as far as it takes to fit, but not below `least` bytes."""
    bounded = {**report, "message": sentence(report.get("message", ""))}
    text = _compact(bounded)
    if len(text) > TERMINATION_LOG_BYTES:
        message = bounded["message"].encode()
        spare = max(least, len(message) - (len(text) - TERMINATION_LOG_BYTES))
        text = _compact({**bounded, "message": message[:spare].decode(errors="ignore")})
    return text


def _compact(report: Mapping[str, Any]) -> bytes:
    return json.dumps(report, ensure_ascii=False, separators=(",", ":")).encode()


def summarize(run: Snapshot) -> Report:
    """Return the numbers of a run so far; how it ended is not among them."""
    train = run.train
    wait, step = _waited(train), train.works.total
    timed_rows = train.own_samples * train.works.count / train.own_steps if train.own_steps else 0.0
    visible = not run.opaque and wait + step > 0
    report: Report = {
        "pipeline": run.pipeline,
        "backend": run.backend,
        "engine": run.engine,
        "observedTime": _time(time.time()),
        "epochs": train.epochs,
        "steps": train.steps,
        "targetSteps": run.target_steps,
        "samples": train.samples,
        "bytes": train.bytes,
        "milliseconds": round(train.seconds * 1e3),
        "values": values(run.values),
    }
    if visible:
        report["samplesPerSecond"] = round(timed_rows / (wait + step))
        report["waitPermille"] = round(1000 * wait / (wait + step))
        report["fetchMicros"] = micros(train.waits.percentiles)
        report["stepMicros"] = micros(train.works.percentiles)
        if step > 0:
            report["modelSamplesPerSecond"] = round(timed_rows / step)
    elif train.seconds > 0 and train.own_steps:
        # Counted from the end of the first step on.
        rows = train.own_samples * (train.own_steps - 1) / train.own_steps
        report["samplesPerSecond"] = round(rows / train.seconds)
    if train.waits.first is not None:
        report["firstBatchMillis"] = round(train.waits.first * 1e3)
    if train.works.first is not None:
        report["firstStepMillis"] = round(train.works.first * 1e3)
    report["minorFaults"], report["majorFaults"] = run.faults.minor, run.faults.major
    for field, limit in _limits(run.limits):
        if limit and "samplesPerSecond" in report:
            report[field] = round(1000 * report["samplesPerSecond"] / limit)  # type: ignore[literal-required]
    if train.feed is not None:
        report |= _fed(train.feed)
    report |= _kept(run)
    report["verdict"] = judge(_evidence(run, report, visible=visible))
    return report


def _fed(stats: FeedStats) -> Report:
    """Return what is said of the feed."""
    told: Report = {"gather": copied_by()}
    if stats.paging:
        told["diskSamples"] = stats.rows_from_disk
        told["paging"] = sentence(" ".join(f"{name}: {way}" for name, way in stats.paging.items()))
    if stats.gather_busy_seconds > 0:
        told["feedSamplesPerSecond"] = round(stats.gathered_rows * stats.threads / stats.gather_busy_seconds)
        if stats.transform_seconds:
            told["transformPermille"] = round(1000 * stats.transform_seconds / stats.gather_busy_seconds)
    return told


def _kept(run: Snapshot) -> Report:
    """Return what is said of what the run leaves behind."""
    told: Report = {}
    if run.output is not None:
        told["output"] = sentence(run.output)
    if run.from_step is not None:
        told["fromStep"] = run.from_step
    if run.kept is not None:
        told["checkpoint"] = _checkpoint(run.kept, run.every_seconds)
    if run.objective is not None:
        told["objective"] = _objective(run.objective)
    return told


def _checkpoint(kept: Kept, every_seconds: int) -> CheckpointReport:
    told: CheckpointReport = {
        "everySeconds": every_seconds,
        "blockedMillis": round(kept.blocked_total * 1e3),
        "skipped": kept.skipped,
        "failures": kept.failures,
    }
    if kept.last is not None:
        told |= {"step": kept.last.step, "epoch": kept.last.epoch, "time": kept.last.time, "bytes": kept.last.bytes}
    if kept.saves:
        told["milliseconds"] = round((kept.copy_seconds + kept.write_seconds) * 1e3)
    if kept.failing_since is not None:
        told |= {"failingSince": _time(kept.failing_since), "error": sentence(kept.error or "")}
    return told


def _objective(aim: Aim) -> ObjectiveReport:
    told: ObjectiveReport = {
        "curve": [f"{step}:{decimal(value)}" for step, value in aim.curve],
        "epochSteps": aim.epoch_steps,
        "epochSamples": aim.epoch_rows,
    }
    if aim.newest is not None:
        told["value"] = decimal(aim.newest[1])
    if aim.best is not None:
        told |= {"best": decimal(aim.best[1]), "bestStep": aim.best[0]}
    return told


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _waited(train: SplitSnapshot) -> float:
    """Return the seconds waited for batches, also for one that does not come for long: nobody knows yet how long."""
    return train.waits.total + (train.waiting if train.waiting > _LONG_WAIT_SECONDS else 0.0)


def _evidence(run: Snapshot, report: Report, *, visible: bool) -> Evidence:
    train = run.train
    stats = train.feed
    return Evidence(
        wait_permille=report.get("waitPermille") if visible else None,
        feed_rate=report.get("feedSamplesPerSecond"),
        model_rate=report.get("modelSamplesPerSecond"),
        # The process also reads its libraries from the disk; the feed's threads read nothing but rows.
        major_faults=stats.major_faults if stats is not None else run.faults.major,
        epochs=train.epochs,
        batches=train.own_steps,
        disk_share=stats.rows_from_disk / max(1, stats.gathered_rows) if stats is not None else 0.0,
        disk_random=run.limits.disk_random,
        disk_sequential=run.limits.disk_sequential,
        shuffle=run.shuffle,
        batch_bytes=train.bytes // max(1, train.steps),
        wait_seconds=max(train.waits.total / max(1, train.waits.count), train.waiting),
        data_bytes=train.arrays.bytes,
        memory_bytes=run.memory_bytes,
        threads=stats.threads if stats is not None else 0,
        cpus=run.cpus,
        transform_permille=report.get("transformPermille", 0),
        functions=stats.functions if stats is not None else Spent(),
        engine=run.engine,
        in_memory=run.in_memory,
        on_accelerator=run.on_accelerator,
    )


def _limits(limits: Limits) -> Iterator[tuple[str, float | None]]:
    """Yield what the rows per second are held against, by the name of the field that says so."""
    yield "memcpyLimitPermille", limits.memcpy
    yield "diskRandomLimitPermille", limits.disk_random
    yield "diskSequentialLimitPermille", limits.disk_sequential
