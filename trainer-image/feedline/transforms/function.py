"""A function of the user's in the feed's threads: what it may return, and who is to blame where it returns that not."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedline.errors import UserFunctionError
from feedline.transforms.context import Context
from feedline.transforms.spec import ArraySpec
from feedline.transforms.transform import Batch

Function = Callable[[dict[str, NDArray[Any]], Context], Any]
"""Takes a batch, whose arrays are its own to change, and returns the arrays of one with as many rows."""

_TOLD_ROWS: Final = 8
_KINDS: Final = frozenset("biufcSUmM")


def name_of(function: Function) -> str:
    """Return the name of a function, by which a state knows it."""
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{module}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def called(function: Function, batch: Batch, context: Context) -> Batch:
    """Return the arrays that a function makes of a batch.

    Raises
    ------
    UserFunctionError
        It returns no batch, or other rows. What it raises itself is raised, with a note of where.
    """
    try:
        made = function(dict(batch), context)
    except (SystemExit, StopIteration) as error:
        # Which would end a run as if all were well.
        raise _wrong(function, context, f"raised {error!r}: return a batch, or raise an error") from error
    except Exception as error:
        error.add_note(f"raised by the transform {name_of(function)}{_where(context)}")
        raise
    if not isinstance(made, Mapping) or not made:
        raise _wrong(function, context, f"returned {type(made).__name__}: return a dict of arrays, by name")
    arrays: Batch = {}
    for name, value in made.items():
        try:
            arrays[name] = array = np.asarray(value)
        except Exception as error:
            raise _wrong(function, context, f"returned no array for {name!r} ({error})") from error
        is_plain = array.dtype.kind in _KINDS and not isinstance(value, np.ma.MaskedArray)
        if not isinstance(name, str) or not is_plain or not array.ndim:
            raise _wrong(function, context, f"returned no array of numbers, texts or dates for {name!r}")
        arrays[name] = array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if len(array) != len(context.rows):
            raise _wrong(
                function, context, f"returned {len(array)} rows of {name!r} for {len(context.rows)}: return as many"
            )
        if not array.size:
            raise _wrong(function, context, f"returned rows of no values for {name!r}")
    return arrays


def require_alike(function: Function, made: Batch, specs: Mapping[str, ArraySpec], context: Context) -> None:
    """Refuse a batch that differs from the first one.

    Raises
    ------
    UserFunctionError
        It has other arrays, or one of another dtype or shape.
    """
    if made.keys() != specs.keys():
        raise _wrong(function, context, f"returned {', '.join(made)}, and {', '.join(specs)} before: name the same")
    for name, spec in specs.items():
        found = spec_of(made[name])
        if found != spec:
            raise _wrong(function, context, f"returned {name!r} as {found}, and as {spec} before: return the same")


def spec_of(array: NDArray[Any]) -> ArraySpec:
    """Return what an array of rows is."""
    return ArraySpec(array.dtype, array.shape[1:])


def _wrong(function: Function, context: Context, what: str) -> UserFunctionError:
    return UserFunctionError(f"the transform {name_of(function)} {what}{_where(context)}")


def _where(context: Context) -> str:
    rows = ", ".join(map(str, context.rows[:_TOLD_ROWS].tolist()))
    more = ", …" if len(context.rows) > _TOLD_ROWS else ""
    return f" (epoch {context.epoch}, step {context.step}, rows {rows}{more})"
