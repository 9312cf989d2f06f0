"""What bounds the rows of a run on this machine, in rows per second: what it does is held against it."""

from dataclasses import dataclass

from feedline.errors import FeedlineError
from feedline.files import Arrays
from feedline.paging.disk import copied_bytes_per_second, disk_limits
from feedline.paging.governor import Evidence, fits, is_small


@dataclass(frozen=True)
class Limits:
    """What a run is held against, in rows per second; None where it was not measured.

    Attributes
    ----------
    memcpy
        Rows that the gather threads would copy if they did nothing else.
    disk_random, disk_sequential
        Rows that the disk gives at random and in order.
    """

    memcpy: float | None = None
    disk_random: float | None = None
    disk_sequential: float | None = None


def limits_of(arrays: Arrays, threads: int, memory_bytes: int) -> Limits:
    """Measure what bounds the rows of arrays: 50 ms for memory, and half a second for the disk if they do not fit."""
    row_bytes = sum(array.row_bytes for array in arrays.values())
    memcpy = copied_bytes_per_second(threads, seconds=0.05) / row_bytes
    unseen = [
        (array, Evidence(array.bytes, array.row_bytes, arrays.bytes, memory_bytes, "")) for array in arrays.values()
    ]
    cold = [array for array, evidence in unseen if array.mapped and not is_small(evidence)]
    if fits(arrays.bytes, memory_bytes) or not cold:
        return Limits(memcpy)
    largest, widest = max(((part, array) for array in cold for part in array.mapped), key=lambda each: each[0].bytes)
    try:
        disk = disk_limits(largest.file.path, widest.row_bytes, seconds=0.5)
    except FeedlineError:
        return Limits(memcpy)
    reads = sum(-(-array.row_bytes // disk.read_bytes) for array in cold)
    cold_bytes = sum(array.row_bytes for array in cold)
    return Limits(memcpy, disk.reads_per_second / reads, disk.bytes_per_second / cold_bytes)
