"""The random generators that belong to nobody: of Python, of numpy, of the framework and its devices.

What is drawn from them after a restart is what would have been drawn without one. TensorFlow keeps the state of its
`tf.random.uniform` and the like within kernels, where nobody can see it: Keras' seed generators and
`tf.random.Generator` are variables, and are saved with what has them.
"""

import random
import sys
from typing import Any

import numpy as np


class Randomness:
    """The state of all of them, as `states.State` has it."""

    is_model = False

    def get(self) -> dict[str, Any]:
        """Return how far they are."""
        found: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - of the global generator, which user code draws from
        }
        if (torch := sys.modules.get("torch")) is not None:
            found["torch"] = torch.get_rng_state()
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                found["cuda"] = torch.cuda.get_rng_state_all()
        if (generator := _keras_generator()) is not None:
            found["keras"] = np.asarray(_on_host(generator.state.value))
        return found

    def put(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        torch = sys.modules.get("torch")
        if torch is not None and "torch" in state:
            torch.set_rng_state(state["torch"])
            if torch.cuda.is_available() and len(state.get("cuda", ())) == torch.cuda.device_count():
                torch.cuda.set_rng_state_all(state["cuda"])
        if "keras" in state and (generator := _keras_generator(make=True)) is not None:
            generator.state.assign(state["keras"])


def _keras_generator(*, make: bool = False) -> Any:
    """Return the generator from which Keras draws where it is given none; None where there is none yet."""
    if "keras" not in sys.modules:
        return None
    from keras.src.backend.common import global_state
    from keras.src.random import seed_generator

    found = global_state.get_global_attribute("global_seed_generator")
    return seed_generator.global_seed_generator() if found is None and make else found


def _on_host(value: Any) -> Any:
    return value.detach().cpu() if hasattr(value, "detach") else value
