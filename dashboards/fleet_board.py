"""The dashboard of all pipelines, which answers what runs, what failed, and which accelerators wait for data."""

from expressions import (
    NAMESPACE,
    RANGE,
    RATE,
    accelerator_hours_waited,
    accelerators,
    by_backend,
    grown,
    newest,
    samples,
    seen,
    stall,
    stepped,
    waited,
    where,
)
from frame import OPEN_ROW, OPEN_SERIES, Frame
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units
from panels import STALL, TROUBLE, Column, Query, Steps, bars, grid, lines, linked, number, ranking, timeline
from states import COMPLETED, FAILED, GROUPS, IN_TROUBLE, RUNNING, WAITING, Group, alternatives

_NONE = "No pipelines"
_NO_TRAINER = "No trainer was scraped"
_LANES = 25


def board() -> model.Dashboard:
    """Return the dashboard."""
    frame = Frame(
        "feedline-fleet",
        "feedline / Fleet",
        "All TrainingPipelines: what runs, what failed, and which accelerators wait for data.",
    )
    frame.variable("namespace", "Namespace", "label_values(feedline_pipeline_info, namespace)", many=True)
    frame.row("Now")
    frame.line(4, *_now())
    frame.row("Who waits for data")
    frame.line(9, *_stalled())
    frame.row("States")
    frame.line(9, *_states())
    frame.row("Ends, retries and queues")
    frame.line(8, *_ends())
    frame.row("Backends side by side")
    frame.line(8, *_backends())
    frame.row("Sweeps")
    frame.line(8, *_sweeps())
    frame.row("Pipelines")
    frame.line(10, _table())
    return frame.finish()


def _sweeps() -> list[model.Panel]:
    trials = f"max by (namespace, sweep, state) (feedline_sweep_trials{where(NAMESPACE)})"
    return [
        lines(
            "Trials of sweeps",
            Query(f"sum by (state) ({trials})", "{{state}}"),
            description="Trials of all TrainingSweeps by how they stand: running, complete, ended early, failed.",
            unit=units.Short,
            no_value="No sweeps",
            colors={"running": "blue", "complete": "green", "pruned": "yellow", "failed": "red"},
        ),
        lines(
            "Best of each sweep",
            Query(f"max by (namespace, sweep) (feedline_sweep_best{where(NAMESPACE)})", "{{namespace}}/{{sweep}}"),
            description="The best value of the objective so far, of the trials that came to their end.",
            unit=units.Short,
            no_value="No sweeps",
        ),
    ]


def _in(*groups: Group) -> str:
    matchers = f'{NAMESPACE}, reason=~"{alternatives(*groups)}"'
    return newest("feedline_pipeline_status_reason", matchers)


def _ended(reasons: str) -> str:
    """Return 1 for each pipeline that ended in the time range with one of these reasons, deleted ones included."""
    states = seen("feedline_pipeline_status_reason", f'{NAMESPACE}, reason=~"{reasons}"', "uid", "reason")
    end = seen("feedline_pipeline_completion_timestamp_seconds", NAMESPACE, "uid")
    return f"{states} and on (namespace, job_name, uid) ({end} >= time() - $__range_s)"


def _now() -> list[model.Panel]:
    bound = f"{newest('feedline_pipeline_input_bound', NAMESPACE)} and on (namespace, job_name) {_in(RUNNING)}"
    held = f"{accelerators(NAMESPACE)} and on (namespace, job_name) {_in(RUNNING)}"

    def count(title: str, expr: str, description: str, *, bad: bool = False, hours: bool = False) -> model.Panel:
        return number(
            title,
            Query(f"sum({expr}) or vector(0)", title, now=True),
            description=description,
            unit=units.Hours if hours else units.Short,
            no_value=_NONE,
            steps=TROUBLE if bad else ((None, "blue"),),
        )

    return [
        count("Running", _in(RUNNING), "Pipelines whose training runs now."),
        count("Waiting", _in(WAITING, IN_TROUBLE), "Pipelines that wait for a queue, a node, an image, or a retry."),
        count("Input bound", bound, "Running pipelines that wait for data more than 10 % of their time.", bad=True),
        count("Failed", _ended(alternatives(FAILED)), "Pipelines that failed for good in the time range.", bad=True),
        count("Accelerators in use", held, "Accelerators that running pipelines have asked for."),
        count(
            "Accelerator-hours waited",
            accelerator_hours_waited(NAMESPACE, RANGE),
            "Hours in the time range that accelerators were held while their loop waited for data: seconds of waiting "
            "times accelerators, validation included.",
            hours=True,
        ),
    ]


