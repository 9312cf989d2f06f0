"""Writes docs/reference/metrics.md: every series of the trainer and of the operator, as their registries have them.

A run over a few rows and an operator that was told of two pipelines are asked for what `/metrics` would show; no name,
type or help is written here. So that no framework need be installed, the run gets the feed's own numpy batches, and
what it saves is an array of numpy.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import yaml
from kubernetes.aio import client
from pages import ROOT, code, table, write
from prometheus_client import Metric

from feedline import manifest
from feedline.contract import LABEL_BACKEND, LABEL_PIPELINE, METRICS_PORT, METRICS_PORT_NAME
from feedline.training import Output, backends, sources
from feedline.training.run import Run
from feedline.training.timeline import HostClock
from feedline_operator import settings
from feedline_operator.app import App
from feedline_operator.cluster import _METHODS, Cluster
from feedline_operator.lease import Elector
from feedline_operator.metrics import Metrics
from feedline_operator.ratelimit import TokenBucket
from feedline_operator.slim import Kind

CRD = yaml.safe_load((ROOT / "crds" / "trainingpipelines.feedline.dev.yaml").read_text(encoding="utf-8"))
SPEC = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
OPERATOR_PORT = settings.VARIABLES["FEEDLINE_PORT"][0]

VALUES: Mapping[str, Iterable[str]] = {
    "backend": SPEC["backend"]["enum"],
    "engine": SPEC["loader"]["properties"]["engine"]["enum"],
    "verb": _METHODS,
    "kind": get_args(Kind),
}
"""Values of labels of the operator, and of the trainer's info, of which the registries show only some."""
SHOWN = ("split", "kind", "stage", "reason", "result", "stat", "type", "feedline_trainer_state")
"""Labels whose values the registries show all of."""
REASONS = {
    "feedline_pipeline_retries_total": "[of an attempt](conditions.md#reasons-of-an-attempt)",
    "feedline_pipelines_finished_total": "[of Succeeded](conditions.md#reasons-of-succeeded)",
    "feedline_pipelines": "[of Succeeded](conditions.md#reasons-of-succeeded)",
    "feedline_pipeline_status_reason": "[of Succeeded](conditions.md#reasons-of-succeeded)",
    "feedline_sweeps_finished_total": "[of Succeeded](sweeps.md#statusconditions)",
    "feedline_sweep_status_reason": "[of Succeeded](sweeps.md#statusconditions)",
}

INTRODUCTION = f"""\
| Who | Where | Scraped by |
| --- | --- | --- |
| trainer, in each pod | port {METRICS_PORT} (named `{METRICS_PORT_NAME}`), path `/metrics` | the chart's PodMonitor |
| operator | port {OPERATOR_PORT} (named `http`), path `/metrics` | the chart's ServiceMonitor |

Both answer in Prometheus' text format; the trainer in OpenMetrics as well, to who asks for it. A histogram `NAME` is
the series `NAME_bucket`, `NAME_sum` and `NAME_count`. Switch the monitors on as
[Prometheus and Grafana](../how-to/prometheus-grafana.md) says.

## Labels that join

`job_name` is the pipeline's name, and that of its Job, as in kube-state-metrics: `(namespace, job_name)` joins all of
them. It is never `job`, which is Prometheus' own label.

- Series of the trainer bear only what distinguishes them within one run. `namespace`, `pod`, `container`, `job_name`
  and `backend` come from the PodMonitor, which takes the last two from the pod's labels `{LABEL_PIPELINE}` and
  `{LABEL_BACKEND}`.
- Series about a pipeline bear `namespace` and `job_name` themselves, and `uid`, which tells a pipeline from an earlier
  one of the same name; the ServiceMonitor honours them. Only the replica that leads has them, and they go when the
  pipeline is deleted.
- `feedline_pipeline_pod_info` joins by `(namespace, pod)` what knows only pods, such as the GPU metrics of DCGM.

For example, the rows per second of every image:

```text
sum by (image) (
  sum by (namespace, job_name) (rate(feedline_trainer_samples_total{{split="train"}}[5m]))
  * on (namespace, job_name) group_right() feedline_pipeline_info
)
```
"""
TRAINER = f"""\
A duration, a loss or a learning rate is there once it is known. `feedline_trainer_prefetch_*`, `_loader_threads` and
`_gather_busy_seconds_total` are there with `loader.engine: Feed` only. Where batches cannot be told from steps (several
steps in one call of Keras, a generator behind Keras' own queue) the durations are left out rather than guessed. The
states `done` and `failed` last for a moment only: then the process has ended, and the operator has the report.
`feedline run --metrics-port {METRICS_PORT}` serves the same on a laptop.

Of several processes the first one of each pod serves its own series. Rows and bytes are those of all processes of the
pod, so that the sum over pods is that of the pipeline; steps are the same in all of them. `feedline_trainer_rank_*` is
of all ranks, by rank 0.

Where there is an output, `feedline_trainer_checkpoint_*` is there from `run.checkpoint` on (Keras: once `fit` begins):
`_last_step` and `_last_timestamp_seconds` once there is a checkpoint, and `_interval_seconds` where
`train.checkpoint.everySeconds` is not 0. The counters begin anew with each pod.
"""
OPERATOR = """\
Series with labels begin with their first event, but for `feedline_operator_reconcile_total`, which has every result
from the start.
"""
PIPELINES = """\
Gauges about one pipeline or sweep are made from what the operator knows of it when Prometheus asks. Those of the final
report (`feedline_pipeline_report_*`) are there from the end of the pipeline until it is deleted, so that a run which
was shorter than a scrape interval is not lost. Counters and histograms outlive their pipelines and bear no name.
"""


