"""A state of nested dicts, lists and plain values, taken apart into JSON and tensors, and put together again. Pure.

What JSON has is written as it is; everything else is an object of one entry, whose name says what it stands for.
Nothing is ever unpickled, so that a hostile state can do no more than be wrong.
"""

import base64
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

KINDS: Final = ("array", "torch", "tensorflow")
"""What a tensor is one of."""
KindOf = Callable[[Any], str | None]
Leaves = dict[str, Any]
"""Tensors by the path on which they lie in a state, such as ``state.0.exp_avg``."""
_MAX_DEPTH: Final = 64
_NUMBERS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class UnknownValueError(Exception):
    """A state holds something that is neither a tensor nor a plain value.

    Parameters
    ----------
    path, value
        Where, and what.
    """

    def __init__(self, path: str, value: object) -> None:
        super().__init__(f"{path or 'it'} is a {type(value).__module__}.{type(value).__qualname__}")


def take_apart(state: Any, kind_of: KindOf) -> tuple[Any, Leaves]:
    """Return a state as JSON that `put_together` understands, and its tensors.

    Parameters
    ----------
    kind_of
        Tells tensors, arrays of numpy among them, by one of `KINDS`; None for what is none.

    Raises
    ------
    UnknownValueError
        There is something in it that can be saved in neither way.
    """
    leaves: Leaves = {}
    return _taken(state, "", leaves, kind_of, 0), leaves


def _taken(  # noqa: C901, PLR0911 - a list of types
    value: Any, path: str, leaves: Leaves, kind_of: KindOf, depth: int
) -> Any:
    if depth > _MAX_DEPTH:
        raise UnknownValueError(path, value)
    if (kind := kind_of(value)) is not None:
        return {kind: _kept(value, path, leaves)}
    if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str | int | float | complex | bytes):
        return _plain(value)

    def below(part: Any, key: object) -> Any:
        return _taken(part, f"{path}.{key}" if path else str(key), leaves, kind_of, depth + 1)

    match value:
        case list():
            return [below(part, index) for index, part in enumerate(value)]
        case tuple():
            return {"tuple": [below(part, index) for index, part in enumerate(value)]}
        case Counter():
            return {"counter": [[below(key, "key"), below(count, key)] for key, count in value.items()]}
        case Mapping():
            if all(isinstance(key, str) for key in value):
                return {"dict": {key: below(part, key) for key, part in value.items()}}
            return {"pairs": [[below(key, "key"), below(part, key)] for key, part in value.items()]}
        case _:
            raise UnknownValueError(path, value)


def _plain(value: Any) -> Any:
    """Return a plain value as JSON; numbers of types of their own, such as enumerations, become plain ones."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        case complex():
            return {"complex": [repr(value.real), repr(value.imag)]}
        case _:
            return {"bytes": base64.b64encode(value).decode()}


def _kept(value: Any, path: str, leaves: Leaves) -> str:
    name = path or "value"
    number = 1
    while name in leaves:  # keys may hold dots themselves
        number += 1
        name = f"{path}#{number}"
    leaves[name] = value
    return name


def put_together(tree: Any, leaves: Mapping[str, Any]) -> Any:
    """Return the state that was taken apart.

    Parameters
    ----------
    leaves
        Its tensors by name, of the kinds that `kinds_in` tells.

    Raises
    ------
    ValueError
        It was never taken apart so.
    """
    try:
        return _put(tree, leaves, 0)
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no state of ours ({error!r})") from None


def _put(tree: Any, leaves: Mapping[str, Any], depth: int) -> Any:  # noqa: PLR0911 - a list of kinds
    if depth > 2 * _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(tree, list):
        return [_put(part, leaves, depth + 1) for part in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind in KINDS:
        return leaves[content]
    if kind in _PLAIN:
        return _PLAIN[kind](content)
    match kind:
        case "dict":
            return {key: _put(part, leaves, depth + 1) for key, part in content.items()}
        case "pairs":
            return {_put(key, leaves, depth + 1): _put(part, leaves, depth + 1) for key, part in content}
        case "counter":
            return Counter({_put(key, leaves, depth + 1): _put(count, leaves, depth + 1) for key, count in content})
        case "tuple":
            return tuple(_put(part, leaves, depth + 1) for part in content)
        case _:
            raise ValueError(f"it has a value of the kind {kind!r}")


_PLAIN: Final[dict[str, Callable[[Any], Any]]] = {
    "float": lambda content: _NUMBERS[content],
    "complex": lambda content: complex(float(content[0]), float(content[1])),
    "bytes": lambda content: base64.b64decode(content, validate=True),
}


def kinds_in(tree: Any) -> Iterator[tuple[str, str]]:
    """Yield the names of the tensors, and the kind of each."""
    if isinstance(tree, list):
        for part in tree:
            yield from kinds_in(part)
    elif isinstance(tree, dict):
        for kind, content in tree.items():
            if kind in KINDS:
                yield content, kind
            elif kind == "dict" and isinstance(content, dict):
                yield from kinds_in(list(content.values()))
            elif isinstance(content, list):
                yield from kinds_in(content)
