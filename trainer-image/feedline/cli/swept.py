"""A sweep, wherever it runs: in a folder of this machine, or in a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedline.cli.cluster import PIPELINES, SWEEPS
from feedline.cli.connection import connect
from feedline.contract import LABEL_SWEEP
from feedline.errors import EnvironmentInvalidError, InputMissingError
from feedline.manifest import Sweep, parse_sweep
from feedline.sweeps import Trial, trial_of


@dataclass(frozen=True)
class Swept:
    """A sweep, its trials, and the newest report of each, by its number."""

    sweep: Sweep
    trials: list[Trial]
    reports: Mapping[int, Mapping[str, Any]]


def swept(place: str, namespace: str | None, context: str | None, kubeconfig: str | None) -> Swept:
    """Return a sweep.

    Parameters
    ----------
    place
        A folder that `feedline sweep run` made, or the name of a sweep in a cluster.
    namespace, context, kubeconfig
        Which cluster it is, as of `connect`.

    Raises
    ------
    InputMissingError
        There is none.
    """
    folder = Path(place)
    is_elsewhere = any(option is not None for option in (namespace, context, kubeconfig))
    if "/" in place or (folder.is_dir() and not is_elsewhere):
        return swept_in(folder)
    return _in_cluster(place, namespace, context, kubeconfig)


def swept_in(folder: Path) -> Swept:
    """Return the sweep that lies in a folder; errors as of `swept`."""
    from feedline.local import SWEEP, read_trials, sweep_in
    from feedline.training import report_in

    if not (folder / SWEEP).is_file():
        raise InputMissingError(f"{folder}: is no sweep: it has no {SWEEP}; name a folder that feedline sweep run made")
    sweep = sweep_in(folder)
    trials = read_trials(folder, sweep, lambda _: 0)
    found = {trial.index: report_in(folder / f"{sweep.name}-{trial.index}") for trial in trials}
    return Swept(sweep, trials, {index: report for index, report in found.items() if report})


def _in_cluster(name: str, namespace: str | None, context: str | None, kubeconfig: str | None) -> Swept:
    try:
        cluster = connect(namespace, context, kubeconfig)
    except EnvironmentInvalidError as error:
        raise EnvironmentInvalidError(f"{name}: is no folder here, and {error}") from None
    document = cluster.find(SWEEPS, name)
    if document is None:
        raise InputMissingError(
            f"{name}: is no folder here, and no TrainingSweep in namespace {cluster.namespace}; "
            "name the folder of a sweep, or -n NAMESPACE"
        )
    sweep = parse_sweep({"metadata": {"name": name}, "spec": document["spec"]}, is_accepted=True)
    trials, reports = [], {}
    for pipeline in cluster.find_all(PIPELINES, labels=f"{LABEL_SWEEP}={name}"):
        owners = {owner["uid"] for owner in pipeline["metadata"].get("ownerReferences", ())}
        number = pipeline["metadata"]["name"].removeprefix(f"{name}-")
        if document["metadata"]["uid"] in owners and number.isdecimal():
            status = pipeline.get("status", {})
            trials.append(trial_of(pipeline, sweep.objective.value, int(number)))
            reports[int(number)] = status.get("report") or status.get("feed") or {}
    return Swept(sweep, sorted(trials, key=lambda each: each.index), reports)
