"""What the tests of sweeps share: a sweep over a pipeline that needs no framework to be checked."""

import pytest
from mergepatch import merge

from feedline import manifest

DOCUMENT = {
    "apiVersion": "feedline.dev/v1alpha1",
    "kind": "TrainingSweep",
    "metadata": {"name": "lr-search"},
    "spec": {
        "objective": {"value": "val_loss", "goal": "Minimize"},
        "parameters": [
            {"name": "learningRate", "float": {"min": "1e-4", "max": "1e-1", "scale": "Log"}},
            {"name": "batch", "path": "spec.loader.batchSize", "int": {"min": 8, "max": 64, "scale": "Log"}},
            {"name": "optimizer", "choice": {"values": ["sgd", "adamw", True, 1]}},
        ],
        "algorithm": {"type": "Random", "seed": 3},
        "trials": 12,
        "parallel": 3,
        "template": {
            "spec": {
                "backend": "pytorch",
                "data": {
                    "volumes": [{"name": "digits", "persistentVolumeClaim": {"claimName": "digits"}}],
                    "train": {"arrays": [{"name": "x", "path": "digits/x.npy", "role": "Input"}]},
                },
                "train": {"entrypoint": "digits:train", "epochs": 8},
            }
        },
    },
}


@pytest.fixture
def document():
    """Return a function that makes the document of a sweep, with some values of its spec replaced."""
    return lambda **spec: merge(DOCUMENT, {"spec": spec})


@pytest.fixture
def sweep(document):
    """Return a function that makes a sweep, with some values of its spec replaced."""
    return lambda **spec: manifest.parse_sweep(document(**spec))
