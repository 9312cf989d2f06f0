"""What a run has done so far, as values: all that the report and the metrics are made of. Nothing here is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedline.checkpoints import Kept
from feedline.feed import FeedStats
from feedline.files import Arrays
from feedline.paging import Limits


@dataclass(frozen=True)
class Faults:
    """Page faults of this process since its run began; major ones waited for the disk."""

    minor: int
    major: int


@dataclass(frozen=True)
class Spans:
    """Durations of one kind, in seconds.

    Attributes
    ----------
    first
        The first one, which the others leave out; None before it.
    count, total
        Of the others.
    percentiles
        Median, 95th and 99th of the newest of them; zeros where there are none.
    """

    first: float | None
    count: int
    total: float
    percentiles: tuple[float, float, float]


@dataclass(frozen=True)
class SplitSnapshot:
    """One split of the data.

    Attributes
    ----------
    name, arrays
        Which one, and its open files.
    steps, samples, bytes, epochs
        Batches, rows and bytes handed out, and epochs that were handed out to their end.
    steps_before, samples_before
        Those of earlier processes of this run, which are in `steps` and `samples`, and in nothing else.
    started, ended
        When the first batch was asked for and the newest one taken, by `time.perf_counter`; None before that.
    waits, works
        Time that the loop waited for its batches, and time that it worked on them.
    waiting
        Seconds of waits for batches that did not come, the one that is going on among them.
    until_first_step
        Seconds from having the first batch to the end of the first step; None before that.
    feed
        The feed's statistics; None for a classic engine.
    """

    name: str
    arrays: Arrays
    steps: int
    samples: int
    bytes: int
    epochs: int
    steps_before: int
    samples_before: int
    started: float | None
    ended: float | None
    waits: Spans
    waiting: float
    works: Spans
    until_first_step: float | None
    feed: FeedStats | None

    @property
    def own_steps(self) -> int:
        """Batches that this process handed out."""
        return self.steps - self.steps_before

    @property
    def own_samples(self) -> int:
        """Rows that this process handed out."""
        return self.samples - self.samples_before

    @property
    def seconds(self) -> float:
        """From the first question for a batch to the newest batch."""
        return self.ended - self.started if self.ended is not None and self.started is not None else 0.0


@dataclass(frozen=True)
class Aim:
    """The objective: its newest and best value with their steps, None before the first one, and a curve of them.

    `epoch_steps` and `epoch_rows` are those of an epoch of the training.
    """

    newest: tuple[int, float] | None
    best: tuple[int, float] | None
    curve: Sequence[tuple[int, float]]
    epoch_steps: int
    epoch_rows: int


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes
    ----------
    pipeline, backend, engine, shuffle
        As the manifest has them.
    in_memory, on_accelerator
        Whether the rows were loaded into memory, whether batches are copied to a device.
    target_epochs, target_steps
        What is to be done; 0 where the limit is another one.
    train, validation
        The splits; None where there is no validation.
    values
        What was reported last, by name.
    opaque
        Whether the loop's time cannot be seen.
    output
        The run's folder; None where it ends with the process.
    from_step
        The step from which the run went on; None where it began anew.
    kept, every_seconds
        How saving goes, None where nothing is saved, and how often it is due by time; 0: it is not.
    objective
        What the training is for; None where nothing was named.
    faults
        Of the whole process.
    limits
        What the machine gives.
    memory_bytes, cpus
        What this process may use.
    processes
        How many ranks there are on this machine; each takes as many rows of a batch as this one.
    seconds_of_ranks
        Of each rank, the seconds that its loop waited and those that it worked, without the first of each; of the chief
        of several alone.
    """

    pipeline: str
    backend: str
    engine: str
    shuffle: str
    in_memory: bool
    on_accelerator: bool
    target_epochs: int
    target_steps: int
    train: SplitSnapshot
    validation: SplitSnapshot | None
    values: Mapping[str, float]
    opaque: bool
    output: str | None
    from_step: int | None
    kept: Kept | None
    every_seconds: int
    objective: Aim | None
    faults: Faults
    limits: Limits
    memory_bytes: int
    cpus: float
    processes: int
    seconds_of_ranks: Mapping[int, tuple[float, float]]
