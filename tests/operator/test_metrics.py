"""What Prometheus gets: that it parses, that its names are these, and that a pipeline's series go with the pipeline."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families
from simulation.clock import simulate
from simulation.documents import at, condition_list, pipeline, pod

from feedline_operator.health import Health
from feedline_operator.metrics import Metrics
from feedline_operator.queue import WorkQueue
from feedline_operator.series import PipelineSeries
from feedline_operator.store import Store

REPORT = {
    "steps": 46,
    "samples": 1472,
    "milliseconds": 1635,
    "samplesPerSecond": 900,
    "feedSamplesPerSecond": 1100,
    "modelSamplesPerSecond": 5200,
    "waitPermille": 312,
    "fetchMicros": {"p50": 100, "p95": 200, "p99": 300},
    "stepMicros": {"p50": 1000},
}
DONE = {
    "startTime": at(2),
    "completionTime": at(62),
    "feed": {"steps": 23, "targetSteps": 46},
    "report": REPORT,
    "attempts": [{"index": 1, "uid": "pod-a", "startTime": at(5), "endTime": at(60), "reason": "Completed"}],
}
TURNED = {"Succeeded": ["True", "Completed", "done"], "InputBound": ["True", "Disk", "words"]}
# The names are part of what people build dashboards on; docs and rules know the same ones.
PER_PIPELINE = {
    *("info", "pod_info", "status_reason", "created_timestamp_seconds", "start_timestamp_seconds"),
    *("completion_timestamp_seconds", "progress_ratio", "input_bound", "report_batch_fetch_seconds"),
    *("report_step_seconds", "report_steps", "report_samples", "report_samples_per_second", "report_input_stall_ratio"),
    *("report_feed_samples_per_second", "report_model_samples_per_second", "report_duration_seconds", "accelerators"),
}
OWN = {
    "feedline_operator_watch_last_event_timestamp_seconds",
    "feedline_operator_build_info",
    "feedline_operator_reconcile",
    "feedline_operator_reconcile_duration_seconds",
    "feedline_operator_api_requests",
    "feedline_operator_api_request_duration_seconds",
    "feedline_operator_watch_events",
    "feedline_operator_active",
    "feedline_operator_queue_length",
    "feedline_operator_queue_oldest_seconds",
    "feedline_operator_loop_lag_seconds",
    "feedline_pipelines_finished",
    "feedline_pipeline_duration_seconds",
    "feedline_pipeline_queue_duration_seconds",
    "feedline_pipeline_retries",
    "feedline_sweeps_finished",
}
SWEEP = {
    "metadata": {"name": "rates", "namespace": "team", "uid": "uid-of-the-sweep", "resourceVersion": "1"},
    "spec": {},
    "status": {
        "conditions": condition_list({"Succeeded": ["True", "Completed", "words"]}),
        "trials": {"created": 4, "running": 0, "complete": 3, "pruned": 0, "failed": 1},
        "best": {"trial": "rates-2", "value": "0.93", "parameters": {}},
    },
}


def by(*values):
    """Return values of labels, whatever their order."""
    return frozenset(values)


def families(text):
    """Return what Prometheus reads, by name."""
    return {
        family.name: family
        for family in text_string_to_metric_families(text.decode())
        if family.name.startswith("feedline")
    }


def samples(text, name):
    """Return the values of a series by the values of its labels."""
    return {
        by(*sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


@pytest.fixture
def exported():
    """Return a store, who leads, and a function that returns the text of all series."""
    metrics, store, leads = Metrics(), Store(), [True]
    metrics.registry.register(PipelineSeries(store, lambda: leads[0]))
    return store, leads, metrics.text


def test_a_sweep_has_its_series_while_it_is_there(exported):
    store, _, text = exported
    store.put("sweep", SWEEP)
    assert samples(text(), "feedline_sweep_status_reason") == {by("team", "rates", "Completed"): 1}
    assert samples(text(), "feedline_sweep_trials") == {
        by("team", "rates", state): count
        for state, count in {"running": 0, "complete": 3, "pruned": 0, "failed": 1}.items()
    }
    assert samples(text(), "feedline_sweep_best") == {by("team", "rates"): 0.93}
    for best in ({}, {"best": {"trial": "rates-2", "value": "None", "parameters": {}}}):
        metadata = {
            **SWEEP["metadata"],
            "resourceVersion": str(int(SWEEP["metadata"]["resourceVersion"]) + 1 + len(best)),
        }
        status = {"conditions": SWEEP["status"]["conditions"], **best}
        store.put("sweep", {**SWEEP, "metadata": metadata, "status": status})
        assert samples(text(), "feedline_sweep_best") == {}
    store.remove("sweep", SWEEP)
    assert samples(text(), "feedline_sweep_trials") == {}


def test_every_series_of_a_pipeline_and_its_values(exported):
    store, _, text = exported
    spec = {
        "image": "mine.example/trainer:2",
        "resources": {"nodes": 3, "accelerator": {"resourceName": "nvidia.com/gpu", "count": 2}},
    }
    store.put("pipeline", pipeline(conditions=TURNED, status=DONE, spec=spec))
    store.put("pod", pod(running=5, exit=0, ended=60))
    found = families(text())
    assert {name.removeprefix("feedline_pipeline_") for name in found if "pipeline_" in name} >= PER_PIPELINE
    uid = "uid-of-the-pipeline"
    labels = ("team", "digits", uid)
    assert samples(text(), "feedline_pipeline_info") == {by(*labels, "pytorch", "mine.example/trainer:2", "Feed"): 1}
    assert samples(text(), "feedline_pipeline_pod_info") == {by("team", "digits", "digits-0-a"): 1}
    assert samples(text(), "feedline_pipeline_status_reason") == {by(*labels, "Completed"): 1}
    assert samples(text(), "feedline_pipeline_start_timestamp_seconds") == {by(*labels): 1767261602}
    assert samples(text(), "feedline_pipeline_completion_timestamp_seconds") == {by(*labels): 1767261662}
    assert samples(text(), "feedline_pipeline_progress_ratio") == {by(*labels): 0.5}
    assert samples(text(), "feedline_pipeline_input_bound") == {by(*labels): 1}
    assert samples(text(), "feedline_pipeline_report_steps") == {by(*labels): 46}
    assert samples(text(), "feedline_pipeline_report_input_stall_ratio") == {by(*labels): 0.312}
    assert samples(text(), "feedline_pipeline_report_duration_seconds") == {by(*labels): 1.635}
    assert samples(text(), "feedline_pipeline_report_samples_per_second") == {by(*labels): 900}
    assert samples(text(), "feedline_pipeline_report_feed_samples_per_second") == {by(*labels): 1100}
    assert samples(text(), "feedline_pipeline_report_model_samples_per_second") == {by(*labels): 5200}
    assert samples(text(), "feedline_pipeline_accelerators") == {by(*labels, "nvidia.com/gpu"): 6}
    assert samples(text(), "feedline_pipeline_report_batch_fetch_seconds")[by(*labels, "p99")] == 0.0003
    assert samples(text(), "feedline_pipeline_report_step_seconds") == {by(*labels, "p50"): 0.001}
    assert samples(text(), "feedline_pipelines") == {by("team", "Completed"): 1}


def test_a_pipeline_of_which_nothing_is_known_says_no_more_than_that(exported):
    store, _, text = exported
    store.put("pipeline", pipeline())
    assert samples(text(), "feedline_pipelines") == {by("team", "Pending"): 1}
    for name in ("start_timestamp_seconds", "progress_ratio", "input_bound", "report_steps", "accelerators"):
        assert samples(text(), f"feedline_pipeline_{name}") == {}


def test_series_go_with_their_pipeline(exported):
    store, _, text = exported
    store.put("pipeline", pipeline(conditions=TURNED, status=DONE))
    store.put("pod", pod())
    assert b"digits" in text()
    store.remove("pod", pod())
    assert samples(text(), "feedline_pipeline_pod_info") == {}
    store.remove("pipeline", pipeline())
    assert b"digits" not in text()


def test_only_who_leads_has_the_series_of_pipelines(exported):
    store, leads, text = exported
    store.put("pipeline", pipeline(conditions=TURNED, status=DONE))
    leads[0] = False
    assert b"digits" not in text()
    assert "feedline_pipeline_info" in families(text())


def test_the_names_of_the_operators_own_series_are_these():
    metrics = Metrics()

    class Elector:
        @staticmethod
        def leading():
            return True

    async def main():
        Health(WorkQueue(), WorkQueue(), None, Elector(), metrics, [])
        await asyncio.sleep(0)
        return metrics.text()

    text = simulate(main())
    assert set(families(text)) == set(OWN)
    assert samples(text, "feedline_operator_active") == {by(): 1}


def test_calls_and_looks_are_counted():
    metrics = Metrics()
    metrics.called("patch", "trainingpipelines/status", "200", 0.02)
    metrics.reconciled("success", 0.001)
    metrics.watched("pod", "MODIFIED")
    text = metrics.text()
    assert samples(text, "feedline_operator_api_requests_total") == {by("patch", "trainingpipelines/status", "200"): 1}
    assert samples(text, "feedline_operator_watch_events_total") == {by("pod", "MODIFIED"): 1}
    assert set(samples(text, "feedline_operator_watch_last_event_timestamp_seconds")) == {by("pod")}
    assert samples(text, "feedline_operator_reconcile_total") == {
        by(result): float(result == "success")
        for result in ("success", "conflict", "refused", "error", "fault", "not_leading")
    }


def written(before, after):
    """Return the series after a status was written over another."""
    metrics = Metrics()
    metrics.status_written(pipeline(status=before), pipeline(status=after))
    return metrics.text()


def ended(result, reason):
    return {"conditions": condition_list({"Succeeded": [result, reason, "words"]})}


def test_an_end_is_counted_once_with_its_reason():
    text = written({}, {**DONE, **ended("True", "Completed")})
    assert samples(text, "feedline_pipelines_finished_total") == {by("team", "pytorch", "completed", "Completed"): 1}
    assert samples(text, "feedline_pipeline_duration_seconds_sum") == {by("team", "pytorch", "completed"): 60}
    assert samples(text, "feedline_pipeline_queue_duration_seconds_sum") == {by("team", "pytorch"): 5}
    again = written({**DONE, **ended("False", "UserError")}, {**DONE, **ended("False", "UserError")})
    assert samples(again, "feedline_pipelines_finished_total") == {}


def test_an_end_without_a_start_has_no_duration():
    text = written({}, ended("False", "InvalidSpec"))
    assert samples(text, "feedline_pipelines_finished_total") == {by("team", "pytorch", "failed", "InvalidSpec"): 1}
    assert samples(text, "feedline_pipeline_duration_seconds_sum") == {}


def test_an_attempt_that_another_one_follows_is_a_retry():
    running = {
        **ended("Unknown", "Retrying"),
        "attempts": [{"index": 1, "uid": "a", "endTime": at(9), "reason": "IOError"}],
    }
    text = written({}, running)
    assert samples(text, "feedline_pipeline_retries_total") == {by("team", "pytorch", "IOError"): 1}
    assert samples(written(running, running), "feedline_pipeline_retries_total") == {}
