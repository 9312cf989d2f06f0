"""What can be saved of an object, and put back into it: one way for each kind of object that frameworks have.

A way gives a state as nested plain values and tensors (`tree`), and takes such a one back. Frameworks are looked for
among what is imported already: an object of theirs is there only after they are.
"""

import random
import sys
from typing import Any, Protocol

import numpy as np

from feedline.checkpoints.sameness import require_same, shape_of
from feedline.checkpoints.variables import Variables
from feedline.errors import UsageError


class State(Protocol):
    """An object that can be saved.

    Attributes
    ----------
    is_model
        Whether it is what a training is for, and not only what it takes along.
    """

    is_model: bool

    def get(self) -> Any:
        """Return its state, which shares its memory."""

    def put(self, state: Any) -> None:
        """Put a state back; raises what the object raises of one that it does not take."""


def state_of(name: str, thing: Any) -> State:
    """Return the way to save an object that was registered by this name.

    Raises
    ------
    UsageError
        It has no state, or none yet.
    """
    torch = sys.modules.get("torch")
    if isinstance(thing, np.random.Generator):
        return _Randomness(thing.bit_generator)
    if isinstance(thing, random.Random):
        return _Python(thing)
    if torch is not None and isinstance(thing, torch.Generator):
        return _TorchGenerator(thing)
    if (variables := Variables.of(name, thing)) is not None:
        return variables
    if callable(getattr(thing, "state_dict", None)) and callable(getattr(thing, "load_state_dict", None)):
        if torch is not None and isinstance(thing, torch.nn.Module):
            # What distributes a model among ranks puts "module." before each name: one rank more or less, and no
            # checkpoint would fit.
            return _Module(name, thing.module if type(thing).__name__ == "DistributedDataParallel" else thing)
        return _WithStateDict(thing)
    raise UsageError(
        f"run.checkpoint: {name} is a {type(thing).__qualname__}, which has no state to be saved: pass a model, an "
        "optimizer, variables, or an object with state_dict() and load_state_dict(state)"
    )


class _WithStateDict:
    is_model = False

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def get(self) -> Any:
        return self._thing.state_dict()

    def put(self, state: Any) -> None:
        self._thing.load_state_dict(state)


class _Module:
    """A torch module: names and shapes must be those that were saved."""

    is_model = True

    def __init__(self, name: str, module: Any) -> None:
        from torch.nn.parameter import is_lazy

        self._name, self._module = name, module
        lazy = [key for key, value in self.get().items() if is_lazy(value)]
        if lazy:
            raise UsageError(
                f"run.checkpoint: {name} has parameters without a shape yet ({lazy[0]}): show it a batch first"
            )

    def get(self) -> Any:
        return self._module.state_dict()

    def put(self, state: Any) -> None:
        require_same(self._name, {key: shape_of(value) for key, value in self.get().items()}, state)
        self._module.load_state_dict(state)


class _TorchGenerator:
    is_model = False

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def get(self) -> Any:
        return {"state": self._generator.get_state()}

    def put(self, state: Any) -> None:
        self._generator.set_state(state["state"])


class _Randomness:
    is_model = False

    def __init__(self, generator: np.random.BitGenerator) -> None:
        self._generator = generator

    def get(self) -> Any:
        return self._generator.state

    def put(self, state: Any) -> None:
        self._generator.state = state


class _Python:
    is_model = False

    def __init__(self, generator: random.Random) -> None:
        self._generator = generator

    def get(self) -> Any:
        return self._generator.getstate()

    def put(self, state: Any) -> None:
        self._generator.setstate(state)
