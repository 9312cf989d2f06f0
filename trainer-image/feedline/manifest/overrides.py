"""`--set PATH=VALUE`: changes to a document, before it is checked.

A path names fields, and items of a list by number or by name. Only the places are known here, not what may stand in
them: a wrong value or an unknown field is found when the document is checked.
"""

from typing import Any, Final

from feedline.errors import UsageError
from feedline.manifest.yamlread import read_yaml

_ALTERNATIVES: Final = (
    ("spec.train", ("epochs", "steps", "seconds")),
    ("spec.train", ("entrypoint", "command")),
    ("spec.data.volumes.*", ("persistentVolumeClaim", "image", "csi")),
)
"""Where exactly one of some fields is allowed: setting one of them removes the others."""


def apply_override(document: dict[str, Any], override: str) -> None:
    """Change one value of a document, in place.

    Parameters
    ----------
    document
        A TrainingPipeline as read.
    override
        Such as ``spec.loader.batchSize=64``. The value is read as YAML; nothing or ``null`` removes the field.
        Maps that are not there yet are made.

    Raises
    ------
    UsageError
        The override is no ``PATH=VALUE``, or its path does not fit the document.
    """
    path, equals, text = override.partition("=")
    where = f"--set {override}"
    if not equals or not all(path.split(".")):
        raise UsageError(f"{where}: must be PATH=VALUE, such as spec.loader.batchSize=64")
    values = read_yaml(text, where)
    if len(values) > 1:
        raise UsageError(f"{where}: the value is {len(values)} YAML documents; give one")
    assign(document, path, values[0] if values else None, where)


def assign(document: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set the field at a path to a value, in place; None removes it, and `where` is named in errors.

    Raises
    ------
    UsageError
        The path does not fit the document.
    """
    keys = path.split(".")
    place: Any = document
    names: list[str] = []
    for key in keys[:-1]:
        name, place = _enter(place, key, ".".join(names), where)
        names.append(name)
    _assign(place, keys[-1], value, ".".join(names), where)


def value_at(document: dict[str, Any], path: str) -> Any:
    """Return the value at a path; None where there is none."""
    place: Any = document
    for key in path.split("."):
        try:
            place = place[_index(place, key, path)] if isinstance(place, list) else place.get(key)
        except (AttributeError, UsageError):
            return None
    return place


def _enter(place: Any, key: str, path: str, where: str) -> tuple[str, Any]:
    """Go one step down; return the step's name in `_ALTERNATIVES`, and what lies there."""
    if isinstance(place, list):
        return "*", place[_index(place, key, where)]
    if not isinstance(place, dict):
        raise UsageError(f"{where}: {path} is no map; set it as a whole")
    _drop_alternatives(place, key, path)
    if place.get(key) is None:
        place[key] = {}
    return key, place[key]


def _assign(place: Any, key: str, value: Any, path: str, where: str) -> None:
    if isinstance(place, list):
        place[_index(place, key, where)] = value
    elif not isinstance(place, dict):
        raise UsageError(f"{where}: {path} is no map; set it as a whole")
    elif value is None:
        place.pop(key, None)
    else:
        _drop_alternatives(place, key, path)
        place[key] = value


def _drop_alternatives(place: dict[str, Any], key: str, path: str) -> None:
    path = path.replace("spec.template.spec", "spec", 1)  # of a sweep
    for parent, members in _ALTERNATIVES:
        if path == parent and key in members:
            for other in members:
                if other != key:
                    place.pop(other, None)


def _index(items: list[Any], key: str, where: str) -> int:
    names = [str(item["name"]) for item in items if isinstance(item, dict) and "name" in item]
    for index, item in enumerate(items):
        if key == str(index) or (isinstance(item, dict) and key == item.get("name")):
            return index
    there = f" or one of {', '.join(names)}" if names else ""
    raise UsageError(f'{where}: no item "{key}" in a list of {len(items)}; give a number from 0{there}')
