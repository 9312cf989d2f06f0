"""Makes rows of files into windows: how many there are in each file, and where they lie."""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from feedline.errors import DataError
from feedline.files.file import File
from feedline.files.header import MOST_AXES, Header
from feedline.files.windows import Window


class Cut(NamedTuple):
    """Which windows there are in files.

    Attributes
    ----------
    reach, stride
        Elements that a window takes, and from the begin of one to that of the next.
    is_fixed
        Whether they are the same in every epoch; else there is one that begins at each element, of which an epoch takes
        those a stride apart.
    begins
        At which element of all files the first window of each file begins.
    counts
        How many windows each has.
    """

    reach: int
    stride: int
    is_fixed: bool
    begins: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def step(self) -> int:
        """Elements from the begin of a window to that of the next one that there is."""
        return self.stride if self.is_fixed else 1

    def range_of(self, start: int, stop: int) -> tuple[int, int]:
        """Return of which elements of all files, from the first up to but without the second, windows are made."""
        before = [0, *itertools.accumulate(self.counts)]
        first, last = (bisect.bisect_right(before, window) - 1 for window in (start, stop - 1))
        begin = self.begins[first] + (start - before[first]) * self.step
        return begin, self.begins[last] + (stop - 1 - before[last]) * self.step + self.reach


def cut(
    name: str, files: Sequence[File], elements: tuple[int, int], window: Window, reach: int
) -> tuple[list[File], Cut]:
    """Have the rows of files be windows over some of their elements.

    Parameters
    ----------
    name
        The array's, for people.
    files
        Of one array, each with elements as rows.
    elements
        Start and stop of those in use, of all files together.
    reach
        Elements that a window takes in all arrays.

    Returns
    -------
    files
        Those that have a window.
    cut
        Which they have.

    Raises
    ------
    DataError
        There is no window in any file.
    """
    start, stop = elements
    used, begins, at, most = [], [], 0, 0
    for file in files:
        first, end = max(start - at, 0), min(stop - at, file.elements)
        most = max(most, end - first)
        if end - first >= reach:
            file.cut(_windows(name, file.header, first, end, window, reach))
            used.append(file)
            begins.append(at + first)
        at += file.elements
    if not used:
        told = f"no file has more than {most} in use" if len(files) > 1 else f"{most} are in use"
        raise DataError(f"{name}: a window takes {reach} elements, and {told}: take shorter windows, or more rows")
    counts = tuple(file.header.rows for file in used)
    return used, Cut(reach, window.stride, window.phase == "fixed", tuple(begins), counts)


def _windows(name: str, elements: Header, first: int, end: int, window: Window, reach: int) -> Header:
    """Return where windows lie, of which the first begins at an element."""
    axis = () if window.length is None else (window.length,)
    if 1 + len(axis) + len(elements.row_shape) > MOST_AXES:
        raise DataError(f"{name}: a window of rows of {len(elements.row_shape)} axes has too many: reshape its rows")
    rows = (end - first - reach) // window.step + 1
    return replace(
        elements,
        rows=rows,
        row_shape=(*axis, *elements.row_shape),
        offset=elements.offset + (first + window.start) * elements.row_bytes,
        # Of a single one nothing bounds it.
        stride=window.step * elements.row_bytes if rows > 1 else 0,
    )