def _stalled() -> list[model.Panel]:
    waiting = f"({stall(NAMESPACE, RATE)}) * on (namespace, job_name) {accelerators(NAMESPACE)}"
    held = f"{accelerators(NAMESPACE)} and on (namespace, job_name) {_in(RUNNING)}"
    return [
        linked(
            ranking(
                "Most stalled pipelines",
                Query(f"topk(10, {stall(NAMESPACE, RANGE)})", "{{namespace}}/{{job_name}}", now=True),
                description="The share of the training time in the time range that waited for data: the ten highest. "
                "Click one for its dashboard.",
                unit=units.PercentUnit,
                no_value=_NO_TRAINER,
                steps=STALL,
            ),
            *OPEN_SERIES,
        ),
        linked(
            ranking(
                "Accelerator-hours waited for data",
                Query(
                    f"topk(10, {accelerator_hours_waited(NAMESPACE, RANGE)})", "{{namespace}}/{{job_name}}", now=True
                ),
                description="Where faster data would free the most accelerators: hours of waiting times accelerators, "
                "in the time range. The ten highest.",
                unit=units.Hours,
                no_value="No pipeline with accelerators was scraped",
            ),
            *OPEN_SERIES,
        ),
        lines(
            "Accelerators that wait for data",
            Query(f"sum({waiting})", "waiting for data"),
            Query(f"sum({held})", "in use"),
            description="Accelerators of running pipelines, and how many of them, on average, wait for data.",
            unit=units.Short,
            no_value="No running pipeline has accelerators",
            colors={"waiting for data": "orange", "in use": "blue"},
        ),
    ]


def _states() -> list[model.Panel]:
    counted = f"max by (namespace, reason) (feedline_pipelines{where(NAMESPACE)})"
    newest_lanes = f"topk({_LANES}, {newest('feedline_pipeline_created_timestamp_seconds', NAMESPACE)})"
    # The end comes first, should two operators tell of two states for one scrape.
    codes = " or ".join(f"{_in(group)} * {group.code}" for group in reversed(GROUPS))
    return [
        lines(
            "Pipelines by state",
            Query(f"sum by (reason) ({counted})", "{{reason}}"),
            description="How many pipelines there are in each state, ended ones included until they are deleted.",
            unit=units.Short,
            no_value=_NONE,
            stacked=True,
            colors={alternatives(group): group.color for group in GROUPS},
        ),
        linked(
            timeline(
                "States of the newest pipelines",
                Query(f"({codes}) and {newest_lanes}", "{{namespace}}/{{job_name}}"),
                description=f"A lane for each of the {_LANES} newest pipelines. Waiting: Pending, Queued or Starting. "
                "In trouble: Retrying or ImagePullFailed. Click a lane for the pipeline's dashboard.",
                unit=units.NoUnit,
                no_value=_NONE,
            ),
            *OPEN_SERIES,
        ),
    ]


def _ends() -> list[model.Panel]:
    finished = grown(f"feedline_pipelines_finished_total{where(NAMESPACE)}", "$__interval")
    retries = grown(f"feedline_pipeline_retries_total{where(NAMESPACE)}", "$__interval")
    return [
        ranking(
            "Ended in the time range",
            Query(f"count by (reason) ({_ended(alternatives(COMPLETED, FAILED))})", "{{reason}}", now=True),
            description="Pipelines that ended in the time range, by reason.",
            unit=units.Short,
            no_value="None ended in the time range",
            steps=((None, "red"),),
            colors={alternatives(COMPLETED): "green"},
        ),
        bars(
            "Ends",
            Query(f"sum by (reason) ({finished})", "{{reason}}"),
            description="When pipelines ended, and why.",
            unit=units.Short,
            no_value="None has ended since the operator started",
            colors={alternatives(COMPLETED): "green"},
        ),
        bars(
            "Retries",
            Query(f"sum by (reason) ({retries})", "{{reason}}"),
            description="Attempts that ended without their pipeline, by reason; disruptions such as an eviction "
            "included.",
            unit=units.Short,
            no_value="No attempt was retried since the operator started",
        ),
        ranking(
            "Queue and duration",
            *(_spread("queue", "queued", rank, label) for rank, label in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))),
            *(_spread("duration", "ran", rank, label) for rank, label in ((0.5, "p50"), (0.9, "p90"))),
            description="Of pipelines that started in the time range, the time from their creation to their first "
            "running container; of those that ended in it, the time from the start of their first Job. Quantiles from "
            "a histogram's buckets (1 s, 5 s, 15 s, 1 min, 5 min, 15 min, 1 h, …), as exact as those are fine.",
            unit=units.Seconds,
            no_value="None started in the time range",
        ),
    ]


