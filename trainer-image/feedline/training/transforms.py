"""From a manifest to what becomes of its rows: declared transforms, and a function of the user's by its name."""

import importlib
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from feedline import transforms
from feedline.errors import EnvironmentInvalidError, FeedlineError, UsageError, UserFunctionError
from feedline.manifest import Manifest, file_of
from feedline.transforms import Function, Transform

_PACKAGE = __name__.partition(".")[0]


def declared(manifest: Manifest, volumes: Mapping[str, Path], stop: int | None = None) -> list[Transform]:
    """Return the transforms of `data.transforms`, or the first of them.

    Raises
    ------
    InputMissingError, DataError
        Statistics cannot be read, or are none.
    UsageError
        A volume has no folder.
    """
    return [_declared(each.kind, dict(each.arguments), volumes) for each in manifest.transforms[:stop]]


def _declared(kind: str, arguments: dict[str, Any], volumes: Mapping[str, Path]) -> Transform:
    if kind == "standardize":
        arguments["statistics"] = file_of(arguments["statistics"], volumes)
    name = kind[0].upper() + kind[1:]
    made: Transform = getattr(transforms, name)(**arguments)
    return made


def function_of(manifest: Manifest) -> list[Function]:
    """Return the function of `train.transform`, nothing where there is none.

    Raises
    ------
    EnvironmentInvalidError, UserFunctionError
        As `imported` does.
    """
    name = manifest.train.transform
    return [] if name is None else [imported(name, "spec.train.transform")]


def roles(manifest: Manifest, names: Iterable[str]) -> dict[str, list[str]]:
    """Return which arrays of a batch are Input, Target, Weight and Extra; Extra is what only a function knows.

    Raises
    ------
    UsageError
        None is an Input.
    """
    known = {array.name: array.role for array in manifest.train_data.arrays}
    for each in manifest.transforms:
        if each.kind == "concat":
            known[each.arguments["name"]] = known.get(each.arguments["arrays"][0], "Extra")
    found: dict[str, list[str]] = {role: [] for role in ("Input", "Target", "Weight", "Extra")}
    for name in names:
        found[known.get(name, "Extra")].append(name)
    if not found["Input"]:
        made, function = ", ".join(found["Target"] + found["Extra"]), manifest.train.transform
        by = "spec.data.transforms: they make" if function is None else f"spec.train.transform: {function} returns"
        raise UsageError(
            f"{by} {made}, and no array of the role Input: keep inputs by the names that they have in spec.data"
        )
    return found


def imported(name: str, field: str) -> Callable[..., Any]:
    """Return what ``module:function`` names.

    Raises
    ------
    EnvironmentInvalidError
        The module or the function is not there.
    UserFunctionError
        The module raised while it was imported.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise EnvironmentInvalidError(
            f"{field}: {name} cannot be imported: there is no module {error.name} on the import path"
        ) from None
    except (Exception, SystemExit) as error:
        show(error)
        raise UserFunctionError(f"{field}: importing {module_name} raised {error!r}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise EnvironmentInvalidError(f"{field}: {module_name} has no function {function_name}")
    checked: Callable[..., Any] = function
    return checked


def show(error: BaseException | None) -> None:
    """Print the traceback of the user's own function, from their frame on; our own errors speak for themselves."""
    if isinstance(error, Exception) and not isinstance(error, FeedlineError):
        traceback.print_exception(error.with_traceback(_theirs(error.__traceback__)))


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the first frame on that is not in this package; all but its first, where all are."""
    found = trace
    while found is not None and found.tb_frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        found = found.tb_next
    return found if found is not None or trace is None else trace.tb_next
