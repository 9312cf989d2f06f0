"""Bytes of files as the kernel reads them: whole pages, joined where they touch, cut where they are long. Pure."""

import mmap
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from feedline.files import Array, File, Header

PAGE = mmap.PAGESIZE
RANGE_BYTES = 128 << 10
"""The kernel reads no more than a device's read_ahead_kb at one request, 128 KiB by default (mm/readahead.c,
force_page_cache_ra), so that longer ranges are told in pieces."""
_LONG_BYTES = 32 << 10


def ranges(rows: NDArray[np.intp], header: Header) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the bytes of a file to read for some of its rows, whole pages, sorted; ranges that touch are one.

    Parameters
    ----------
    rows
        Rows of the file, ``[n]``, in any order, at least one.
    header
        Where they lie.

    Returns
    -------
    starts, stops
        Of each range, in bytes.
    """
    first = header.offset + np.sort(rows) * header.step
    starts = first & -PAGE
    stops = (first + header.row_bytes + PAGE - 1) & -PAGE
    new = np.empty(len(rows), np.bool_)
    new[0] = True
    np.greater(starts[1:], stops[:-1], out=new[1:])
    begins = np.flatnonzero(new)
    return starts[begins], np.append(stops[begins[1:] - 1], stops[-1])


def pieces(starts: NDArray[np.intp], stops: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return ranges of bytes cut into pieces of 128 KiB at most: where each begins, and how long it is.

    Of a long range the first page is a piece of its own. It may be on its way already, for a range that ends there; the
    kernel would then say so at once and not begin with the rest (filemap_get_pages in mm/filemap.c, Linux 6.18).
    """
    long = stops - starts > _LONG_BYTES
    starts, stops = (
        np.concatenate((starts, starts[long] + PAGE)),
        np.concatenate((np.where(long, starts + PAGE, stops), stops[long])),
    )
    counts = -(-(stops - starts) // RANGE_BYTES)
    ends = np.cumsum(counts)
    number = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
    offsets = np.repeat(starts, counts) + number * RANGE_BYTES
    return offsets, np.minimum(RANGE_BYTES, np.repeat(stops, counts) - offsets)


def in_order(array: Array, size: int) -> Iterator[tuple[File, int, int]]:
    """Yield the bytes of an array's files in pieces, whole pages: file, start and stop of each."""
    for part in array.mapped:
        first, end = part.offset, part.offset + part.bytes
        for start in range(first & -PAGE, end, size):
            yield part.file, start, min(start + size, end)
