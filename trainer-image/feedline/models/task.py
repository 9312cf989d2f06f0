"""What the built-in models learn: read off the arrays and the parameters of a run, the same for every backend."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from feedline.errors import DataError, UsageError
from feedline.training import classes_in

if TYPE_CHECKING:
    from feedline.training import Run


@dataclass(frozen=True)
class Task:
    """What the data ask for: flattened input width, outputs, and whether the target is a class."""

    inputs: tuple[str, ...]
    target: str
    weight: str | None
    width: int
    outputs: int
    is_classes: bool
    learning_rate: float
    hidden_units: int
    hidden_layers: int


def task_of(run: "Run") -> Task:
    """Read the task off a run's arrays and parameters.

    Raises
    ------
    UsageError
        The built-in model cannot learn from these arrays, or a parameter is unknown or out of range.
    DataError
        The rows of the validation have another shape.
    """
    known = {"learningRate", "hiddenUnits", "hiddenLayers"}
    for name in run.parameters:
        if name not in known:
            raise UsageError(f"spec.train.parameters.{name}: the built-in model knows {', '.join(sorted(known))}")
    if len(run.targets) != 1 or len(run.weights) > 1:
        raise UsageError("spec.data.train.arrays: the built-in model takes one Target and at most one Weight")
    specs, target = run.train.element_spec, run.targets[0]
    for name in (*run.inputs, *run.weights, target):
        if specs[name].dtype.kind not in "biuf":
            raise UsageError(f"array {name}: the built-in model takes numbers, this is {specs[name].dtype.str}")
    shape, is_classes = specs[target].row_shape, specs[target].dtype.kind in "biu"
    if is_classes and shape not in ((), (1,)):
        raise UsageError(f"array {target}: classes must be one integer a row, this has {shape}")
    for name in run.weights:
        if specs[name].row_shape not in ((), (1,)):
            raise UsageError(f"array {name}: weights must be one number a row, this has {specs[name].row_shape}")
    _check_validation(run)
    values = int(np.prod(shape, dtype=np.int64))
    hidden_units, hidden_layers = _whole(run, "hiddenUnits", 256, least=1), _whole(run, "hiddenLayers", 2, least=0)
    width = sum(int(np.prod(specs[name].row_shape, dtype=np.int64)) for name in run.inputs)
    splits = [split.arrays for split in (run.train, run.validation) if split is not None]
    if is_classes and not all(target in arrays for arrays in splits):
        raise UsageError(f"array {target}: the built-in model counts the classes in a file, and no file has this array")
    return Task(
        inputs=tuple(run.inputs),
        target=target,
        weight=run.weights[0] if run.weights else None,
        width=width,
        outputs=classes_in([arrays[target] for arrays in splits], hidden_units if hidden_layers else width)
        if is_classes
        else values,
        is_classes=is_classes,
        learning_rate=_parameter(run, "learningRate", 0.001),
        hidden_units=hidden_units,
        hidden_layers=hidden_layers,
    )


def _check_validation(run: "Run") -> None:
    if run.validation is None:
        return
    for name, spec in run.validation.element_spec.items():
        wanted = run.train.element_spec[name].row_shape
        if spec.row_shape != wanted:
            raise DataError(
                f"array {name}: validation has rows of {spec.row_shape}, training of {wanted}: pack them alike"
            )


def _parameter(run: "Run", name: str, default: float) -> float:
    value = run.parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"spec.train.parameters.{name}: must be a number (got {value!r})")
    return value


def _whole(run: "Run", name: str, default: int, least: int) -> int:
    value = _parameter(run, name, default)
    if value != int(value) or value < least:
        raise UsageError(f"spec.train.parameters.{name}: must be a whole number from {least} on (got {value!r})")
    return int(value)


def means(task: Task, sums: list[float], prefix: str) -> dict[str, float]:
    """Return what an epoch reports, from its sums of loss, hits and rows."""
    loss, hits, rows = sums
    reported = {f"{prefix}loss": loss / max(rows, 1)}
    if task.is_classes:
        reported[f"{prefix}accuracy"] = hits / max(rows, 1)
    return reported
