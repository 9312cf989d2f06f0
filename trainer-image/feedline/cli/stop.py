"""`feedline stop`: a training in a cluster ends early and well, by `spec.stop`."""

from typing import Annotated

import typer

from feedline.cli.cluster import PIPELINES
from feedline.cli.connection import ContextOption, KubeconfigOption, NameArgument, NamespaceOption, connect
from feedline.cli.seen import condition


def stop(
    name: NameArgument,
    *,
    message: Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="Why, for who looks later.")] = "",
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """End a training early and well: it saves itself, and its pipeline is Stopped, which is a success.

        feedline stop digits --message "good enough"

    It cannot be taken back. To go on later, suspend the pipeline instead: kubectl patch tp NAME --type merge -p
    '{"spec": {"suspend": true}}'. Exit codes: 0 asked for, or it has finished already; 66 there is no such pipeline, 75
    the cluster cannot be reached, 78 no cluster or not permitted.
    """
    cluster = connect(namespace, context, kubeconfig)
    pipeline = cluster.pipeline(name)
    if pipeline.get("status") and condition(pipeline, "Succeeded")["status"] != "Unknown":
        typer.echo(f"{name} has finished: {condition(pipeline, 'Succeeded')['reason']}")
        return
    if "stop" in pipeline["spec"]:
        typer.echo(f"{name} is being stopped already")
        return
    cluster.patch(PIPELINES, pipeline, {"spec": {"stop": {"message": message}}})
    typer.echo(f"{name} is being stopped in namespace {cluster.namespace}; `feedline status {name}` says when it has")
