"""Whether a model is the one that was saved: the names of its tensors, and their shapes. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from feedline.errors import DataError


def require_same(name: str, wanted: Mapping[str, object], saved: Mapping[str, Any]) -> None:
    """Raise `DataError` where the tensors that were saved are not those that an object has now.

    Parameters
    ----------
    name
        Of the object.
    wanted
        The shapes it has, by the tensors' names; None for what is no tensor.
    saved
        The tensors that were saved, by name.
    """
    missing = [key for key in wanted if key not in saved]
    unknown = [key for key in saved if key not in wanted]
    other = [
        f"{key} was {list(shape)} and is {list(now)}"
        for key, now in wanted.items()
        if key in saved and isinstance(now, tuple) and isinstance(shape := shape_of(saved[key]), tuple) and shape != now
    ]
    told = [
        f"{what}: {_few(names)}"
        for what, names in (("it has no", missing), ("the model has no", unknown), ("of another shape", other))
        if names
    ]
    if told:
        raise DataError(
            f"run.checkpoint: {name} is not the model that was saved ({'; '.join(told)}): build it as it was, or start "
            "anew"
        )


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (f" and {len(listed) - 4} more" if len(listed) > 4 else "")


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a tensor; None for what is none."""
    shape = getattr(value, "shape", None)
    return None if shape is None else tuple(int(size) for size in shape)
