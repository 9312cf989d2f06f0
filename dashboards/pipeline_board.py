"""The dashboard of one pipeline, which answers whether its data or its model is the bottleneck, and why."""

import pipeline_causes
from expressions import (
    BY_PIPELINE,
    NAMESPACE,
    PIPELINE,
    RANGE,
    RATE,
    gpu_utilization,
    newest,
    of_ranks,
    quantile,
    samples,
    seen,
    stall,
    stepped,
    train,
    waited,
    where,
)
from frame import OPEN_ROW, Frame
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units
from panels import STALL, Column, Query, Steps, bars, buckets, grid, lines, name, number
from states import GROUPS, alternatives

_NO_TRAINER = "No trainer was scraped"
_NO_CHECKPOINTS = "No checkpoint yet, nothing is saved, or no trainer was scraped"
_NO_SAVING = "Nothing is saved, or no trainer was scraped"
_NO_TIME = "No trainer was scraped, or its waiting cannot be seen (steps_per_execution above 1)"


def board() -> model.Dashboard:
    """Return the dashboard."""
    frame = Frame(
        "feedline-pipeline",
        "feedline / Pipeline",
        "One TrainingPipeline: whether its data or its model is the bottleneck, by how much, and why.",
    )
    frame.variable("namespace", "Namespace", "label_values(feedline_pipeline_info, namespace)", many=True)
    # count by (…) (last_over_time(…)) lists pipelines that have been deleted since, too.
    present = f"count by (job_name) (last_over_time(feedline_pipeline_info{where(NAMESPACE)}[{RANGE}]))"
    frame.variable("pipeline", "Pipeline", f"query_result({present})", pattern='/job_name="([^"]+)"/')
    for verb, moment, color in (("started", "start", "blue"), ("ended", "completion", "purple")):
        metric = f"feedline_pipeline_{moment}_timestamp_seconds"
        frame.event(f"Pipeline {verb}", color, f"{newest(metric, PIPELINE, 'uid')} * 1000", f"{{{{job_name}}}} {verb}")
    frame.row("Is it the data or the model?")
    frame.line(4, *_headline())
    frame.row("Where the time of a training step goes")
    frame.line(8, *_waiting())
    frame.line(8, *_stepping())
    frame.row("Several processes: which one the others wait for")
    frame.line(8, *_ranks())
    frame.row("Why it waits for data")
    frame.line(8, *pipeline_causes.data())
    frame.line(7, *pipeline_causes.loader())
    frame.row("GPU")
    frame.line(7, *pipeline_causes.gpu())
    frame.row("Training")
    frame.line(7, *_training())
    frame.row("Checkpoints")
    frame.line(7, *_checkpoints())
    frame.row("Pod")
    frame.line(8, *pipeline_causes.pod())
    frame.row("Reports of ended pipelines")
    frame.line(6, _reports())
    return frame.finish()


def _headline() -> list[model.Panel]:
    latest = f"max_over_time(timestamp(feedline_pipeline_status_reason{where(PIPELINE)})[{RANGE}:30s])"
    steps = f"max {BY_PIPELINE} (feedline_trainer_steps_total{train(PIPELINE)})"
    target = f"max {BY_PIPELINE} (feedline_trainer_target_steps{where(PIPELINE)} > 0)"
    # Of several pods each counts the steps of all.
    speed = f"max {BY_PIPELINE} (rate(feedline_trainer_steps_total{train(PIPELINE)}[{RATE}]))"
    return [
        name(
            "State",
            Query(f"topk(1, max by (reason) ({latest}))", "{{reason}}", now=True),
            description="The last state in the time range, as kubectl get tp shows it.",
            unit=units.NoUnit,
            no_value="Not seen",
            colors={alternatives(group): group.color for group in GROUPS},
        ),
        number(
            "Progress",
            Query(f"{steps} / {target} or {newest('feedline_pipeline_progress_ratio', PIPELINE)}", "progress"),
            description="Steps done of the steps to do, in the current attempt. A pipeline that is limited by time has "
            "none.",
            unit=units.PercentUnit,
            no_value="Limited by time",
        ),
        number(
            "Time left",
            Query(f"clamp_min({target} - {steps}, 0) / ({speed} > 0)", "time left", now=True),
            description="The steps that remain at the present speed; validation between epochs comes on top.",
            unit=units.DurationSeconds,
            no_value="Not training",
        ),
        number(
            "Rows per second",
            Query(
                f"{samples(PIPELINE, RATE)} or {newest('feedline_pipeline_report_samples_per_second', PIPELINE)}",
                "rows",
            ),
            description="Rows trained on per second; after the end, the mean of the final report.",
            unit=units.RowsPerSecond,
            no_value=_NO_TRAINER,
        ),
        number(
            "Waiting for data",
            Query(
                f"{stall(PIPELINE, RATE)} or {newest('feedline_pipeline_report_input_stall_ratio', PIPELINE)}", "stall"
            ),
            description="The share of the training time in which the loop waits for its next batch; after the end, "
            "that of the final report. Above 10 % the data holds the model back, at 30 % for 10 minutes the alert "
            "FeedlineTrainerInputBound fires.",
            unit=units.PercentUnit,
            no_value="Not known",
            steps=STALL,
            filled=True,
        ),
        number(
            "GPU utilization",
            Query(gpu_utilization(PIPELINE), "GPU"),
            description="Mean over the pipeline's GPUs. A busy GPU need not be a fast one: see the tensor cores below. "
            "Needs NVIDIA's dcgm-exporter.",
            unit=units.PercentUnit,
            no_value="No dcgm-exporter",
        ),
    ]


