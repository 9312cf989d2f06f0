"""What is made of variables: models, optimizers and metrics of Keras, and what TensorFlow tracks.

Variables go by their path (Keras) or their name (TensorFlow), and by their place among those of the same name.
"""

import re
import sys
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from feedline.checkpoints.sameness import require_same
from feedline.errors import UsageError


class Variables:
    """The variables of an object, as a state.

    Parameters
    ----------
    name
        By which the object was registered.
    thing
        What has them: they are asked for anew each time, since some are made only by the first step.
    """

    def __init__(self, name: str, thing: Any) -> None:
        self._name, self._thing = name, thing
        self.is_model = _is_model(thing)
        if not _variables(thing):
            raise UsageError(
                f"run.checkpoint: {name} is a {type(thing).__qualname__} without a variable: build it first"
            )

    @classmethod
    def of(cls, name: str, thing: Any) -> Self | None:
        """Return the variables of an object, None if it is of another kind.

        Raises
        ------
        UsageError
            It has none yet: what is restored would not have a place.
        """
        if not _has_variables(thing):
            return None
        if getattr(thing, "built", True) is False:
            is_optimizer = hasattr(thing, "apply_gradients") or hasattr(thing, "apply")
            how = f"{name}.build(model.trainable_variables)" if is_optimizer else f"{name}.build(…), or show it a batch"
            raise UsageError(
                f"run.checkpoint: {name} is not built, so that there is no place for what was saved: {how}"
            )
        return cls(name, thing)

    def get(self) -> Any:
        """Return their values by path."""
        return {path: _value(variable) for path, variable in self._by_path().items()}

    def put(self, state: Any) -> None:
        """Assign values by path.

        Raises
        ------
        DataError
            They are not those of this object.
        """
        now = self._by_path()
        if now.keys() != state.keys() and [*map(_without_numbers, now)] == [*map(_without_numbers, state)]:
            # Keras numbers what has no name by how many there were before in this process: the same model made anew.
            state = dict(zip(now, state.values(), strict=True))
        require_same(self._name, {path: tuple(variable.shape) for path, variable in now.items()}, state)
        for path, variable in now.items():
            variable.assign(state[path])

    def _by_path(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for variable in _variables(self._thing):
            path = str(getattr(variable, "path", None) or variable.name)
            number, unique = 1, path
            while unique in found:
                number += 1
                unique = f"{path}#{number}"
            found[unique] = variable
        return found


def _without_numbers(path: str) -> str:
    return re.sub(r"_\d+(?=[_/]|$)", "", path)


def _has_variables(thing: Any) -> bool:
    keras, tf = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if isinstance(thing, list | tuple | dict):
        parts = thing.values() if isinstance(thing, dict) else thing
        return bool(parts) and all(_has_variables(part) for part in parts)
    if keras is not None and isinstance(
        thing, keras.Layer | keras.optimizers.Optimizer | keras.metrics.Metric | keras.Variable
    ):
        return True
    return tf is not None and isinstance(thing, tf.Variable | tf.Module | tf.random.Generator | tf.train.Checkpoint)


def _is_variable(thing: Any) -> bool:
    keras, tf = sys.modules.get("keras"), sys.modules.get("tensorflow")
    is_keras = keras is not None and isinstance(thing, keras.Variable)
    return is_keras or (tf is not None and isinstance(thing, tf.Variable))


def _is_model(thing: Any) -> bool:
    keras, tf = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is not None and isinstance(thing, keras.Layer):
        return True
    return tf is not None and isinstance(thing, tf.Module)


def _variables(thing: Any) -> list[Any]:
    if _is_variable(thing):
        return [thing]
    if isinstance(thing, dict):
        return [variable for part in thing.values() for variable in _variables(part)]
    if isinstance(thing, list | tuple):
        return [variable for part in thing for variable in _variables(part)]
    if hasattr(thing, "variables"):
        return list(thing.variables)
    return list(_tracked(thing))


def _tracked(thing: Any) -> Iterable[Any]:
    """Return the variables that TensorFlow tracks below an object, each once."""
    tf = sys.modules["tensorflow"]
    seen = set()
    for part in tf.train.TrackableView(thing).descendants():
        for variable in [part] if _is_variable(part) else getattr(part, "variables", ()):
            if id(variable) not in seen:
                seen.add(id(variable))
                yield variable


def _value(variable: Any) -> Any:
    """Return what a variable holds, as a tensor of torch or an array, without a copy where that can be."""
    torch = sys.modules.get("torch")
    value = getattr(variable, "value", variable)
    value = value() if callable(value) else value
    value = value.read_value() if hasattr(value, "read_value") else value
    if torch is not None and isinstance(value, torch.Tensor):
        return value.detach()
    try:
        shared = np.frombuffer(memoryview(value), np.uint8)
        return shared.view(value.dtype.as_numpy_dtype).reshape(tuple(value.shape))
    except (TypeError, ValueError, AttributeError):  # it lies on a device, or is a scalar
        return np.asarray(value)