ROWS = 8
BATCHES = 4
MANIFEST = {
    "backend": "pytorch",
    "data": {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        "train": {
            "arrays": [
                {"name": "features", "path": "data/features.npy", "role": "Input"},
                {"name": "labels", "path": "data/labels.npy", "role": "Target"},
            ],
        },
    },
    # In memory, since of mapped files some file systems do not tell what is resident.
    "loader": {"batchSize": ROWS // BATCHES, "residency": "Memory"},
    "train": {"entrypoint": "own:train", "epochs": 1},
}
REPORT = {
    "steps": BATCHES,
    "samples": ROWS,
    "milliseconds": 10,
    "samplesPerSecond": 800,
    "feedSamplesPerSecond": 1600,
    "modelSamplesPerSecond": 1600,
    "waitPermille": 500,
    "fetchMicros": {"p50": 1, "p95": 2, "p99": 3},
    "stepMicros": {"p50": 1, "p95": 2, "p99": 3},
}


def main() -> None:
    """Write the page."""
    operator = asyncio.run(of_an_operator())
    about = [family for family in operator if family.name.startswith(("feedline_pipeline", "feedline_sweep"))]
    itself = [family for family in operator if family not in about]
    lines = ["# Metrics", "", INTRODUCTION]
    lines += ["## Trainer", "", TRAINER, *listed(of_a_run())]
    lines += ["## Operator: itself", "", OPERATOR, *listed(itself)]
    lines += ["## Operator: pipelines and sweeps", "", PIPELINES, *listed(about)]
    write("metrics", "the registries of trainer-image/feedline and operator/feedline_operator", lines)


# --- what the registries have ----------------------------------------------------------------------------------------


def of_a_run() -> list[Metric]:
    """Return all families of a run that has trained."""
    data = MANIFEST["data"]
    both = {**MANIFEST, "data": {**data, "validation": data["train"]}}  # type: ignore[dict-item]
    with tempfile.TemporaryDirectory() as folder, without_a_framework():
        np.save(Path(folder, "features.npy"), np.zeros((ROWS, 4), np.float32))
        np.save(Path(folder, "labels.npy"), np.zeros(ROWS, np.int32))
        document, output = manifest.from_pod(json.dumps(both), "metrics"), Output(Path(folder, "output"))
        output.begin(document)
        run = Run(document, {"data": Path(folder)}, output)
        try:
            run.checkpoint(model=Weights())
            for _ in run.epochs():
                for _ in run.train:
                    run.report(loss=0.5, learning_rate=0.001)
            run.ended(None)
            with patch.object(run, "_seconds_of_ranks", lambda: {0: (1.0, 2.0)}):
                return list(run.metrics.registry.collect())
        finally:
            run.close()
            output.close()


class Weights:
    """What is saved of a run: an object with a state, of no framework."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return {"weights": np.zeros(4, np.float32)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back; there is none here."""


@contextlib.contextmanager
def without_a_framework() -> Iterator[None]:
    """Let a run hand out the feed's own batches."""
    with (
        patch.multiple(
            backends,
            require_backend=lambda _: None,
            import_backend=lambda _: None,
            device_and_clock=lambda _: ("cpu", HostClock()),
        ),
        patch.object(sources, "_native", lambda backend, feed, device: feed),  # noqa: ARG005
    ):
        yield


class Leader(Elector):
    """A candidate that has won, without a Lease."""

    def leading(self) -> bool:
        """Whether this replica leads."""
        return True


async def of_an_operator() -> list[Metric]:
    """Return all families of an operator that has seen a pipeline end well, another one fail, and one's pod."""
    metrics = Metrics()
    leader = Leader("feedline-system", "feedline-operator", "here")
    cluster = Cluster(client.ApiClient(client.Configuration()), TokenBucket(1, 1))
    app = App(settings.read({}), cluster, metrics, leader)
    try:
        before, after = pipeline(), pipeline("True", "Completed", feed={"steps": 1, "targetSteps": 2}, report=REPORT)
        for type_ in (None, "ADDED", "MODIFIED"):
            app.seen("pipeline", type_, after)
        child = {"labels": {LABEL_PIPELINE: "digits"}, "namespace": "team", "resourceVersion": "1"}
        app.seen("pod", "ADDED", {"metadata": {**child, "name": "digits-0", "uid": "pod"}, "spec": {}})
        app.seen("job", "DELETED", {"metadata": {**child, "name": "digits", "uid": "job"}, "spec": {}})
        metrics.called("list", "pods", "200", 0.01)
        metrics.reconciled("success", 0.01)
        ended = {"index": 0, "uid": "pod", "startTime": TIME, "endTime": TIME, "reason": "IOError"}
        metrics.status_written(before, pipeline("Unknown", "Retrying", attempts=[ended]))
        metrics.status_written(before, after)
        metrics.status_written(before, pipeline("False", "DataInvalid"))
        swept = sweep()
        app.seen("sweep", "ADDED", swept)
        metrics.sweep_written({**swept, "status": {}}, swept)
        return list(metrics.registry.collect())
    finally:
        await cluster.close()


TIME = "2026-01-01T10:00:00Z"


def pipeline(status: str = "Unknown", reason: str = "Pending", **more: Any) -> dict[str, Any]:
    """Return a pipeline as the API server would show it."""
    times = {"startTime": TIME, "completionTime": TIME}
    condition = {"type": "Succeeded", "status": status, "reason": reason}
    bound = {"type": "InputBound", "status": "True", "reason": "Disk"}
    metadata = {"name": "digits", "namespace": "team", "uid": "a", "resourceVersion": "1", "creationTimestamp": TIME}
    spec = {**MANIFEST, "resources": {"accelerator": {"resourceName": "nvidia.com/gpu", "count": 1}}}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": [condition, bound], **times, **more}}


def sweep() -> dict[str, Any]:
    """Return a sweep as the API server would show it."""
    metadata = {"name": "digits", "namespace": "team", "uid": "b", "resourceVersion": "1"}
    best = {"trial": "digits-0", "value": "0.5", "parameters": {}}
    condition = {"type": "Succeeded", "status": "True", "reason": "Completed"}
    status = {"conditions": [condition], "trials": {"created": 1, "complete": 1}, "best": best}
    return {"metadata": metadata, "spec": {}, "status": status}


# --- what is told of them --------------------------------------------------------------------------------------------


def listed(families: list[Metric]) -> list[str]:
    """Return the table of these families."""
    return table(("Name", "Type", "Labels", "Meaning"), (row(family) for family in families))


def row(family: Metric) -> tuple[str, str, str, str]:
    """Return name as in `/metrics`, type, labels with the values that there can be, help."""
    assert family.samples, f"{family.name}: nothing in here makes the registry show it"
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    name, kind = family.name + suffix, {"info": "gauge", "stateset": "gauge"}.get(family.type, family.type)
    values: dict[str, dict[str, None]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            values.setdefault(label, {})[value] = None
    if bounds := [float(bound) for bound in values.pop("le", {}) if bound != "+Inf"]:
        kind += f", buckets {min(bounds):g} to {max(bounds):g}"
    return code(name), kind, "; ".join(labels(name, values)), family.documentation


def labels(name: str, values: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield each label, with its values where they are a closed set."""
    for label, shown in values.items():
        if label == "reason" and name in REASONS:
            yield f"{code(label)} {REASONS[name]}"
        elif label in VALUES and not (label == "kind" and name.startswith("feedline_trainer")):
            yield f"{code(label)}: {', '.join(VALUES[label])}"
        elif label in SHOWN:
            yield f"{code(label)}: {', '.join(shown)}"
        else:
            yield code(label)


if __name__ == "__main__":
    main()
