"""The PromQL that more than one panel needs, each expression in one place.

The dashboards must also work where the recording rules are not installed, so they ask for raw series; the functions
that bear a rule's name in their docstring are that rule with matchers and window of one's choice, which a test holds
them to. `where` is a list of matchers that may be empty, `window` a range such as 5m or $__rate_interval.
"""

from typing import Final

NAMESPACE: Final = 'namespace=~"$namespace"'
PIPELINE: Final = 'namespace=~"$namespace", job_name="$pipeline"'
OPERATOR: Final = 'namespace=~"$operator_namespace"'
RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
BY_PIPELINE: Final = "by (namespace, job_name)"
GPU_BUSY: Final = 'DCGM_FI_DEV_GPU_UTIL{GPU_I_ID=""} / 100 or DCGM_FI_PROF_GR_ENGINE_ACTIVE'
"""GPU_UTIL is not there or 0 for a MIG instance, which GR_ENGINE_ACTIVE knows (NVIDIA/dcgm-exporter#216)."""


def where(*matchers: str) -> str:
    """Return matchers as a selector, and nothing where there are none."""
    given = [matcher for matcher in matchers if matcher]
    return "{" + ", ".join(given) + "}" if given else ""


def train(matchers: str) -> str:
    """Return the selector of the training split."""
    return where(matchers, 'split="train"')


def newest(metric: str, matchers: str, *labels: str) -> str:
    """Return a gauge of the operator by pipeline and labels; two operators show it for a moment, never add them up."""
    return f"max by ({', '.join(('namespace', 'job_name', *labels))}) ({metric}{where(matchers)})"


def seen(metric: str, matchers: str, *labels: str) -> str:
    """Return the last value within the time range, of pipelines that are gone by now, too."""
    by = ", ".join(("namespace", "job_name", *labels))
    return f"max by ({by}) (last_over_time({metric}{where(matchers)}[{RANGE}]))"


def of_ranks(matchers: str, window: str) -> str:
    """Return the share of the time of each rank that waits for data, of pipelines in several processes alone."""
    by = "by (namespace, job_name, rank)"
    waits, steps = (
        f"sum {by} (rate(feedline_trainer_rank_{what}_seconds_total{where(matchers)}[{window}]))"
        for what in ("batch_fetch", "step")
    )
    return f"{waits} / ({waits} + {steps} > 0)"


def waited(matchers: str, window: str) -> str:
    """Return the seconds of waiting for data a second, by pipeline."""
    return f"sum {BY_PIPELINE} (rate(feedline_trainer_batch_fetch_duration_seconds_sum{train(matchers)}[{window}]))"


def stepped(matchers: str, window: str) -> str:
    """Return the seconds of training steps a second, by pipeline."""
    return f"sum {BY_PIPELINE} (rate(feedline_trainer_step_duration_seconds_sum{train(matchers)}[{window}]))"


def stall(matchers: str, window: str) -> str:
    """Return the share of the training time that waits for data: ..._input_stall:ratio_rate5m.

    Of several ranks it is that of the one that waits most, for which all others wait.
    """
    fetch, step = waited(matchers, window), stepped(matchers, window)
    return f"max {BY_PIPELINE} ({of_ranks(matchers, window)}) or {fetch} / ({fetch} + {step} > 0)"


def samples(matchers: str, window: str) -> str:
    """Return the rows trained on a second: ..._samples:rate5m."""
    return f"sum {BY_PIPELINE} (rate(feedline_trainer_samples_total{train(matchers)}[{window}]))"


def quantile(rank: float, stage: str, matchers: str, window: str) -> str:
    """Return a quantile of a stage of the loop (batch_fetch, step): ..._duration_seconds:p99_5m."""
    buckets = f"feedline_trainer_{stage}_duration_seconds_bucket{train(matchers)}"
    return f"histogram_quantile({rank}, sum by (namespace, job_name, le) (rate({buckets}[{window}]))) > 0"


def of_pods(series: str, matchers: str) -> str:
    """Return series of pods, by namespace and pod, of those pods alone that belong to the pipelines."""
    pods = f"max by (namespace, pod, job_name) (feedline_pipeline_pod_info{where(matchers)})"
    return f"{series} * on (namespace, pod) group_left (job_name) {pods}"


def of_gpus(series: str, matchers: str) -> str:
    """Return series of dcgm-exporter with the namespace and pod that hold the GPU, of the pipelines' pods alone.

    Prometheus calls that pod exported_pod, or pod where the exporter is scraped with honorLabels; label_replace leaves
    alone what does not match.
    """
    renamed = f'label_replace({series}, "pod", "$1", "exported_pod", "(.+)")'
    renamed = f'label_replace({renamed}, "namespace", "$1", "exported_namespace", "(.+)")'
    return of_pods(renamed, matchers)


def gpu_utilization(matchers: str) -> str:
    """Return how busy the GPUs are, 0 to 1: ...gpu_utilization:ratio."""
    return f"avg {BY_PIPELINE} ({of_gpus(GPU_BUSY, matchers)})"


def grown(series: str, window: str) -> str:
    """Return by how much counters grew within the window, the one that brought a counter into being included.

    The operator's counters by namespace and reason come with their first event, and increase() knows nothing to compare
    that one with. After a restart the counter itself is what was added since.
    """
    return f"({series} - {series} offset {window} >= 0 or {series})"


def accelerators(matchers: str) -> str:
    """Return the number of accelerators that each pipeline asks for."""
    return f"sum {BY_PIPELINE} ({newest('feedline_pipeline_accelerators', matchers, 'resource')})"


def accelerator_hours_waited(matchers: str, window: str) -> str:
    """Return the hours in the window that accelerators were held while their loop waited for data, by pipeline.

    All of several ranks wait while one does.
    """
    of_one = (
        f"sum {BY_PIPELINE} (increase(feedline_trainer_batch_fetch_duration_seconds_sum{where(matchers)}[{window}]))"
    )
    rank = f"increase(feedline_trainer_rank_batch_fetch_seconds_total{where(matchers)}[{window}])"
    seconds = f"(max {BY_PIPELINE} (sum by (namespace, job_name, rank) ({rank})) or {of_one})"
    asked = f"sum {BY_PIPELINE} ({seen('feedline_pipeline_accelerators', matchers, 'resource')})"
    return f"{seconds} * on (namespace, job_name) {asked} / 3600"


def by_backend(series: str, matchers: str) -> str:
    """Return series by pipeline as series by pipeline, backend and engine."""
    info = newest("feedline_pipeline_info", matchers, "backend", "engine")
    return f"{series} * on (namespace, job_name) group_left (backend, engine) {info}"


def of_operators(series: str) -> str:
    """Return those series of processes alone that are of an operator's pod."""
    return f"{series} and on (namespace, pod) feedline_operator_build_info{where(OPERATOR)}"
