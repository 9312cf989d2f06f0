"""The built-in model in Keras: `compile` and `fit`."""

import contextlib
from typing import TYPE_CHECKING, Any

import keras

from feedline.models.task import Task, task_of

if TYPE_CHECKING:
    from feedline.training import Run


def train(run: "Run") -> None:
    """Train a dense network, and validate it after every epoch."""
    task = task_of(run)
    loss: Any = squared_error
    metrics = []
    if task.is_classes:
        loss, metrics = keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"]
    # TensorFlow alone has one for all accelerators of a process.
    with run.strategy.scope() if keras.backend.backend() == "tensorflow" else contextlib.nullcontext():
        model = network(run, task)
        model.compile(keras.optimizers.Adam(task.learning_rate), loss, metrics=metrics)
    model.fit(
        run.dataset,
        epochs=run.max_epochs,
        steps_per_epoch=run.steps_per_epoch,
        validation_data=run.validation_dataset,
        callbacks=run.callbacks,
        verbose=0,
    )


def squared_error(targets: Any, outputs: Any) -> Any:
    """Return the mean squared error of every row, ``[rows]``, for targets of any shape."""
    differences = keras.ops.reshape(targets, keras.ops.shape(outputs)) - outputs
    return keras.ops.mean(keras.ops.square(differences), axis=-1)


def network(run: "Run", task: Task) -> keras.Model:
    """Return the network, from one or several inputs to class scores or values."""
    shapes = {name: run.train.element_spec[name].row_shape for name in task.inputs}
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    flat = [keras.layers.Reshape((-1,))(tensor) for tensor in inputs.values()]
    hidden = keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
    for _ in range(task.hidden_layers):
        hidden = keras.layers.Dense(task.hidden_units, activation="relu")(hidden)
    outputs = keras.layers.Dense(task.outputs)(hidden)
    return keras.Model(inputs if len(inputs) > 1 else next(iter(inputs.values())), outputs)
