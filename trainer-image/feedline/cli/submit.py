"""`feedline submit`: a manifest that runs on a laptop, read and checked alike, becomes a pipeline in a cluster."""

import time
from typing import Annotated, Any

import typer

from feedline import manifest
from feedline.cli import options
from feedline.cli.cluster import PIPELINES, AlreadyExistsError, Cluster, ClusterUnavailableError, Object
from feedline.cli.connection import ContextOption, KubeconfigOption, NamespaceOption, connect
from feedline.cli.explain import explain
from feedline.cli.printable import sentence
from feedline.cli.seen import Seen, condition
from feedline.contract import ExitCode
from feedline.errors import InputMissingError, UsageError

_POLL_SECONDS = 1.0


def submit(
    file: options.File,
    *,
    backend: options.Backend = None,
    set_: options.SetOption = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Another name than the file's.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the pipeline's state until it has finished.")] = False,
    namespace: NamespaceOption = None,
    context: ContextOption = None,
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Check a manifest and create its pipeline in a cluster.

        feedline submit pipeline.yaml

    The same with other parameters, until it has finished:

        feedline submit pipeline.yaml --name digits-64 --set spec.loader.batchSize=64 --wait

    Exit codes: 0 created, and with --wait Completed; 64 wrong manifest or a name that is taken, 66 missing file, 75 the
    cluster cannot be reached, 78 no cluster or not permitted. With --wait also: the run's own, as of `feedline run`;
    1 failed without one.
    """
    changes = [*(set_ or []), *([f"spec.backend={backend}"] if backend else [])]
    document = manifest.read(file, changes)
    if name is not None:
        document["metadata"] = {**(document.get("metadata") or {}), "name": name}
    manifest.parse(document)
    cluster = connect(_namespace(document, namespace), context, kubeconfig)
    created = _create(cluster, document)
    called = created["metadata"]["name"]
    typer.echo(f"{called} created in namespace {cluster.namespace}")
    if wait:
        raise typer.Exit(_follow(cluster, created))
    typer.echo(f"Follow it by `feedline status {called}`, `feedline logs {called} -f` and `feedline why {called}`.")


def _namespace(document: Object, asked: str | None) -> str | None:
    """Return the file's own namespace, if it has one; as with kubectl, another one must not be asked for."""
    own: str | None = document["metadata"].get("namespace")
    if own and asked and own != asked:
        raise UsageError(f"--namespace {asked}: the manifest's metadata.namespace is {own}; leave one of them out")
    return asked or own


def _create(cluster: Cluster, document: dict[str, Any]) -> Object:
    try:
        return cluster.create(PIPELINES, document)
    except AlreadyExistsError:
        name = document["metadata"]["name"]
        raise AlreadyExistsError(
            f"a pipeline {name} is in namespace {cluster.namespace} already: "
            f"`feedline delete {name} --wait` first, or choose another name by --name"
        ) from None


def _follow(cluster: Cluster, created: Object) -> int:
    """Print each new state until the pipeline has finished, and return the exit code."""
    name = created["metadata"]["name"]
    shown = ""
    while True:
        try:
            pipeline = cluster.find(PIPELINES, name)
        except ClusterUnavailableError as error:
            # It may be restarting; the pipeline goes on without it.
            told, pipeline = str(error), created
        else:
            if pipeline is None or pipeline["metadata"]["uid"] != created["metadata"]["uid"]:
                raise InputMissingError(f"{name} was deleted before it had finished")
            told = _state(pipeline)
        if told and told != shown:
            typer.echo(f"{time.strftime('%H:%M:%S')}  {told}")
            shown = told
        succeeded = condition(pipeline, "Succeeded")["status"]
        if succeeded != "Unknown":
            return _ended(cluster, pipeline, is_good=succeeded == "True")
        time.sleep(_POLL_SECONDS)


def _state(pipeline: Object) -> str:
    succeeded = condition(pipeline, "Succeeded")
    if succeeded["reason"] == "Unknown":
        return ""
    return f"{succeeded['reason']}: {sentence(succeeded['message'])}"


def _ended(cluster: Cluster, pipeline: Object, *, is_good: bool) -> int:
    explanation = explain(Seen(pipeline["metadata"]["name"], cluster.namespace, pipeline))
    typer.echo(" ".join(filter(None, (explanation.sentence, explanation.advice))))
    if is_good:
        return ExitCode.OK
    report = pipeline["status"].get("report") or {}
    return report.get("exitCode") or 1
