"""A valid TrainingPipeline as frozen dataclasses, which is what others read of a manifest. Nothing is checked here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

from feedline.errors import UsageError

Parameter = str | int | float | bool
Folder = TypeVar("Folder")
_EVERY_SECONDS: Final = 600
_KEEP: Final = 2
_PHASES: Final = {"Fixed": "fixed", "PerEpoch": "per_epoch"}
_GRACE_SECONDS: Final = 30  # Kubernetes' own
_UNITS: Final = {
    **{unit + "i": 1024**power for power, unit in enumerate("KMGT", start=1)},
    **{unit: 1000**power for power, unit in enumerate("kMGT", start=1)},
}


@dataclass(frozen=True)
class WindowRef:
    """What of the first axis makes up a row, as `feedline.Window` has it."""

    stride: int
    length: int | None = None
    start: int = 0
    phase: str = "fixed"


@dataclass(frozen=True)
class ArrayRef:
    """One array of a split.

    `path` is ``VOLUME/FILE``, `role` is Input, Target, Weight or Extra; the others are as `feedline.Stored` has them.
    """

    name: str
    path: str
    role: str
    format: str | None = None
    member: str | None = None
    dtype: str | None = None
    shape: tuple[int, ...] = ()
    offset: int = 0
    window: WindowRef | None = None

    @property
    def is_npy(self) -> bool:
        """Whether it is a `.npy` file by name and format, or several, whose rows are none but its own."""
        return self.format in (None, "Npy") and self.path.endswith(".npy") and self.window is None


@dataclass(frozen=True)
class Split:
    """The arrays that are read row by row, and which rows.

    These are the rows from `start` up to but without `stop` (None: the end), or those that an `index` names, a file as
    ``VOLUME/FILE``; `boundaries`, such a file, too, are those of windows.
    """

    arrays: tuple[ArrayRef, ...]
    start: int
    stop: int | None
    index: str | None = None
    boundaries: str | None = None


@dataclass(frozen=True)
class TransformRef:
    """One transform of rows, as the class of that name in `feedline` has it, and its arguments by their names."""

    kind: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class DrawRef:
    """How often rows come: by labels in the array `balance`, or by `weights`, a file; of `rows` an epoch."""

    balance: str | None = None
    weights: str | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Loader:
    """How rows become batches.

    `last_batch` is drop or keep, `shuffle` full, block or none, `residency` auto, mapped, read or memory, `engine` Feed
    or Classic; `block_rows` and `window` 0 and `read_ahead` None are for the feed to decide.
    """

    batch_size: int
    last_batch: str
    shuffle: str
    block_rows: int
    window: int
    seed: int
    residency: str
    threads: int
    prefetch: int
    read_ahead: int | None
    engine: str
    queue_capacity: int
    queue_min_after_dequeue: int
    draw: DrawRef | None = None


@dataclass(frozen=True)
class Checkpoint:
    """When a run saves itself, by time and by steps (0: not), and how many of its newest checkpoints stay."""

    every_seconds: int
    every_steps: int
    keep: int


@dataclass(frozen=True)
class Objective:
    """What a training is for: the value of that name in what is reported, and whether more of it is better."""

    value: str
    is_maximized: bool

    def merit(self, value: float) -> float:
        """Return a number that is larger for a better value; what is no number is worse than all."""
        if math.isnan(value):
            return -math.inf
        return value if self.is_maximized else -value

    def value_of(self, merit: float) -> float:
        """Return the value of a merit."""
        return merit if self.is_maximized else -merit


@dataclass(frozen=True)
class Train:
    """What trains and for how long: one of `entrypoint` and `command`, and one of `epochs`, `steps` and `seconds`.

    `transform` is a function that changes batches, as ``module:function``.
    """

    entrypoint: str | None
    command: tuple[str, ...]
    transform: str | None
    parameters: Mapping[str, Parameter]
    seed: int | None
    epochs: int | None
    steps: int | None
    seconds: int | None
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Manifest:
    """A valid TrainingPipeline.

    `memory` is `resources.memory` in bytes, `grace_seconds` what a pod has to end; `document` is all of it, as read and
    with the defaults filled in.
    """

    name: str
    backend: str
    volumes: tuple[str, ...]
    train_data: Split
    validation_data: Split | None
    transforms: tuple[TransformRef, ...]
    loader: Loader
    train: Train
    objective: Objective | None
    memory: int | None
    grace_seconds: int
    accelerator_count: int
    document: dict[str, Any]


def frozen(document: dict[str, Any]) -> Manifest:
    """Return a document, which must be valid and have its defaults, as dataclasses."""
    spec = document["spec"]
    data, loader, train, resources = spec["data"], spec["loader"], spec["train"], spec["resources"]
    return Manifest(
        name=document["metadata"]["name"],
        backend=spec["backend"],
        volumes=tuple(volume["name"] for volume in data["volumes"]),
        train_data=_split(data["train"]),
        validation_data=_split(data["validation"]) if "validation" in data else None,
        transforms=tuple(TransformRef(*pair) for each in data.get("transforms", ()) for pair in each.items()),
        loader=Loader(
            batch_size=loader["batchSize"],
            last_batch=loader["lastBatch"].lower(),
            shuffle=loader["shuffle"]["mode"].lower(),
            block_rows=loader["shuffle"].get("blockRows", 0),
            window=loader["shuffle"].get("window", 0),
            seed=loader["shuffle"]["seed"],
            residency=loader["residency"].lower(),
            threads=loader["threads"],
            prefetch=loader["prefetchBatches"],
            read_ahead=loader.get("readAheadBatches"),
            engine=loader["engine"],
            draw=DrawRef(**loader["draw"]) if "draw" in loader else None,
            queue_capacity=loader["classic"]["queue"]["capacity"],
            queue_min_after_dequeue=loader["classic"]["queue"]["minAfterDequeue"],
        ),
        train=Train(
            entrypoint=train.get("entrypoint"),
            command=tuple(train.get("command", ())),
            transform=train.get("transform"),
            parameters=train.get("parameters", {}),
            seed=train.get("seed"),
            epochs=train.get("epochs"),
            steps=train.get("steps"),
            seconds=train.get("seconds"),
            checkpoint=_checkpoint(train.get("checkpoint", {})),
        ),
        objective=_objective(spec.get("objective")),
        memory=_bytes(resources["memory"]) if "memory" in resources else None,
        grace_seconds=spec.get("pod", {}).get("terminationGracePeriodSeconds", _GRACE_SECONDS),
        accelerator_count=resources["accelerator"]["count"] if "accelerator" in resources else 0,
        document=document,
    )


def _checkpoint(checkpoint: Mapping[str, int]) -> Checkpoint:
    """Return when to save; what the schema would fill in where a document says nothing of it."""
    every_seconds = checkpoint.get("everySeconds", _EVERY_SECONDS)
    return Checkpoint(every_seconds, checkpoint.get("everySteps", 0), checkpoint.get("keep", _KEEP))


def _objective(objective: Mapping[str, str] | None) -> Objective | None:
    return None if objective is None else Objective(objective["value"], objective["goal"] == "Maximize")


def _split(split: dict[str, Any]) -> Split:
    rows = split.get("rows", {"start": 0})
    arrays = tuple(_array(array) for array in split["arrays"])
    return Split(arrays, rows["start"], rows.get("stop"), rows.get("index"), rows.get("boundaries"))


def _array(array: dict[str, Any]) -> ArrayRef:
    window = array.get("window")
    return ArrayRef(
        **{
            **array,
            "shape": tuple(array.get("shape", ())),
            "window": None
            if window is None
            else WindowRef(**{**window, "phase": _PHASES[window.get("phase", "Fixed")]}),
        }
    )


def _bytes(quantity: str | int) -> int:
    """Read a Kubernetes quantity whose form the schema has checked; fractions of a byte are rounded up, as there."""
    if isinstance(quantity, int):
        return quantity
    unit = quantity.lstrip("0123456789.")
    number = Decimal(quantity.removesuffix(unit)) * _UNITS.get(unit, 1)
    return int(number.to_integral_value(ROUND_CEILING))


def folder_of(volume: str, folders: Mapping[str, Folder]) -> Folder:
    """Return the folder that stands for a volume.

    Raises
    ------
    UsageError
        It has none.
    """
    if volume not in folders:
        raise UsageError(f"volume {volume}: has no folder here: pass --volume {volume}=DIR")
    return folders[volume]


def file_of(path: str, folders: Mapping[str, Path]) -> Path:
    """Return the file that ``VOLUME/FILE`` names.

    Raises
    ------
    UsageError
        Its volume has no folder.
    """
    volume, _, rest = path.partition("/")
    return folder_of(volume, folders) / rest
