"""How the arrays of a batch become a model's inputs and targets: one array for a name, a dict for a list of names."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from feedline.errors import UsageError

Columns = str | list[str]


def pick(batch: Mapping[str, Any], columns: Columns) -> Any:
    """Return the array named by `columns`, or a dict of them where it is a list."""
    return batch[columns] if isinstance(columns, str) else {name: batch[name] for name in columns}


def picker(columns: Iterable[Columns | None], known: Iterable[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return a function from a batch to ``(inputs, targets)`` or ``(inputs, targets, weights)``; None is left out.

    Raises
    ------
    UsageError
        A name is not an array of the feed.
    """
    wanted = [each for each in columns if each is not None]
    names = set(known)
    for name in [name for each in wanted for name in ([each] if isinstance(each, str) else each)]:
        if name not in names:
            raise UsageError(f"there is no array {name!r} in the feed, only {', '.join(sorted(names))}")
    return lambda batch: tuple(pick(batch, each) for each in wanted)