def _waiting() -> list[model.Panel]:
    fetches = f"sum {BY_PIPELINE} (rate(feedline_trainer_batch_fetch_duration_seconds_count{train(PIPELINE)}[{RATE}]))"
    steps = f"sum {BY_PIPELINE} (rate(feedline_trainer_step_duration_seconds_count{train(PIPELINE)}[{RATE}]))"
    return [
        lines(
            "Time of one iteration",
            Query(f"{waited(PIPELINE, RATE)} / ({fetches} > 0)", "waiting for the batch"),
            Query(f"{stepped(PIPELINE, RATE)} / ({steps} > 0)", "step"),
            description="Mean seconds of one iteration of the training loop: waiting for the batch, and the step "
            "itself. The larger area is the bottleneck.",
            unit=units.Seconds,
            no_value=_NO_TIME,
            stacked=True,
            colors={"waiting for the batch": "orange", "step": "blue"},
        ),
        _quantiles("Wait for a batch", "batch_fetch", "How long the loop waits for one batch; the first is left out."),
        _heat("Waits for a batch, all of them", "batch_fetch"),
    ]


def _stepping() -> list[model.Panel]:
    return [
        lines(
            "Waiting for data over time",
            Query(stall(PIPELINE, RATE), "{{job_name}}"),
            description="The share of the training time in which the loop waits for its next batch. Lines at 10 % and "
            "30 %.",
            unit=units.PercentUnit,
            no_value=_NO_TIME,
            steps=STALL,
            top=1.0,
        ),
        _quantiles("Step", "step", "How long one training step takes, on the device's clock; the first is left out."),
        _heat("Steps, all of them", "step"),
    ]


def _ranks() -> list[model.Panel]:
    return [
        lines(
            "Waiting for data by rank",
            Query(f"topk(8, {of_ranks(PIPELINE, RATE)})", "rank {{rank}}"),
            description="The share of its time in which each rank waits for its next batch: the eight that wait most. "
            "In a training that keeps in step the wait of one is everybody's; one far above the others has slower "
            "data, or a slower machine. Lines at 10 % and 30 %.",
            unit=units.PercentUnit,
            no_value="One process, or no trainer was scraped",
            steps=STALL,
            top=1.0,
        ),
        lines(
            "Rows per second by pod",
            Query(
                f"sum by (pod) (rate(feedline_trainer_samples_total{train(PIPELINE)}[{RATE}])) > 0",
                "{{pod}}",
            ),
            description="Rows trained on per second, by those of all processes of a pod.",
            unit=units.RowsPerSecond,
            no_value=_NO_TRAINER,
        ),
    ]


def _quantiles(title: str, stage: str, description: str) -> model.Panel:
    ranks = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    return lines(
        title,
        *(Query(quantile(rank, stage, PIPELINE, RATE), legend) for rank, legend in ranks),
        description=f"{description} Quantiles from a histogram's buckets, as exact as those are fine.",
        unit=units.Seconds,
        no_value=_NO_TIME,
    )


def _heat(title: str, stage: str) -> model.Panel:
    buckets_of = f"feedline_trainer_{stage}_duration_seconds_bucket{train(PIPELINE)}"
    return buckets(
        title,
        Query(f"sum by (le) (increase({buckets_of}[{RATE}]))", "{{le}}"),
        description="How many took how long. Two bands mean two kinds of batches: from memory and from the disk, say.",
        unit=units.Seconds,
        no_value=_NO_TIME,
    )


