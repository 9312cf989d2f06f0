"""Series about each pipeline, made from the store when they are asked for, so that they go when the pipeline goes.

Only the replica that leads has them; two replicas would count every pipeline twice. `job_name` is the pipeline's name
and its Job's, as kube-state-metrics calls it, so that both join.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feedline_operator.build import nodes_of
from feedline_operator.reconcile import times
from feedline_operator.reconcile.conditions import INPUT_BOUND, SUCCEEDED
from feedline_operator.reconcile.observed import condition
from feedline_operator.store import Store, key_of

Object = Mapping[str, Any]

_LABELS: Final = ("namespace", "job_name", "uid")
_STATE: Final = "Constant 1; reason is the state, as in kubectl get."
_STATISTICS: Final = ("p50", "p95", "p99")
_NUMBERS: Final = {
    "steps": ("steps", "Training steps, from the final report.", 1.0),
    "samples": ("samples", "Rows trained on, from the final report.", 1.0),
    "milliseconds": (
        "duration_seconds",
        "Time from asking for the first batch to having the last one, from the final report.",
        1e-3,
    ),
    "samplesPerSecond": ("samples_per_second", "Rows per second, from the final report.", 1.0),
    "feedSamplesPerSecond": (
        "feed_samples_per_second",
        "Rows per second that the feed could have given, from the final report.",
        1.0,
    ),
    "modelSamplesPerSecond": (
        "model_samples_per_second",
        "Rows per second that the model could have taken, from the final report.",
        1.0,
    ),
    "waitPermille": (
        "input_stall_ratio",
        "Share of the training time that was spent waiting for data, from the final report.",
        1e-3,
    ),
}


class PipelineSeries(Collector):
    """A collector over the store.

    Parameters
    ----------
    leading
        Whether this replica leads.
    """

    def __init__(self, store: Store, leading: Callable[[], bool]) -> None:
        self._store = store
        self._leading = leading

    def collect(self) -> Iterator[Metric]:
        """Return the series of all pipelines."""
        pipelines = list(self._store.pipelines()) if self._leading() else []
        yield from _Families(self._store).of(pipelines)
        yield from _of_sweeps(self._store.sweeps() if self._leading() else [])


class _Families:
    def __init__(self, store: Store) -> None:
        self._store = store
        self.info = _gauge("info", "Constant 1; joins a pipeline with what it is.", "backend", "image", "engine")
        self.pod = GaugeMetricFamily(
            "feedline_pipeline_pod_info",
            "Constant 1; joins a pod with its pipeline.",
            labels=["namespace", "job_name", "pod"],
        )
        self.accelerators = _gauge("accelerators", "Accelerators that the pipeline asks for, of all pods.", "resource")
        self.reason = _gauge("status_reason", _STATE, "reason")
        self.created = _gauge("created_timestamp_seconds", "When the pipeline was created, in Unix time.")
        self.started = _gauge("start_timestamp_seconds", "When its first Job was started, in Unix time.")
        self.completed = _gauge("completion_timestamp_seconds", "When the pipeline ended, in Unix time.")
        self.progress = _gauge("progress_ratio", "Steps done of the steps to do, where they are known.")
        self.bound = _gauge("input_bound", "1 where the data holds the model back, 0 where not.")
        self.fetch = _gauge("report_batch_fetch_seconds", "Wait for a batch, from the final report.", "stat")
        self.step = _gauge("report_step_seconds", "Time of a step, from the final report.", "stat")
        self.numbers = {field: _gauge(f"report_{name}", text) for field, (name, text, _) in _NUMBERS.items()}
        self.count = GaugeMetricFamily("feedline_pipelines", "Pipelines by state.", labels=["namespace", "reason"])

    def of(self, pipelines: list[Object]) -> Iterator[Metric]:
        states: Counter[tuple[str, str]] = Counter()
        for pipeline in pipelines:
            states[pipeline["metadata"]["namespace"], self._add(pipeline)] += 1
        for labels, number in states.items():
            self.count.add_metric(labels, number)
        yield from (self.info, self.pod, self.accelerators, self.reason, self.created, self.started, self.completed)
        yield from (self.progress, self.bound, self.fetch, self.step, *self.numbers.values(), self.count)

    def _add(self, pipeline: Object) -> str:
        metadata, spec, status = pipeline["metadata"], pipeline["spec"], pipeline.get("status", {})
        labels = (metadata["namespace"], metadata["name"], metadata["uid"])
        engine = spec.get("loader", {}).get("engine", "Feed")
        self.info.add_metric([*labels, spec["backend"], spec.get("image", ""), engine], 1)
        for pod in self._store.pods(key_of("pipeline", pipeline)):
            self.pod.add_metric([*labels[:2], pod["metadata"]["name"]], 1)
        if accelerator := spec.get("resources", {}).get("accelerator"):
            count = accelerator["count"] * nodes_of(pipeline)
            self.accelerators.add_metric([*labels, accelerator["resourceName"]], count)
        reason = (condition(pipeline, SUCCEEDED) or {"reason": "Pending"})["reason"]
        self.reason.add_metric([*labels, reason], 1)
        for family, time in (
            (self.created, metadata["creationTimestamp"]),
            (self.started, status.get("startTime")),
            (self.completed, status.get("completionTime")),
        ):
            if (moment := times.parse(time)) is not None:
                family.add_metric(labels, moment.timestamp())
        feed = status.get("feed", {})
        if feed.get("targetSteps"):
            self.progress.add_metric(labels, min(feed.get("steps", 0) / feed["targetSteps"], 1.0))
        bound = (condition(pipeline, INPUT_BOUND) or {"status": "Unknown"})["status"]
        if bound != "Unknown":
            self.bound.add_metric(labels, float(bound == "True"))
        self._add_report(labels, status.get("report", {}))
        return str(reason)

    def _add_report(self, labels: tuple[str, str, str], report: Object) -> None:
        for field, family in self.numbers.items():
            if field in report:
                family.add_metric(labels, report[field] * _NUMBERS[field][2])
        for family, field in ((self.fetch, "fetchMicros"), (self.step, "stepMicros")):
            for statistic in _STATISTICS:
                if statistic in report.get(field, {}):
                    family.add_metric([*labels, statistic], report[field][statistic] / 1e6)


def _of_sweeps(sweeps: Iterable[Object]) -> Iterator[Metric]:
    """Return the series of all sweeps."""
    labels = ["namespace", "sweep"]
    info = GaugeMetricFamily("feedline_sweep_status_reason", _STATE, labels=[*labels, "reason"])
    trials = GaugeMetricFamily(
        "feedline_sweep_trials", "Trials that there are, by how they stand.", labels=[*labels, "state"]
    )
    best = GaugeMetricFamily(
        "feedline_sweep_best", "The best value of the objective, of the trials that came to their end.", labels=labels
    )
    for sweep in sweeps:
        metadata, status = sweep["metadata"], sweep.get("status", {})
        named = (metadata["namespace"], metadata["name"])
        info.add_metric([*named, (condition(sweep, SUCCEEDED) or {"reason": "Pending"})["reason"]], 1)
        for state, number in status.get("trials", {}).items():
            if state != "created":
                trials.add_metric([*named, state], number)
        with contextlib.suppress(KeyError, ValueError):  # none yet, or none that is a number
            best.add_metric(named, float(status["best"]["value"]))
    yield from (info, trials, best)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"feedline_pipeline_{name}", text, labels=[*_LABELS, *labels])
