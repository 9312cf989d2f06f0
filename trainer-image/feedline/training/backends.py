"""The framework of a run: whether it is there, imported, seeded, and where its batches go.

Frameworks are imported only when they are asked for; each takes seconds.
"""

import contextlib
import os
import random
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from feedline.errors import EnvironmentInvalidError
from feedline.limits import computing_threads, limited_cpus
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
    if framework(backend) == "tensorflow":
        _hold_tensorflow_to_the_limit()


def framework(backend: str) -> str:
    """Return what trains, `tensorflow` or `pytorch`: of Keras, what it runs on."""
    if backend != "keras":
        return backend
    from feedline.keras import framework

    return framework()


def _hold_tensorflow_to_the_limit() -> None:
    """Have TensorFlow start as many threads as it may use CPUs, unless the user has said how many, or it has begun.

    It counts the CPUs of the affinity and knows no quota, so that in a pod it starts one for each CPU of the host.
    """
    import tensorflow as tf

    cpus, threading = limited_cpus(), tf.config.threading
    if cpus is None:
        return
    with contextlib.suppress(RuntimeError):  # user code has computed while it was imported
        if "TF_NUM_INTRAOP_THREADS" not in os.environ and not threading.get_intra_op_parallelism_threads():
            threading.set_intra_op_parallelism_threads(cpus)
        if "TF_NUM_INTEROP_THREADS" not in os.environ and not threading.get_inter_op_parallelism_threads():
            threading.set_inter_op_parallelism_threads(cpus)


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
        _seed_keras(seed % 2**32)


def _seed_keras(seed: int) -> None:
    import keras

    if framework("keras") == "tensorflow":
        import tensorflow as tf

        keras.utils.set_random_seed(seed)
        tf.config.experimental.enable_op_determinism()
        return
    # What Keras' own function does, but for one thing: it imports TensorFlow wherever that is installed (10 s).
    import torch
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("global_random_seed", seed)
    global_state.set_global_attribute("global_seed_generator", None)  # it is made anew, from the seed
    torch.manual_seed(seed)


def device_and_clock(backend: str) -> tuple[Any, Clock]:
    """Return where batches go and the clock that is honest there."""
    if framework(backend) == "pytorch":
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

    torch starts a thread for each CPU of the host, whatever the pod's limit.
    """
    import torch

    threads = computing_threads()
    # Where it says the same, feedline may have set it, and too late for a torch that was there already.
    if os.environ.get("OMP_NUM_THREADS", str(threads)) == str(threads):
        torch.set_num_threads(min(torch.get_num_threads(), threads))
