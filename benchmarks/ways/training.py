"""The manifest of a training run behind a way of loading: the built-in model, so small that loading holds it back."""

from pathlib import Path

from data import Data

from feedline import manifest

_VOLUME = "bench"


def pipeline(data: Data, backend: str, engine: str, batch_size: int, seconds: int) -> manifest.Manifest:
    """Return the manifest of `engine` on `backend`, for `seconds` from the first batch on."""
    roles = {"features": "Input", "labels": "Target"}
    arrays = [
        {"name": name, "path": f"{_VOLUME}/{path.name}", "role": roles[name]} for name, path in data.paths.items()
    ]
    volume = {"name": _VOLUME, "persistentVolumeClaim": {"claimName": _VOLUME}}
    return manifest.parse(
        {
            "apiVersion": "feedline.dev/v1alpha1",
            "kind": "TrainingPipeline",
            "metadata": {"name": "bench"},
            "spec": {
                "backend": backend,
                "data": {"volumes": [volume], "train": {"arrays": arrays}},
                "loader": {"batchSize": batch_size, "engine": engine},
                "train": {
                    "entrypoint": "feedline.models:train",
                    "parameters": {"hiddenUnits": 8, "hiddenLayers": 1},
                    "seconds": seconds,
                },
            },
        }
    )


def volumes(data: Data) -> dict[str, Path]:
    """Return the folder of the manifest's volume."""
    return {_VOLUME: data.folder}
