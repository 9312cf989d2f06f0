"""`feedline status`: where the pipelines of a namespace stand, and all that is known about one of them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from feedline.cli.cluster import PIPELINES, Object
from feedline.cli.connection import ContextOption, KubeconfigOption, NamespaceOption, connect
from feedline.cli.printable import columns, sentence
from feedline.cli.seen import condition, output_of, progress, saved, verdict


def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A pipeline; without it, all of them.")] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the objects as JSON, as the cluster has them.")
    ] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Show the pipelines in a cluster, or one of them with its progress, verdict and attempts.

        feedline status

        feedline status digits

    Exit codes: 0 found, 66 there is no such pipeline, 75 the cluster cannot be reached, 78 no cluster or not permitted.
    """
    cluster = connect(namespace, context, kubeconfig)
    if as_json:
        found = cluster.find_all(PIPELINES) if name is None else cluster.pipeline(name)
        # In ASCII, since a terminal would obey what a pod has written.
        typer.echo(json.dumps(found, indent=2))
    elif name is not None:
        for line in _described(cluster.pipeline(name), datetime.now(UTC)):
            typer.echo(line)
    else:
        table = cluster.table(PIPELINES)
        shown = [(index, each["name"]) for index, each in enumerate(table["columnDefinitions"]) if not each["priority"]]
        rows = [[row["cells"][index] for index, _ in shown] for row in table["rows"] or []]
        if not rows:
            typer.echo(f"no pipelines in namespace {cluster.namespace}; `feedline submit FILE` makes one")
            return
        for line in columns([[heading.upper() for _, heading in shown], *rows]):
            typer.echo(line)


def _described(pipeline: Object, now: datetime) -> Iterator[str]:
    metadata, told = pipeline["metadata"], pipeline.get("status") or {}
    succeeded = condition(pipeline, "Succeeded")
    yield f"{metadata['name']}: {pipeline['spec']['backend']}, in namespace {metadata['namespace']}"
    if not told:
        yield f"no operator has looked at it yet: feedline why {metadata['name']}"
        return
    numbers = told.get("report") or told.get("feed") or {}
    facts = [
        ("state", f"{succeeded['reason']}: {sentence(succeeded['message'])}"),
        ("nodes", _nodes(told)),
        ("created", _ago(metadata["creationTimestamp"], now)),
        ("started", _ago(told.get("startTime"), now)),
        ("completed", _ago(told.get("completionTime"), now)),
        *_numbers(numbers, now),
        *_left_behind(pipeline, now),
    ]
    yield from columns([fact for fact in facts if fact[1]])
    attempts = told.get("attempts") or []
    if attempts:
        yield ""
        yield from columns(
            [
                ("ATTEMPT", "POD", "NODE", "STARTED", "ENDED", "FROM STEP", "REASON", "EXIT", "MESSAGE"),
                *_attempts(attempts, now),
            ]
        )
    yield ""
    yield from columns(
        [
            ("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"),
            *(
                (each["type"], each["status"], each["reason"], _ago(each["lastTransitionTime"], now), each["message"])
                for each in told.get("conditions") or []
            ),
        ]
    )


def _nodes(told: Object) -> str:
    ranks = told.get("ranks") or {}
    return f"{ranks['nodesRunning']} of {ranks['nodes']} run, for {ranks['world']} processes" if ranks else ""


def _numbers(numbers: Object, now: datetime) -> Iterator[tuple[str, str]]:
    from feedline.units import rate

    if "steps" in numbers:
        yield "steps", progress(numbers)
    if "samplesPerSecond" in numbers:
        yield "speed", rate(numbers["samplesPerSecond"])
    if "waitPermille" in numbers:
        yield "waiting", f"{numbers['waitPermille'] / 10:.0f} %"
    yield from (numbers.get("values") or {}).items()
    ranks = numbers.get("ranks") or {}
    if {"slowest", "waitPermille", "othersPermille"} <= ranks.keys():
        where = f" on node {sentence(ranks['node'])}" if "node" in ranks else ""
        others = f"the others at most {ranks['othersPermille'] / 10:.0f} %"
        yield "slowest", f"rank {ranks['slowest']}{where} waits {ranks['waitPermille'] / 10:.0f} %, {others}"
    yield "verdict", verdict(numbers)
    yield "advice", (numbers.get("verdict") or {}).get("advice", "")
    yield "seen", _ago(numbers.get("observedTime"), now)


def _left_behind(pipeline: Object, now: datetime) -> Iterator[tuple[str, str]]:
    told = pipeline["status"]
    if "best" in (aim := told.get("objective") or {}):
        yield "best", f"{pipeline['spec']['objective']['value']} {aim['best']} at step {aim.get('bestStep', '?')}"
    if newest := saved(pipeline):
        yield "checkpoint", f"{newest}, {_ago(told['checkpoint'].get('time'), now)}"
    yield "output", output_of(pipeline) or ""


def _attempts(attempts: list[Object], now: datetime) -> Iterator[tuple[object, ...]]:
    for each in attempts:
        times = (_ago(each.get("startTime"), now), _ago(each.get("endTime"), now))
        where = (each["index"], each.get("pod"), each.get("node"))
        yield *where, *times, each.get("fromStep"), each.get("reason"), each.get("exitCode"), each.get("message")


def _ago(time: str | None, now: datetime) -> str:
    """Return how long ago something was, such as ``5 min ago``, or "" where it never was."""
    if not time:
        return ""
    seconds = max(0.0, (now - datetime.fromisoformat(time)).total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