def _spread(what: str, legend: str, rank: float, label: str) -> Query:
    metric = "feedline_pipeline_queue_duration_seconds" if what == "queue" else "feedline_pipeline_duration_seconds"
    counted = grown(f"{metric}_bucket{where(NAMESPACE)}", RANGE)
    return Query(f"histogram_quantile({rank}, sum by (le) ({counted})) >= 0", f"{legend}, {label}", now=True)


def _backends() -> list[model.Panel]:
    by = "by (backend, engine)"
    fetch = f"sum {by} ({by_backend(waited(NAMESPACE, RATE), NAMESPACE)})"
    step = f"sum {by} ({by_backend(stepped(NAMESPACE, RATE), NAMESPACE)})"
    rows = f"sum {by} ({by_backend(samples(NAMESPACE, RATE), NAMESPACE)})"
    legend = "{{backend}} {{engine}}"
    return [
        lines(
            "Waiting for data by backend",
            Query(f"{fetch} / ({fetch} + {step} > 0)", legend),
            description="The share of the training time that waits for data, over all running pipelines of a backend. "
            "Engine Feed is feedline's own, Classic the framework's usual way.",
            unit=units.PercentUnit,
            no_value=_NO_TRAINER,
            steps=STALL,
            top=1.0,
        ),
        lines(
            "Rows per second by backend",
            Query(rows, legend),
            description="Rows trained on per second, summed over all running pipelines of a backend.",
            unit=units.RowsPerSecond,
            no_value=_NO_TRAINER,
        ),
    ]


def _table() -> model.Panel:
    waiting = f"{stall(NAMESPACE, RATE)} or {newest('feedline_pipeline_report_input_stall_ratio', NAMESPACE)}"
    speed = f"{samples(NAMESPACE, RATE)} or {newest('feedline_pipeline_report_samples_per_second', NAMESPACE)}"
    created = f"{newest('feedline_pipeline_created_timestamp_seconds', NAMESPACE)} * 1000"
    progress = newest("feedline_pipeline_progress_ratio", NAMESPACE)

    def column(title: str, expr: str, unit: str, steps: Steps = ()) -> Column:
        return Column(title, Query(expr, title, now=True), unit, steps)

    def labels(metric: str, *names: str) -> Column:
        """Return a column that is not shown: its query brings the labels of other columns."""
        return Column("", Query(newest(metric, NAMESPACE, *names), ", ".join(names), now=True))

    return grid(
        "Pipelines",
        [
            Column("Namespace", "namespace"),
            Column("Pipeline", "job_name", link=OPEN_ROW),
            Column("State", "reason"),
            Column("Backend", "backend"),
            Column("Engine", "engine"),
            column("Created", created, units.DateTimeFromNow),
            column("Progress", progress, units.PercentUnit),
            column("Waiting for data", waiting, units.PercentUnit, STALL),
            column("Rows/s", speed, units.RowsPerSecond),
            column("Accelerators", accelerators(NAMESPACE), units.Short),
            labels("feedline_pipeline_status_reason", "reason"),
            labels("feedline_pipeline_info", "backend", "engine"),
        ],
        newest_by="Created",
        description="All pipelines that there are now. Of one that has ended, the figures are those of its final "
        "report.",
        unit=units.NoUnit,
        no_value=_NONE,
    )
