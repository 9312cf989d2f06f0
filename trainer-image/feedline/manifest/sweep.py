"""A TrainingSweep: the schema, what it says, and that every trial of it will be a valid TrainingPipeline."""

import copy
import functools
import importlib.resources
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from feedline.contract import API_GROUP, API_VERSION, KIND, PARAMETERS_ANNOTATION, SWEEP_KIND
from feedline.errors import UsageError
from feedline.manifest.document import Objective, Parameter
from feedline.manifest.jsonvalues import plain
from feedline.manifest.overrides import assign, value_at
from feedline.manifest.reading import ManifestError, parse, read_kind

_SCHEMA_FILE: Final = "trainingsweeps.yaml"
_MOST_POINTS: Final = 1000
_MOST_CORNERS: Final = 64
_BETWEEN: Final = 0.381966  # no ratio of small whole numbers
CONFIRMATION: Final = 1000
"""A confirmation of trial 3 is trial 1003, the next one 2003."""
_SAME_FOR_ALL: Final = (
    "spec.data.volumes",
    "spec.image",
    "spec.objective",
    "spec.output",
    "spec.pod",
    "spec.policy.ttlSecondsAfterFinished",
    "spec.stop",
    "spec.suspend",
)
"""What a trial may not choose: where its data and output lie, what it is allowed, and what the sweep decides."""


@dataclass(frozen=True)
class Numbers:
    """A parameter that is a number from `least` to `most`, whole where `is_whole`; a whole one may have a step."""

    least: float
    most: float
    is_log: bool
    is_whole: bool
    step: int | None = None


@dataclass(frozen=True)
class Choice:
    """A parameter that is one of some values."""

    values: tuple[Parameter, ...]


@dataclass(frozen=True)
class Dimension:
    """What differs from trial to trial: the field at `path` of the template."""

    name: str
    path: str
    space: Numbers | Choice


@dataclass(frozen=True)
class Pruning:
    """By what a trial is ended early; `warmup` and `interval` are epochs."""

    rule: Literal["None", "Median", "SuccessiveHalving"]
    warmup: int
    interval: int
    min_trials: int
    reduction_factor: int


@dataclass(frozen=True)
class Confirm:
    """How many of the best are trained once more, and with how many other seeds."""

    top: int
    seeds: int


