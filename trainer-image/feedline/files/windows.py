"""What is said of rows that are windows over the first axis of files."""

import operator
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, get_args

from feedline.errors import UsageError, edge

Phase = Literal["fixed", "per_epoch"]

_MOST = 2**48


@dataclass(frozen=True)
class Window:
    """Which elements of the first axis make up a row.

    Row i begins ``i * stride`` elements after the first one in use. All windows of arrays that are read together move
    together: with as many elements as any of them reaches. None crosses from one file to the next.

    ::

        tokens = feedline.Stored("train.bin", format="Raw", dtype="uint16", window=feedline.Window(1024, stride=1024))
        coming = replace(tokens, window=feedline.Window(1024, stride=1024, start=1))

    Parameters
    ----------
    length
        Elements of a row, which its shape begins with; None: one, and no axis for it.
    stride
        Elements from the begin of a window to that of the next.
    start
        Elements of a window before those of this array.
    phase
        ``"per_epoch"``: in each epoch of a feed all windows of a file, or between two boundaries, begin some elements
        later, by chance, so that sooner or later a window begins at every element at which one can. There are as many
        in every epoch; single rows, such as `Arrays` has, begin at each element then.

    Raises
    ------
    UsageError
        They are no integers, or out of range.
    """

    length: int | None = None
    _: KW_ONLY
    stride: int
    start: int = 0
    phase: Phase = "fixed"

    @edge()
    def __post_init__(self) -> None:
        for name, least in (("length", 1), ("stride", 1), ("start", 0)):
            value: Any = getattr(self, name)
            if name == "length" and value is None:
                continue
            try:
                number = operator.index(value)
            except TypeError:
                raise UsageError(f"window: {name} must be an integer (got {value!r})") from None
            if not least <= number <= _MOST:
                bound = f"at least {least}" if number < least else f"at most {_MOST}"
                raise UsageError(f"window: {name} must be {bound} (got {number})")
            object.__setattr__(self, name, number)
        if self.phase not in get_args(Phase):
            raise UsageError(f"window: phase must be fixed or per_epoch (got {self.phase!r})")

    @property
    def step(self) -> int:
        """Elements from one place at which a window may begin to the next."""
        return self.stride if self.phase == "fixed" else 1

    @property
    def reach(self) -> int:
        """Elements from the begin of a window to the end of this array's part of it."""
        return self.start + (1 if self.length is None else self.length)


def common(windows: Mapping[str, Window | None]) -> int:
    """Return how many elements the windows of arrays take that are read together; 0: rows are no windows.

    Parameters
    ----------
    windows
        Of each array, by its name.

    Raises
    ------
    UsageError
        Some arrays have windows and others none, or they do not move together.
    """
    there = {name: window for name, window in windows.items() if window is not None}
    if not there:
        return 0
    first = next(iter(there))
    for name, window in windows.items():
        if window is None:
            raise UsageError(
                f"{name}: has no window, and {first} has one: give each array that is read with it a window, "
                "of no length for one element a row"
            )
        if window.stride != there[first].stride:
            raise UsageError(
                f"{name}: its windows have stride {window.stride}, and those of {first} {there[first].stride}: "
                "windows of arrays that are read together have one stride"
            )
        if window.phase != there[first].phase:
            raise UsageError(
                f"{name}: its windows have phase {window.phase}, and those of {first} {there[first].phase}: windows of "
                "arrays that are read together have one phase"
            )
    return max(window.reach for window in there.values())
