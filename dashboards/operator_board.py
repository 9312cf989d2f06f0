"""The dashboard of the operator itself, which answers whether it leads, whether it keeps up, and what it costs."""

from expressions import OPERATOR, RANGE, RATE, of_operators, where
from frame import Frame
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units
from panels import Query, buckets, lines, name, number

_NO_OPERATOR = "No operator was scraped"
_ERRORS = ((None, "green"), (0.01, "orange"), (0.1, "red"))


def board() -> model.Dashboard:
    """Return the dashboard."""
    frame = Frame(
        "feedline-operator",
        "feedline / Operator",
        "The operator itself: whether it leads, keeps up, and what it asks of the API server.",
    )
    # Not `namespace`: the other dashboards hand theirs on by that name, and the operator does not live in those.
    installed = "label_values(feedline_operator_build_info, namespace)"
    frame.variable("operator_namespace", "Operator's namespace", installed, many=True)
    frame.row("Is it there?")
    frame.line(4, *_health())
    frame.row("Reconciling")
    frame.line(8, *_reconciling())
    frame.row("Calls to the API server")
    frame.line(8, *_calls())
    frame.row("Watches and queue")
    frame.line(7, *_watches())
    frame.line(7, *_queue())
    frame.row("Process")
    frame.line(7, *_process())
    return frame.finish()


def _sum(metric: str, by: str, window: str = RATE) -> str:
    return f"sum by ({by}) (rate({metric}{where(OPERATOR)}[{window}]))"


