"""What the tests of the feed share: real `.npy` files whose rows tell which row they are."""

import os
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import feedline

pytest_plugins = ["tiers", "childtests", "cluster.fixtures", "cluster.scenes", "projects"]

# No test depends on how fast the machine is.
# Where a change is judged, the examples are those of the change before; new ones are found at a desk.
settings.register_profile(
    "feedline",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("feedline")

# A shell has what it starts in the background ignore Ctrl-C, and so would all processes of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def save(tmp_path):
    """Return a function that saves an array as ``NAME.npy`` in the test's folder and returns the path."""

    def save(name, array):
        path = tmp_path / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
        return path

    return save


@pytest.fixture
def numbered(save):
    """Return a function that opens arrays in which row i of `features`, `labels` and `names` says i."""

    def numbered(count, /, row_shape=(5, 5), **options):
        numbers = np.arange(count)
        features = np.empty((count, *row_shape), np.float32)
        features[:] = numbers.reshape(-1, *(1 for _ in row_shape))
        paths = {
            "features": save("features", features),
            "labels": save("labels", numbers.astype(np.int32)),
            "names": save("names", np.char.add("row ", numbers.astype(str)).astype("S12")),
        }
        return feedline.open_arrays(paths, **options)

    return numbered
