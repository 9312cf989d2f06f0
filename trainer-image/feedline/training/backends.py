"""The framework of a run: whether it is there, imported, seeded, and where its batches go.

Frameworks are imported only when they are asked for; each takes seconds.
"""

import os
import random
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from feedline.errors import EnvironmentInvalidError
from feedline.limits import cpu_count
from feedline.training.timeline import Clock, HostClock

PACKAGES = {"keras": "keras", "tensorflow": "tensorflow", "pytorch": "torch"}


def require_backend(backend: str) -> None:
    """Raise `EnvironmentInvalidError` if the packages of `backend` are not installed."""
    if find_spec(PACKAGES[backend]) is None:
        raise EnvironmentInvalidError(
            f"spec.backend: {backend} is not installed here: pip install 'feedline[{backend}]', or choose another"
        )


def import_backend(backend: str) -> None:
    """Import the framework of `backend`, with what it needs in turn; Keras picks its own by KERAS_BACKEND.

    Raises
    ------
    EnvironmentInvalidError
        It cannot be imported.
    """
    if backend == "tensorflow":
        # tf.keras is Keras, and beside TensorFlow its torch backend ends the process ("LLVM ERROR").
        os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        import_module(PACKAGES[backend])
    except (ImportError, OSError, ValueError) as error:
        by_keras = "set KERAS_BACKEND to tensorflow or torch, and install that"
        remedy = by_keras if backend == "keras" else "install it again"
        raise EnvironmentInvalidError(f"spec.backend: {backend} cannot be imported ({error}): {remedy}") from None


def seed_everything(backend: str, seed: int) -> None:
    """Seed Python, numpy and the framework, and have the framework choose deterministic operations."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - user code may draw from the global generator
    if backend == "pytorch":
        import torch

        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
    elif backend == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(seed)
        tf.config.experimental.enable_op_determinism()
    else:
        import keras

        keras.utils.set_random_seed(seed % 2**32)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()


def device_and_clock(backend: str) -> tuple[Any, Clock]:
    """Return where batches go and the clock that is honest there."""
    if backend == "keras":
        from feedline.keras import framework

        backend = framework()
    if backend == "pytorch":
        import torch

        if not torch.cuda.is_available():
            _leave_a_cpu_to_the_feed()
            return torch.device("cpu"), HostClock()
        from feedline.pytorch import StreamClock

        device = torch.device("cuda", torch.cuda.current_device())
        return device, StreamClock(device)
    import tensorflow as tf

    return ("/GPU:0" if tf.config.list_physical_devices("GPU") else "/CPU:0"), HostClock()


def _leave_a_cpu_to_the_feed() -> None:
    """Keep torch's operations off one of the CPUs this process may use, unless OMP_NUM_THREADS says otherwise.

    OpenMP threads spin while they wait for each other, and torch starts one for each CPU of the host, whatever the
    pod's limit. A step whose partner has no CPU then waits for whole time slices: measured on 2 cores with one busy,
    70 ms instead of 2 ms (2026-11).
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), int(cpu_count()) - 1)))