@dataclass(frozen=True)
class Sweep:
    """A checked TrainingSweep with all defaults.

    Attributes
    ----------
    trials
        How many there are at most; of a Grid, its points.
    document
        What it was made of.
    """

    name: str
    objective: Objective
    parameters: tuple[Dimension, ...]
    algorithm: Literal["TPE", "Random", "QuasiRandom", "Grid"]
    seed: int
    trials: int
    parallel: int
    max_failed: int
    pruning: Pruning
    confirm: Confirm | None
    document: dict[str, Any]

    def pipeline_of(self, index: int, values: Mapping[str, Parameter]) -> dict[str, Any]:
        """Return the TrainingPipeline of a trial, for `parse`: the template with the values that it has."""
        template = copy.deepcopy(self.document["spec"]["template"])
        name = f"{self.name}-{index}"
        pipeline: dict[str, Any] = {
            "apiVersion": f"{API_GROUP}/{API_VERSION}",
            "kind": KIND,
            "metadata": {**template.get("metadata", {}), "name": name},
            "spec": template["spec"],
        }
        pipeline["metadata"]["annotations"] = {
            **pipeline["metadata"].get("annotations", {}),
            PARAMETERS_ANNOTATION: json.dumps(dict(values)),
        }
        pipeline["spec"]["objective"] = self.document["spec"]["objective"]
        for parameter in self.parameters:
            if parameter.name in values:
                assign(pipeline, parameter.path, values[parameter.name], f"spec.parameters.{parameter.name}")
        if (round_ := index // CONFIRMATION) > 0:
            _reseed(pipeline["spec"], round_)
        return pipeline

    def point(self, index: int) -> dict[str, Parameter]:
        """Return a point of a grid; the last parameter changes from each to the next."""
        found = {}
        for parameter in reversed(self.parameters):
            index, place = divmod(index, _size(parameter.space))
            found[parameter.name] = _value_at(parameter.space, place)
        return {parameter.name: found[parameter.name] for parameter in self.parameters}


def _reseed(spec: dict[str, Any], by: int) -> None:
    """Give a pipeline's spec other seeds, of the order of rows and of all else."""
    train, shuffle = spec["train"], spec.setdefault("loader", {}).setdefault("shuffle", {})
    train["seed"] = train.get("seed", 0) + by
    if shuffle.get("mode") != "None":
        shuffle["seed"] = shuffle.get("seed", 0) + by


def read_sweep(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a file with one TrainingSweep; arguments and errors as of `feedline.manifest.read`."""
    return read_kind(path, overrides, SWEEP_KIND)


def parse_sweep(document: Mapping[str, Any], *, is_accepted: bool = False) -> Sweep:
    """Check a document, its template among it, and what the extremes of its parameters make of that.

    Parameters
    ----------
    document
        Of a TrainingSweep.
    is_accepted
        Whether it was found valid before: what its trials will be is not checked once more.

    Raises
    ------
    ManifestError
        With all of the document's problems.
    """
    try:
        full = plain(dict(document), "the sweep")
    except UsageError as error:
        raise ManifestError([str(error)]) from None
    schema = sweep_schema()
    schema.apply_defaults(full)
    problems = schema.problems(full)
    if not problems:
        problems = [*_choice_problems(full["spec"]), *_path_problems(full["spec"]), *_template_problems(full["spec"])]
    if problems:
        raise ManifestError(problems)
    sweep = _frozen(full)
    if problems := [
        *_size_problems(sweep),
        *([] if is_accepted else [*_step_problems(sweep), *_trial_problems(sweep)]),
    ]:
        raise ManifestError(problems)
    return sweep


@functools.cache
def sweep_schema() -> Any:
    """Return the schema of a TrainingSweep, with a pipeline's spec in its template."""
    from feedline.manifest.schema import METADATA, STATUS, Schema, pipeline_schema
    from feedline.manifest.yamlread import read_yaml

    text = importlib.resources.files("feedline.manifest").joinpath(_SCHEMA_FILE).read_text(encoding="utf-8")
    (root,) = read_yaml(text, _SCHEMA_FILE)
    template = root["properties"]["spec"]["properties"]["template"]["properties"]
    template["spec"] = pipeline_schema().root["properties"]["spec"]
    root["properties"] |= {"metadata": METADATA, "status": STATUS}
    return Schema(root)


def _frozen(document: dict[str, Any]) -> Sweep:
    spec = document["spec"]
    parameters = tuple(Dimension(each["name"], _path(each), _space(each)) for each in spec["parameters"])
    algorithm, pruning, confirm = spec["algorithm"], spec["pruning"], spec.get("confirm")
    sweep = Sweep(
        name=document["metadata"]["name"],
        objective=Objective(spec["objective"]["value"], spec["objective"]["goal"] == "Maximize"),
        parameters=parameters,
        algorithm=algorithm["type"],
        seed=algorithm["seed"],
        trials=spec.get("trials", _MOST_POINTS),
        parallel=spec["parallel"],
        max_failed=spec["maxFailed"],
        pruning=Pruning(
            pruning["rule"], pruning["warmup"], pruning["interval"], pruning["minTrials"], pruning["reductionFactor"]
        ),
        confirm=None if confirm is None else Confirm(confirm["top"], confirm["seeds"]),
        document=document,
    )
    if sweep.algorithm != "Grid":
        return sweep
    return replace(sweep, trials=min(sweep.trials, _grid_size(sweep)))


def _path(parameter: Mapping[str, Any]) -> str:
    """Return which field a parameter sets."""
    path: str = parameter.get("path", f"spec.train.parameters.{parameter['name']}")
    return path


def _space(parameter: Mapping[str, Any]) -> Numbers | Choice:
    if "choice" in parameter:
        return Choice(tuple(parameter["choice"]["values"]))
    if "float" in parameter:
        said = parameter["float"]
        return Numbers(float(said["min"]), float(said["max"]), said["scale"] == "Log", is_whole=False)
    said = parameter["int"]
    least, step = said["min"], said.get("step")
    most = said["max"] - (said["max"] - least) % (step or 1)  # the last one that is on a step
    return Numbers(least, most, said["scale"] == "Log", is_whole=True, step=step)


def _size(space: Numbers | Choice) -> int:
    """Return how many values a choice or a whole number has."""
    if isinstance(space, Choice):
        return len(space.values)
    return (int(space.most) - int(space.least)) // (space.step or 1) + 1


def _value_at(space: Numbers | Choice, place: int) -> Parameter:
    return space.values[place] if isinstance(space, Choice) else int(space.least) + place * (space.step or 1)


def _grid_size(sweep: Sweep) -> int:
    return math.prod(_size(parameter.space) for parameter in sweep.parameters)


def _ends(space: Numbers | Choice) -> tuple[Parameter, ...]:
    if isinstance(space, Choice):
        return space.values
    return space.least, space.most


def _samples(space: Numbers | Choice) -> tuple[Parameter, ...]:
    """Return the ends, and something between them: a number that is not whole, one that two does not divide."""
    if isinstance(space, Choice):
        return space.values
    if space.is_whole:
        return *_ends(space), *(_value_at(space, place) for place in (1, 2) if place < _size(space) - 1)
    return *_ends(space), space.least + _BETWEEN * (space.most - space.least)


def _choice_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    for number, parameter in enumerate(spec["parameters"]):
        seen: list[str] = []
        for place, value in enumerate(parameter.get("choice", {}).get("values", ())):
            where = f"spec.parameters[{number}].choice.values[{place}]"
            if not isinstance(value, str | int | float):
                yield f"{where}: must be a string, a number or a boolean (got {json.dumps(value)})"
            elif json.dumps(value) in seen:
                yield f"{where}: {json.dumps(value)} is given twice; give each value once"
            seen.append(json.dumps(value))


def _path_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    paths: dict[str, str] = {}
    for number, parameter in enumerate(spec["parameters"]):
        path = _path(parameter)
        for forbidden in _SAME_FOR_ALL:
            if path == forbidden or path.startswith(f"{forbidden}."):
                yield f"spec.parameters[{number}].path: {forbidden} is the same for all trials; say it in the template"
        if path in paths:
            yield f"spec.parameters[{number}].path: {path} is set by {paths[path]}; let each set another field"
        paths[path] = parameter["name"]


def _template_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    policy = spec["template"]["spec"].get("policy", {})
    if "ttlSecondsAfterFinished" in policy:
        yield ("spec.template.spec.policy.ttlSecondsAfterFinished: a trial that vanished would run again; leave it out")
    for field in ("stop", "objective"):
        if field in spec["template"]["spec"]:
            yield f"spec.template.spec.{field}: is the sweep's to say; leave it out"
    if spec["template"]["spec"].get("suspend"):
        yield "spec.template.spec.suspend: is for a pipeline; leave it out"


def _size_problems(sweep: Sweep) -> Iterator[str]:
    size = _grid_size(sweep) if sweep.algorithm == "Grid" else 0
    if size > _MOST_POINTS and "trials" not in sweep.document["spec"]:
        yield f"spec.algorithm: the grid has {size} points, and a sweep at most {_MOST_POINTS} trials; take fewer"
    for each in sweep.parameters:
        if isinstance(each.space, Numbers) and not math.isfinite(each.space.most - each.space.least):
            yield f"spec.parameters.{each.name}: min and max are further apart than a number can say; take less"


def _step_problems(sweep: Sweep) -> Iterator[str]:
    for each in sweep.parameters:
        if isinstance(each.space, Numbers) and each.space.is_whole and _size(each.space) == 1:
            yield f"spec.parameters.{each.name}: step {each.space.step} leaves one value; take a smaller one"


def _trial_problems(sweep: Sweep) -> list[str]:
    """Check the template by itself, some values of each parameter, and ends of all of them together."""
    problems = [f"spec.template.{problem}" for problem in _problems_of(sweep, {})]
    if problems:
        return problems
    for parameter in sweep.parameters:
        alone = ({parameter.name: value} for value in _samples(parameter.space))
        for problem, values in _first_of_each(sweep, alone).items():
            said = f"spec.parameters.{parameter.name}: {json.dumps(values[parameter.name])} is not possible"
            problems.append(f"{said}: {problem}")
    if not problems:
        together = _first_of_each(sweep, _corners(sweep)).items()
        problems = [f"spec.parameters: {json.dumps(corner)} is not possible: {each}" for each, corner in together]
        problems = problems[:2]  # which show what it is
    if not problems and sweep.confirm is not None:
        again = _problems_of(sweep, {}, index=sweep.confirm.seeds * CONFIRMATION)
        problems = [f"spec.confirm: a confirmation is not possible: {each}" for each in again]
    return problems


def _first_of_each(sweep: Sweep, cases: Iterable[dict[str, Parameter]]) -> dict[str, dict[str, Parameter]]:
    """Return each problem with the first values that have it: what is wrong with a path is wrong with every value."""
    found: dict[str, dict[str, Parameter]] = {}
    for values in cases:
        for problem in _problems_of(sweep, values):
            found.setdefault(problem, values)
    return found


def _corners(sweep: Sweep) -> Iterator[dict[str, Parameter]]:
    """Yield combinations of the ends of all parameters: all of them, or as many as can be checked in a second."""
    names, ends = [each.name for each in sweep.parameters], [_ends(each.space) for each in sweep.parameters]
    every: Iterable[tuple[Parameter, ...]] = itertools.product(*ends)
    if (count := math.prod(map(len, ends))) > _MOST_CORNERS:
        # Spread over all of them, the first and the last among them.
        every = (
            tuple(each[place // math.prod(map(len, ends[n + 1 :])) % len(each)] for n, each in enumerate(ends))
            for place in (number * (count - 1) // (_MOST_CORNERS - 1) for number in range(_MOST_CORNERS))
        )
    yield from (dict(zip(names, corner, strict=True)) for corner in every)


def _problems_of(sweep: Sweep, values: Mapping[str, Parameter], index: int = 0) -> list[str]:
    try:
        pipeline = sweep.pipeline_of(index, values)
        for parameter in sweep.parameters:
            if parameter.name in values and value_at(pipeline, parameter.path) != values[parameter.name]:
                return [f"{parameter.name} has no effect, since another parameter takes its field away"]
        parse(pipeline)
    except UsageError as error:
        return list(getattr(error, "problems", (str(error),)))
    return []


def parameters_of(document: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return the values that a trial was given; none where it is no trial."""
    try:
        found = json.loads(document["metadata"]["annotations"][PARAMETERS_ANNOTATION])
    except (KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
