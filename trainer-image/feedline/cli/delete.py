"""`feedline delete`: a pipeline and, by the cluster's garbage collection, its Job and pods."""

import time
from enum import StrEnum
from typing import Annotated

import typer

from feedline.cli.cluster import JOBS, PIPELINES, PODS, Cluster, ClusterUnavailableError, Object
from feedline.cli.connection import ContextOption, KubeconfigOption, NamespaceOption, connect
from feedline.contract import LABEL_PIPELINE
from feedline.errors import InputMissingError

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.5


class Cascade(StrEnum):
    """Whether a pipeline goes before its Job and pods, or after them."""

    BACKGROUND = "background"
    FOREGROUND = "foreground"


def delete(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Pipelines in the cluster.")],
    *,
    cascade: Annotated[
        Cascade, typer.Option(help="background: the pipeline goes at once; foreground: after its Job and pods.")
    ] = Cascade.BACKGROUND,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until Job and pods are gone, too, 60 s at most.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Delete pipelines with their Jobs, pods and logs; a training that runs is ended.

        feedline delete digits

    Exit codes: 0 deleted, 66 there is no such pipeline (others are deleted all the same), 75 the cluster cannot be
    reached or something is left after --wait, 78 no cluster or not permitted.
    """
    cluster = connect(namespace, context, kubeconfig)
    missing: list[str] = []
    deleted: dict[str, set[str]] = {}
    for name in names:
        pipeline = cluster.find(PIPELINES, name)
        if pipeline is None:
            missing.append(name)
            continue
        uids = deleted[name] = {pipeline["metadata"]["uid"]}
        if wait:
            _left(cluster, name, uids)  # the Job's uid, by which its pods are known once it is gone
        cluster.delete(PIPELINES, pipeline, cascade.capitalize())
        typer.echo(f"{name} deleted from namespace {cluster.namespace}")
    if wait:
        _wait_until_gone(cluster, deleted)
    if missing:
        raise InputMissingError(f"there is no pipeline {', '.join(missing)} in namespace {cluster.namespace}")


def _wait_until_gone(cluster: Cluster, deleted: dict[str, set[str]]) -> None:
    """Wait for what belongs to the pipelines; namesakes that were made since do not count.

    Raises
    ------
    ClusterUnavailableError
        After 60 s, with what is left.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while left := [thing for name, uids in deleted.items() for thing in _left(cluster, name, uids)]:
        if time.monotonic() > deadline:
            raise ClusterUnavailableError(f"still there after {_WAIT_SECONDS:.0f} s: {', '.join(left)}")
        time.sleep(_POLL_SECONDS)


def _left(cluster: Cluster, name: str, uids: set[str]) -> list[str]:
    """Return what is left of a pipeline; `uids` are its own and its Jobs', and grow with what is found."""
    pipeline = cluster.find(PIPELINES, name)
    left = [f"pipeline {name}"] if pipeline is not None and pipeline["metadata"]["uid"] in uids else []
    for job in cluster.find_all(JOBS, labels=f"{LABEL_PIPELINE}={name}"):
        if uids & _owners(job):
            uids.add(job["metadata"]["uid"])
            left.append(f"Job {name}")
    for pod in cluster.find_all(PODS, labels=f"{LABEL_PIPELINE}={name}"):
        if uids & _owners(pod):
            node = pod["spec"].get("nodeName")
            left.append(f"pod {pod['metadata']['name']}{f' on node {node}' if node else ''}")
    return left


def _owners(thing: Object) -> set[str]:
    return {owner["uid"] for owner in thing["metadata"].get("ownerReferences", [])}
