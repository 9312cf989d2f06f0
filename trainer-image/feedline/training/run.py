"""`Run`: what a training function receives, or a program of one's own makes: a loop, with what Keras' `fit` takes."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from feedline.errors import UsageError
from feedline.feed import Columns, picker
from feedline.training import backends, process
from feedline.training.batches import Batches
from feedline.training.loop import WITHOUT_END, Loop


class Run(Loop):
    """A training run, as the training function sees it.

    ::

        def train(run: feedline.Run) -> None:
            model = build(run.parameters["learningRate"])
            for epoch in run.epochs():
                for batch in run.train:
                    loss = step(model, batch["features"], batch["labels"])
                run.report(loss=loss)

    Attributes
    ----------
    backend, engine
        The manifest's ``spec.backend`` and ``spec.loader.engine``.
    parameters
        The manifest's ``spec.train.parameters``.
    device
        Where batches are: a `torch.device`, or the name of a TensorFlow device.
    inputs, targets, weights, extras
        Names of the arrays by role.
    train, validation
        The splits; validation is unshuffled, with all its rows, and None where the manifest has none.
    output
        The run's own folder, a `pathlib.Path`, for whatever it is to leave behind.
    sums
        Sums over the steps of an epoch, which go on where a run goes on in its middle.
    """

    @classmethod
    def from_environment(cls) -> "Run":
        """Return the run of this process, for a program of one's own that `spec.train.command` starts.

        Reads the manifest that feedline put into the environment or the pod, serves the metrics, and writes the
        report when the program ends.
        """
        return process.run_from_environment(cls)

    @property
    def rank(self) -> int:
        """Which of the processes of this run this is, from 0."""
        return self.place.rank

    @property
    def world(self) -> int:
        """How many processes train together; 1: this one alone."""
        return self.place.world

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that writes what all have in common, as by `report`."""
        return self.place.is_chief

    def distribute(self, model: Any) -> Any:
        """Return a torch module whose gradients are the mean of those of all ranks, or the model itself for one.

        ::

            model = run.distribute(build())

        Raises
        ------
        UsageError
            It is none of torch, or is distributed already.
        """
        return model if self.peers is None else self.peers.distribute(model)

    @cached_property
    def strategy(self) -> Any:
        """A `tf.distribute.Strategy` over all accelerators of this process; for one, TensorFlow's default.

        ::

            with run.strategy.scope():
                model = build()
                model.compile("adam", "mse")
            model.fit(run.dataset, …)

        Raises
        ------
        UsageError
            The training is not TensorFlow's.
        """
        if backends.framework(self.backend) != "tensorflow":
            raise UsageError(
                "run.strategy: is for TensorFlow: set resources.processes, and take run.distribute(model) for torch"
            )
        from feedline import tensorflow

        return tensorflow.strategy()

    def mean(self, value: Any, rows: float = 1.0) -> float:
        """Return the mean of a number over all ranks, each with the weight of its rows; all of them must ask.

        A rank without rows has no part in it; without any it is NaN.

        ::

            run.report(val_accuracy=run.mean(hits / rows, rows))
        """
        if self.peers is None:
            return math.nan if not rows else float(value.detach() if hasattr(value, "detach") else value)
        return self.peers.mean(value, rows)

    @property
    def max_epochs(self) -> int:
        """The limit as a number of epochs, for Keras' `fit`; `callbacks` end it earlier where that is due."""
        limits = self.manifest.train
        if limits.epochs is not None:
            return limits.epochs
        return -(-limits.steps // len(self.train)) if limits.steps is not None else WITHOUT_END

    @cached_property
    def dataset(self) -> Any:
        """The training rows as Keras' `fit` takes them, with `steps_per_epoch`, `max_epochs` and `callbacks`."""
        if self.engine == "Classic":
            from feedline.classic import keras as classic

            # Keras takes from a generator ahead of need and on threads of its own.
            self.hide_time()
            return classic.endless(self._train_source.batches, self._pick(self.train))
        return self._keras_dataset(self.train)

    @cached_property
    def validation_dataset(self) -> Any:
        """The validation rows as Keras' `evaluate` and `validation_data=` take them; None where there are none."""
        return self._keras_dataset(self.validation) if self.validation is not None else None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, for Keras' `fit`."""
        return len(self.train)

    @cached_property
    def callbacks(self) -> list[Any]:
        """Keras callbacks that keep the limits, report what `fit` logs, and save and restore the model.

        They tell the time of an epoch's last step, too. What other callbacks know of their own is not saved.
        """
        from feedline.training.keras_callback import RunCallback

        return [RunCallback(self, self.dataset, self._example)]

    def _example(self) -> tuple[Any, ...]:
        """Return a batch of zeros, as `fit` gets them."""
        rows = self.manifest.loader.batch_size
        specs = self.train.element_spec
        batch = {name: np.zeros((rows, *spec.row_shape), spec.dtype) for name, spec in specs.items()}
        return self._pick(self.train)(batch)

    def _keras_dataset(self, batches: Batches) -> Any:
        from feedline.keras import Dataset

        pick, loader = self._pick(batches), self.manifest.loader
        is_whole = len(batches) * loader.batch_size >= batches.arrays.rows
        is_in_order = batches is self.validation or (loader.shuffle == "none" and is_whole)
        steps, rows = len(batches), loader.batch_size
        return Dataset(lambda: batches.epoch(limited=False), steps, pick, rows, is_in_order=is_in_order)

    def _pick(self, batches: Batches) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        weights = _columns(self.weights) if self.weights else None
        return picker([_columns(self.inputs), _columns(self.targets), weights], batches.element_spec)


def _columns(names: list[str]) -> Columns:
    return names[0] if len(names) == 1 else names
