"""The built-in model in TensorFlow: a loop of one's own around a compiled step."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from feedline.models.task import Task, means, task_of
from feedline.tensorflow import parts

if TYPE_CHECKING:
    from feedline.training import Batches, Run

Batch = dict[str, Any]


def train(run: "Run") -> None:
    """Train a dense network, and validate it after every epoch."""
    task, strategy = task_of(run), run.strategy
    with strategy.scope():
        model = network(task)
        optimizer = tf.keras.optimizers.Adam(task.learning_rate)
        optimizer.build(model.trainable_variables)

    def of_replica(batch: Batch) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss, measured = _measure(model, task, batch)
            loss /= strategy.num_replicas_in_sync  # the gradients of all are added up
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return measured

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(batch: Batch) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(of_replica, args=(batch,)), axis=None)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def look(batch: Batch) -> tf.Tensor:
        return _measure(model, task, batch)[1]

    run.checkpoint(model=model, optimizer=optimizer)
    for _ in run.epochs():
        for batch in _wanted(task, run.train):
            run.sums.add(measured=step(parts(batch, strategy)))
        run.report(**means(task, run.sums["measured"].numpy().tolist(), prefix=""))
        if run.validation is not None:
            measured = sum(look(batch) for batch in _wanted(task, run.validation))
            run.report(**means(task, measured.numpy().tolist(), prefix="val_"))


def network(task: Task) -> tf.keras.Sequential:
    """Return the network, from a flattened row to class scores or values."""
    hidden = [tf.keras.layers.Dense(task.hidden_units, activation="relu") for _ in range(task.hidden_layers)]
    return tf.keras.Sequential([tf.keras.Input((task.width,)), *hidden, tf.keras.layers.Dense(task.outputs)])


def _wanted(task: Task, batches: "Batches") -> Iterator[Batch]:
    """Yield batches without the arrays that the step does not know, for which it would be compiled anew."""
    wanted = {*task.inputs, task.target, task.weight}
    for batch in batches:
        yield {name: tensor for name, tensor in batch.items() if name in wanted}


def _measure(model: tf.keras.Model, task: Task, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the mean loss of a batch, and its sums of loss, hits and rows."""
    rows = tf.shape(batch[task.target])[0]
    inputs = [tf.reshape(tf.cast(batch[name], tf.float32), (rows, -1)) for name in task.inputs]
    outputs = model(tf.ensure_shape(tf.concat(inputs, axis=1), (None, task.width)))
    ones = tf.ones((rows,))
    weights = tf.reshape(tf.cast(batch[task.weight], tf.float32), (-1,)) if task.weight is not None else ones
    if task.is_classes:
        classes = tf.reshape(tf.cast(batch[task.target], tf.int64), (-1,))
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, outputs)
        hits = tf.cast(tf.argmax(outputs, axis=1) == classes, tf.float32)
    else:
        targets = tf.reshape(tf.cast(batch[task.target], tf.float32), tf.shape(outputs))
        losses = tf.reduce_mean(tf.square(outputs - targets), axis=1)
        hits = tf.zeros_like(losses)
    total = tf.reduce_sum(losses * weights)
    # By rows and not by weights, as Keras does: the weights of a batch may all be 0.
    return total / tf.reduce_sum(ones), tf.stack([total, tf.reduce_sum(hits), tf.reduce_sum(ones)])