def _quantile(rank: float, metric: str, by: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({rank}, {_sum(f'{metric}_bucket', labels)}) >= 0"


def _health() -> list[model.Panel]:
    known = f"last_over_time(feedline_operator_build_info{where(OPERATOR)}[{RANGE}])"
    return [
        number(
            "Replicas up",
            Query(f"sum(up{where(OPERATOR)} and on (namespace, job, pod) {known})", "up"),
            description="Replicas that Prometheus reaches.",
            unit=units.Short,
            no_value=_NO_OPERATOR,
            steps=((None, "red"), (1.0, "green")),
            filled=True,
        ),
        name(
            "Leader",
            Query(f"max by (pod) (feedline_operator_active{where(OPERATOR)} == 1)", "{{pod}}", now=True),
            description="The replica that leads; the others stand by, with everything known to them.",
            unit=units.NoUnit,
            no_value="None leads",
            colors={".*": "green"},
        ),
        name(
            "Version",
            Query(f"max by (version) (feedline_operator_build_info{where(OPERATOR)})", "{{version}}", now=True),
            description="What runs. Two at once: an upgrade is under way.",
            unit=units.NoUnit,
            no_value=_NO_OPERATOR,
            colors={".*": "blue"},
        ),
        number(
            "Pipelines watched",
            Query("sum(max by (namespace, reason) (feedline_pipelines))", "pipelines"),
            description="Pipelines that the leader knows of, ended ones included.",
            unit=units.Short,
            no_value="None, or no leader",
        ),
        number(
            "Failing reconciles",
            Query(_share("feedline_operator_reconcile_total", 'result=~"error|fault"'), "failing"),
            description="The share of reconciles that end in an error or a fault. Above 10 % for 15 minutes the alert "
            "FeedlineOperatorReconcileErrors fires.",
            unit=units.PercentUnit,
            no_value="Nothing to reconcile",
            steps=_ERRORS,
        ),
        number(
            "Failing calls",
            Query(_share("feedline_operator_api_requests_total", 'code=~"0|403|429|5.."'), "failing"),
            description="The share of calls that the API server did not answer, refused, or failed at; a conflict is "
            "none.",
            unit=units.PercentUnit,
            no_value="No calls",
            steps=_ERRORS,
        ),
    ]


def _share(metric: str, matcher: str) -> str:
    """Return the share of a counter that matches, 0 where what matches has never been counted."""
    part, whole = (f"sum(rate({metric}{where(OPERATOR, more)}[{RATE}]))" for more in (matcher, ""))
    return f"({part} or vector(0)) / ({whole} > 0)"


def _reconciling() -> list[model.Panel]:
    duration = "feedline_operator_reconcile_duration_seconds"
    return [
        lines(
            "Reconciles by result",
            Query(_sum("feedline_operator_reconcile_total", "result"), "{{result}}"),
            description="Looks at a pipeline per second. conflict: somebody else wrote first, and it looks again; "
            "error: the API server refused or failed; fault: a bug; not_leading: another replica leads.",
            unit=units.OpsPerSecond,
            no_value=_NO_OPERATOR,
            stacked=True,
            colors={"success": "green", "error|fault": "red"},
        ),
        lines(
            "Time of a reconcile",
            Query(_quantile(0.5, duration), "p50"),
            Query(_quantile(0.99, duration), "p99"),
            description="Time of one look at a pipeline, waiting for the API server and for the rate limit included.",
            unit=units.Seconds,
            no_value="Nothing to reconcile",
        ),
        buckets(
            "Time of a reconcile, all of them",
            Query(f"sum by (le) (increase({duration}_bucket{where(OPERATOR)}[{RATE}]))", "{{le}}"),
            description="How many looks took how long. The low band found nothing to do; the high one wrote.",
            unit=units.Seconds,
            no_value=_NO_OPERATOR,
        ),
    ]


def _calls() -> list[model.Panel]:
    calls, duration = "feedline_operator_api_requests_total", "feedline_operator_api_request_duration_seconds"
    return [
        lines(
            "Calls by verb and resource",
            Query(_sum(calls, "verb, resource"), "{{verb}} {{resource}}"),
            description="Calls per second, watches aside. Bounded by operator.callsPerSecond.",
            unit=units.RequestsPerSecond,
            no_value="No calls yet",
            stacked=True,
        ),
        lines(
            "Calls by code",
            Query(_sum(calls, "code"), "{{code}}"),
            description="409 is somebody else's write that came first, 429 an API server that asks for patience, 403 a "
            "right that is missing, 0 no answer.",
            unit=units.RequestsPerSecond,
            no_value="No calls yet",
            stacked=True,
            colors={"2..": "green", "409": "yellow", "403|429|5..|0": "red"},
        ),
        lines(
            "Time of calls, p99",
            Query(_quantile(0.99, duration, "verb, resource"), "{{verb}} {{resource}}"),
            description="How long the API server takes to answer.",
            unit=units.Seconds,
            no_value="No calls in the time range",
        ),
    ]


def _watches() -> list[model.Panel]:
    heard = f"max by (pod, kind) (feedline_operator_watch_last_event_timestamp_seconds{where(OPERATOR)})"
    return [
        lines(
            "News from the watches",
            Query(_sum("feedline_operator_watch_events_total", "kind, type"), "{{kind}} {{type}}"),
            description="Events per second. LISTED comes with a new watch: after a start, or after a gap.",
            unit=units.OpsPerSecond,
            no_value="No events yet",
        ),
        lines(
            "Silence of the watches",
            Query(f"time() - {heard}", "{{kind}}s {{pod}}"),
            description="Time since a watch last said something. Silence is normal where nothing happens; while pods "
            "come and go, a watch that stays silent is broken.",
            unit=units.Seconds,
            no_value="No events yet",
        ),
    ]


def _queue() -> list[model.Panel]:
    def each(metric: str) -> Query:
        return Query(f"max by (pod) (feedline_operator_{metric}{where(OPERATOR)})", "{{pod}}")

    return [
        lines(
            "Pipelines in the queue",
            each("queue_length"),
            description="Pipelines that wait for a worker. More operator.workers help where calls are slow, not where "
            "they are rate limited.",
            unit=units.Short,
            no_value=_NO_OPERATOR,
        ),
        lines(
            "Oldest in the queue",
            each("queue_oldest_seconds"),
            description="How long the oldest of them has been waiting.",
            unit=units.Seconds,
            no_value=_NO_OPERATOR,
        ),
        lines(
            "Lag of the event loop",
            each("loop_lag_seconds"),
            description="How late the event loop was in the last second. Above a second, the lease may be lost: give "
            "it CPU.",
            unit=units.Seconds,
            no_value=_NO_OPERATOR,
        ),
    ]


def _process() -> list[model.Panel]:
    def panel(title: str, series: str, description: str, unit: str) -> model.Panel:
        asked = Query(f"max by (pod) ({of_operators(series)})", "{{pod}}")
        return lines(title, asked, description=description, unit=unit, no_value=_NO_OPERATOR)

    selected = where(OPERATOR)
    return [
        panel(
            "Memory",
            f"process_resident_memory_bytes{selected}",
            "Resident memory. It grows with the number of pipelines and their pods.",
            units.BytesIEC,
        ),
        panel("CPU", f"rate(process_cpu_seconds_total{selected}[{RATE}])", "CPUs in use.", units.Short),
        panel(
            "Open files",
            f"process_open_fds{selected}",
            "File descriptors in use: connections to the API server and to trainers.",
            units.Short,
        ),
    ]
