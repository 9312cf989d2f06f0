"""Which windows no boundary divides: those of one document, one episode, one recording. Pure.

Where windows begin elsewhere in each epoch, that is said by `Segments`: between which elements they may begin.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feedline.errors import DataError
from feedline.files.cut import Cut


def check_boundaries(name: str, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
    """Refuse what are no boundaries by their type, before they are read.

    Raises
    ------
    DataError
        They are no whole numbers, or several in a row.
    """
    if dtype.kind not in "iu" or row_shape:
        raise DataError(
            f"{name}: boundaries are one element's number for each (got dtype {dtype.str}, rows of shape "
            f"{list(row_shape)})"
        )


class Segments(NamedTuple):
    """Where windows may begin, one at each element.

    Attributes
    ----------
    firsts
        The first window of each segment, ``[n]`` int64, as all of them are counted.
    counts
        How many of them an epoch takes, ``[n]`` int64.
    rooms
        At how many places the first of these may begin, ``[n]`` int64, so that the last is still one of the segment.
    stride
        How far they are from each other.
    """

    firsts: NDArray[np.int64]
    counts: NDArray[np.int64]
    rooms: NDArray[np.int64]
    stride: int

    def places(self, row: int) -> tuple[int, int]:
        """Return which window, as all of them are counted, a row of an epoch is at the soonest and at the latest."""
        begins = np.cumsum(self.counts) - self.counts
        segment = int(np.searchsorted(begins, row, "right")) - 1
        soonest = int(self.firsts[segment]) + (row - int(begins[segment])) * self.stride
        return soonest, soonest + int(self.rooms[segment]) - 1


def segments(cut: Cut, boundaries: NDArray[Any], elements: int, name: str = "boundaries") -> Segments:
    """Return where windows may begin so that no boundary divides one; arguments and errors as of `undivided`."""
    edges = _edges(boundaries, elements, name)
    firsts, places, first = [], [], 0
    for begin, count in zip(cut.begins, cut.counts, strict=True):
        end = begin + count - 1 + cut.reach
        inside = edges[(edges > begin) & (edges < end)]
        starts = np.concatenate([[begin], inside])
        there = np.concatenate([inside, [end]]) - starts - cut.reach + 1
        firsts.append(first + starts[there > 0] - begin)
        places.append(there[there > 0])
        first += count
    all_places = np.concatenate(places)
    if not len(all_places):
        raise _all_divided(cut, name)
    # Where there are more, one fewer than fit from the first place on: or there would be no room to begin later.
    counts = np.maximum(1, all_places // cut.stride)
    return Segments(np.concatenate(firsts), counts, all_places - (counts - 1) * cut.stride, cut.stride)


def undivided(cut: Cut, boundaries: NDArray[Any], elements: int, name: str = "boundaries") -> NDArray[Any]:
    """Return the numbers of the windows that no boundary divides, ``[n]``.

    Parameters
    ----------
    boundaries
        At which elements of all files something new begins, in any order.
    elements
        Of all files.

    Raises
    ------
    DataError
        They are none, one lies outside of the files, or no window is left.
    """
    edges = np.append(_edges(boundaries, elements, name), np.iinfo(np.int64).max)
    found, first = [], 0
    for begin, count in zip(cut.begins, cut.counts, strict=True):
        starts = begin + np.arange(count) * cut.stride
        # The next one after the first element of a window, before which something else may lie.
        coming = edges[np.searchsorted(edges, starts, side="right")]
        found.append(first + np.flatnonzero(coming >= starts + cut.reach))
        first += count
    numbers = np.concatenate(found)
    if not len(numbers):
        raise _all_divided(cut, name)
    return numbers.astype(np.uint32 if first <= 2**32 else np.int64)


def _all_divided(cut: Cut, name: str) -> DataError:
    return DataError(f"{name}: each window of {cut.reach} elements is divided by one: take shorter windows")


def _edges(boundaries: NDArray[Any], elements: int, name: str) -> NDArray[np.int64]:
    """Return the boundaries in ascending order, each once."""
    check_boundaries(name, boundaries.dtype, boundaries.shape[1:])
    edges = np.unique(boundaries)
    if len(edges) and not 0 <= int(edges[0]) <= int(edges[-1]) <= elements:
        wrong = edges[0] if edges[0] < 0 else edges[-1]
        raise DataError(f"{name}: there is a boundary at element {wrong}, and the files have {elements}")
    return edges.astype(np.int64)
