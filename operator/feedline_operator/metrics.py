"""What the operator says to Prometheus about itself, in counters and histograms that bear no pipeline's name."""

import platform
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from feedline_operator.reconcile import times
from feedline_operator.reconcile.conditions import SUCCEEDED, is_over
from feedline_operator.reconcile.observed import condition

Object = Mapping[str, Any]

_CALL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
_RECONCILE_BUCKETS: Final = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60)
_LONG_BUCKETS: Final = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)

# They would be as many series again, for what Prometheus does not need.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The operator's own series, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        build = Info("feedline_operator_build", "Constant 1; its labels say what runs here.", registry=registry)
        build.info(
            {
                "version": version("feedline"),
                "kopf_version": version("kopf"),
                "python_version": platform.python_version(),
            }
        )
        self._reconciles = Counter(
            "feedline_operator_reconcile_total",
            "Looks at a pipeline or a sweep, by result: success, conflict, refused, error, fault or not_leading.",
            ["result"],
            registry=registry,
        )
        for result in ("success", "conflict", "refused", "error", "fault", "not_leading"):
            self._reconciles.labels(result)
        self._reconcile_seconds = Histogram(
            "feedline_operator_reconcile_duration_seconds",
            "Time of one look at a pipeline or a sweep, waiting for the API server included.",
            buckets=_RECONCILE_BUCKETS,
            registry=registry,
        )
        self._calls = Counter(
            "feedline_operator_api_requests_total",
            "Calls to the API server, watches aside; code 0 is no answer.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self._call_seconds = Histogram(
            "feedline_operator_api_request_duration_seconds",
            "Time of calls to the API server, watches aside.",
            ["verb", "resource"],
            buckets=_CALL_BUCKETS,
            registry=registry,
        )
        self._watched = Counter(
            "feedline_operator_watch_events_total",
            "Events that the watches brought; LISTED is an object that was there when a watch began.",
            ["kind", "type"],
            registry=registry,
        )
        self._heard = Gauge(
            "feedline_operator_watch_last_event_timestamp_seconds",
            "When a watch last said something, in Unix time.",
            ["kind"],
            registry=registry,
        )
        self._finished = Counter(
            "feedline_pipelines_finished_total",
            "Pipelines that ended, by result (completed, failed) and reason.",
            ["namespace", "backend", "result", "reason"],
            registry=registry,
        )
        self._duration = Histogram(
            "feedline_pipeline_duration_seconds",
            "Time from the start of a pipeline's first Job to the pipeline's end.",
            ["namespace", "backend", "result"],
            buckets=_LONG_BUCKETS,
            registry=registry,
        )
        self._queued = Histogram(
            "feedline_pipeline_queue_duration_seconds",
            "Time from a pipeline's creation until its first container ran.",
            ["namespace", "backend"],
            buckets=_LONG_BUCKETS,
            registry=registry,
        )
        self._retries = Counter(
            "feedline_pipeline_retries_total",
            "Attempts that ended without their pipeline, by reason; disruptions included.",
            ["namespace", "backend", "reason"],
            registry=registry,
        )

        self._sweeps_finished = Counter(
            "feedline_sweeps_finished_total",
            "Sweeps that ended, by result (completed, failed) and reason.",
            ["namespace", "result", "reason"],
            registry=registry,
        )

    def gauge(self, name: str, text: str, function: Any) -> None:
        """Add a gauge that asks `function` for its value when it is scraped."""
        Gauge(name, text, registry=self.registry).set_function(function)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def reconciled(self, result: str, seconds: float) -> None:
        """Count a look at a pipeline."""
        self._reconciles.labels(result).inc()
        self._reconcile_seconds.observe(seconds)

    def called(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """Count a call to the API server."""
        self._calls.labels(verb, resource, code).inc()
        self._call_seconds.labels(verb, resource).observe(seconds)

    def watched(self, kind: str, type_: str) -> None:
        """Count an event of a watch."""
        self._watched.labels(kind, type_).inc()
        self._heard.labels(kind).set(time.time())

    def status_written(self, before: Object, after: Object) -> None:
        """Count what a write of a status has told: an end, a first start, an attempt that is to be replaced."""
        labels = (after["metadata"]["namespace"], after["spec"]["backend"])
        verdict = condition(after, SUCCEEDED)
        over = is_over(after)
        if verdict is not None and over and not is_over(before):
            self._ended(labels, after["status"], verdict)
        if not _first_start(before) and (start := _first_start(after)):
            self._queued.labels(*labels).observe(_seconds(after["metadata"]["creationTimestamp"], start))
        if not over:
            recorded = {attempt["uid"] for attempt in _attempts(before) if "endTime" in attempt}
            for attempt in _attempts(after):
                if "endTime" in attempt and attempt["uid"] not in recorded:
                    self._retries.labels(*labels, attempt.get("reason", "Unknown")).inc()

    def sweep_written(self, before: Object, after: Object) -> None:
        """Count the end of a sweep, where a write of its status has told it."""
        verdict = condition(after, SUCCEEDED)
        if verdict is not None and is_over(after) and not is_over(before):
            result = "completed" if verdict["status"] == "True" else "failed"
            self._sweeps_finished.labels(after["metadata"]["namespace"], result, verdict["reason"]).inc()

    def _ended(self, labels: tuple[str, str], status: Object, verdict: Object) -> None:
        result = "completed" if verdict["status"] == "True" else "failed"
        self._finished.labels(*labels, result, verdict["reason"]).inc()
        if "startTime" in status:
            self._duration.labels(*labels, result).observe(_seconds(status["startTime"], status["completionTime"]))


def _attempts(pipeline: Object) -> Iterator[Object]:
    return (attempt for attempt in pipeline.get("status", {}).get("attempts", ()) if "uid" in attempt)


def _first_start(pipeline: Object) -> str | None:
    starts = [attempt["startTime"] for attempt in _attempts(pipeline) if "startTime" in attempt]
    return min(starts, default=None)


def _seconds(start: str, end: str) -> float:
    began, ended = times.parse(start), times.parse(end)
    return max((ended - began).total_seconds(), 0.0) if began is not None and ended is not None else 0.0
