"""Rows into memory ahead of need: what is cold is read, what is warm is touched, what comes once passes by the cache.

A governor decides by what is seen, each way is one file of `ways/`. Nothing in here knows a batch, an order or a
framework. Others take `PageIn` and what it is told, what `survey` would choose, what the machine gives, and memory in
large pages.
"""

from feedline.paging.disk import (
    DEPTH,
    DiskLimits,
    copied_bytes_per_second,
    disk_limits,
    largest_file,
    reads_per_second,
)
from feedline.paging.governor import WORDS, Choice, fits, slots_ahead
from feedline.paging.large_pages import in_large_pages
from feedline.paging.limits import Limits, limits_of
from feedline.paging.pagein import PageIn, survey
from feedline.paging.residency import resident_bytes
from feedline.paging.ways.direct import OnePass

__all__ = [
    "DEPTH",
    "WORDS",
    "Choice",
    "DiskLimits",
    "Limits",
    "OnePass",
    "PageIn",
    "copied_bytes_per_second",
    "disk_limits",
    "fits",
    "in_large_pages",
    "largest_file",
    "limits_of",
    "reads_per_second",
    "resident_bytes",
    "slots_ahead",
    "survey",
]