def _training() -> list[model.Panel]:
    return [
        lines(
            "Loss",
            Query(f"max {BY_PIPELINE} (feedline_trainer_loss{where(PIPELINE)})", "{{job_name}}"),
            description="The loss that the training function reported last.",
            unit=units.Short,
            no_value="No loss was reported",
        ),
        lines(
            "Learning rate",
            Query(f"max {BY_PIPELINE} (feedline_trainer_learning_rate{where(PIPELINE)})", "{{job_name}}"),
            description="The learning rate that the training function reported last.",
            unit=units.Short,
            no_value="No learning rate was reported",
        ),
        bars(
            "Losses that are no number",
            Query(
                f"sum {BY_PIPELINE} (increase(feedline_trainer_nonfinite_loss_total{where(PIPELINE)}[{RATE}]))",
                "NaN or Inf",
            ),
            description="Reports whose loss was NaN or infinite. A gap in the loss beside it is one of them.",
            unit=units.Short,
            no_value=_NO_TRAINER,
            colors={"NaN or Inf": "red"},
        ),
        lines(
            "Rows per second by split",
            Query(f"sum by (split) (rate(feedline_trainer_samples_total{where(PIPELINE)}[{RATE}]))", "{{split}}"),
            description="Rows handed to the loop, of the training and of the validation split.",
            unit=units.RowsPerSecond,
            no_value=_NO_TRAINER,
        ),
    ]


def _checkpoints() -> list[model.Panel]:
    def newest_of(gauge: str) -> str:
        return f"max {BY_PIPELINE} (feedline_trainer_checkpoint_{gauge}{where(PIPELINE)})"

    def grew(function: str, counter: str) -> str:
        return f"sum {BY_PIPELINE} ({function}(feedline_trainer_checkpoint_{counter}_total{where(PIPELINE)}[{RATE}]))"

    return [
        lines(
            "Age of the newest checkpoint",
            Query(f"time() - {newest_of('last_timestamp_seconds')}", "age"),
            Query(f"3 * {newest_of('interval_seconds')}", "three intervals"),
            description="What would be trained once more if the pod ended now, at most. Above three intervals for 5 "
            "minutes the alert FeedlineCheckpointStale fires; after a restart it counts from the start of the process.",
            unit=units.Seconds,
            no_value=_NO_CHECKPOINTS,
            colors={"age": "blue", "three intervals": "red"},
        ),
        lines(
            "Checkpoints: blocked and writing",
            Query(grew("rate", "blocked_seconds"), "blocked"),
            Query(grew("rate", "write_seconds"), "writing"),
            description="The share of the time in which the training stands still while its state is copied, which is "
            "what saving costs, and the share in which a checkpoint is being written beside it. A write is added when "
            "it is done, so that a long one is a peak.",
            unit=units.PercentUnit,
            no_value=_NO_SAVING,
            colors={"blocked": "orange", "writing": "blue"},
        ),
        bars(
            "Failed or skipped checkpoints",
            Query(grew("increase", "failures"), "failed"),
            Query(grew("increase", "skipped"), "skipped"),
            description="Failed: could not be written, and the log says why; the training goes on. Skipped: was due "
            "while the one before was still being written; a longer everySeconds, or a faster disk, ends that.",
            unit=units.Short,
            no_value=_NO_SAVING,
            colors={"failed": "red", "skipped": "orange"},
        ),
    ]


def _reports() -> model.Panel:
    def last(metric: str, *more: str) -> str:
        return seen(f"feedline_pipeline_{metric}", ", ".join((NAMESPACE, *more)), "uid")

    def column(title: str, expr: str, unit: str, steps: Steps = ()) -> Column:
        return Column(title, Query(expr, title, now=True), unit, steps)

    def quantiles(title: str, metric: str) -> list[Column]:
        ranks = ("p50", "p95", "p99")
        return [column(f"{title} {rank}", last(metric, f'stat="{rank}"'), units.Seconds) for rank in ranks]

    return grid(
        "Final reports",
        [
            Column("Namespace", "namespace"),
            Column("Pipeline", "job_name", link=OPEN_ROW),
            column("Ended", f"{last('completion_timestamp_seconds')} * 1000", units.DatetimeDefault),
            column("Trained for", last("report_duration_seconds"), units.Seconds),
            column("Steps", last("report_steps"), units.Short),
            column("Rows", last("report_samples"), units.Short),
            column("Rows/s", last("report_samples_per_second"), units.RowsPerSecond),
            column("Waiting", last("report_input_stall_ratio"), units.PercentUnit, STALL),
            column("Feed could", last("report_feed_samples_per_second"), units.RowsPerSecond),
            column("Model could", last("report_model_samples_per_second"), units.RowsPerSecond),
            *quantiles("Wait", "report_batch_fetch_seconds"),
            *quantiles("Step", "report_step_seconds"),
        ],
        newest_by="Ended",
        hidden=["uid"],
        description="What the pipelines of the namespace that ended in the time range, or before and are still there, "
        "reported last. A report travels through the pipeline's status, so that a run too short to be scraped has one, "
        "too.",
        unit=units.NoUnit,
        no_value="No pipeline has ended in the time range",
    )
