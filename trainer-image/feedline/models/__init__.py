"""Built-in training functions: a dense network over the flattened inputs, one page for each backend.

`spec.train.entrypoint: feedline.models:train` trains it. Integer targets are classes, float targets a regression.
Parameters: `learningRate` (0.001), `hiddenUnits` (256), `hiddenLayers` (2). A model knows the run that it is given, and
nothing of how that was started.
"""

from feedline.models.task import Task, task_of
from feedline.training import Run

__all__ = ["Task", "task_of", "train"]


def train(run: Run) -> None:
    """Train the built-in model with the backend of the run."""
    match run.backend:
        case "pytorch":
            from feedline.models import pytorch

            pytorch.train(run)
        case "tensorflow":
            from feedline.models import tensorflow

            tensorflow.train(run)
        case _:
            from feedline.models import keras

            keras.train(run)
