"""`feedline why`: what holds a pipeline up, or back, in one sentence, seen with the user's own rights."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import typer

from feedline.cli.cluster import (
    EVENTS,
    JOBS,
    NODES,
    PIPELINES,
    PODS,
    WORKLOADS,
    Cluster,
    NotPermittedError,
    NotServedError,
    Object,
)
from feedline.cli.connection import ContextOption, KubeconfigOption, NameArgument, NamespaceOption, connect
from feedline.cli.explain import explain
from feedline.cli.seen import Seen, has_ended, is_held_elsewhere
from feedline.contract import ExitCode

T = TypeVar("T")


def why(
    name: NameArgument,
    *,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Say in one sentence why a pipeline waits, failed, or is as fast as it is, and what to do.

        feedline why digits

    It looks at the pipeline, its Job, pod, node and events, and at Kueue's Workload, as far as you may read them.
    Exit codes: 0 found, 66 there is no such pipeline, 75 the cluster cannot be reached, 78 no cluster or not permitted.
    """
    seen = look(connect(namespace, context, kubeconfig), name)
    explanation = explain(seen)
    typer.echo(explanation.sentence)
    if explanation.advice:
        typer.echo(f"What to do: {explanation.advice}")
    if not seen.pipeline:
        raise typer.Exit(ExitCode.NO_INPUT)


def look(cluster: Cluster, name: str) -> Seen:
    """Read all that `explain` can use of what the user may read."""
    pipeline = cluster.find(PIPELINES, name)
    if pipeline is None:
        return Seen(name, cluster.namespace, {})
    job = _if_possible(lambda: cluster.find(JOBS, name))
    pods = _if_possible(lambda: cluster.pods(pipeline)) or []
    events = [event for thing in (job, *pods) if thing for event in _events(cluster, thing)]
    return Seen(
        name,
        cluster.namespace,
        pipeline,
        job=job,
        pods=pods,
        events=events,
        workload=_workload(cluster, job) if job is not None and job["spec"].get("suspend") else None,
        nodes=_nodes(cluster, pods),
        # No more than who reads the pipeline's own pods may do; there may be thousands, though.
        neighbours=_if_possible(lambda: cluster.find_all(PODS)) if any(map(is_held_elsewhere, events)) else (),
        server_version=_if_possible(cluster.version),
    )


def _if_possible(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except (NotPermittedError, NotServedError):
        return None


def _events(cluster: Cluster, thing: Object) -> list[Object]:
    uid = thing["metadata"]["uid"]
    return _if_possible(lambda: cluster.find_all(EVENTS, fields=f"involvedObject.uid={uid}")) or []


def _workload(cluster: Cluster, job: Object) -> Object | None:
    """Return Kueue's Workload, from whichever of its versions is served."""
    label = f"kueue.x-k8s.io/job-uid={job['metadata']['uid']}"
    for kind in WORKLOADS:
        try:
            return next(iter(cluster.find_all(kind, labels=label)), None)
        except NotServedError:
            continue
        except NotPermittedError:
            break
    return None


def _nodes(cluster: Cluster, pods: list[Object]) -> dict[str, Object]:
    """Return the nodes of the pods, which belong to no namespace and which few users may read."""
    nodes = {}
    for name in {pod["spec"].get("nodeName") for pod in pods if not has_ended(pod)} - {None}:
        node = _if_possible(partial(cluster.find, NODES, name))
        if node is not None:
            nodes[name] = node
    return nodes
