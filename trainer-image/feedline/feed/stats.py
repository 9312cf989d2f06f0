"""What a feed did since it was made, as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from feedline.transforms import Spent


@dataclass(frozen=True)
class FeedStats:
    """What a feed did since it was made."""

    batches: int
    """Batches handed out."""
    rows: int
    """Rows handed out."""
    bytes: int
    """Bytes handed out."""
    wait_seconds: float
    """Time that the consumer was blocked in `next()`."""
    gather_busy_seconds: float
    """Wall time of the gather threads at work, summed over the threads."""
    transform_seconds: float
    """Of these, the time in transforms."""
    functions: Spent
    """Of these, what functions of the user's took."""
    gathered_rows: int
    """Rows gathered, those that wait to be handed out included."""
    threads: int
    """Gather threads."""
    fetch_seconds: tuple[float, float, float]
    """Median, 95th and 99th percentile of the last 4,096 fetches; zeros before the first."""
    queue_depth: int
    """Batches that are ready now."""
    queue_capacity: int
    """Batches that can be ready at most, at this place of the run."""
    minor_faults: int
    """Page faults of the gather threads that needed no disk."""
    major_faults: int
    """Page faults of the gather threads that waited for the disk."""
    rows_from_disk: int
    """Rows that were not in memory when they came to be due; they are read, and cost no page fault."""
    paging: Mapping[str, str]
    """For each mapped array how its rows come into memory, and why, as a sentence."""
