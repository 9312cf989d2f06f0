"""A model of one's own in TensorFlow: a small convolutional network for the digits, and a loop of one's own."""

import tensorflow as tf

import feedline


def train(run: feedline.Run) -> None:
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    optimizer = tf.keras.optimizers.Adam(run.parameters["learningRate"])
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(features, labels):
        with tf.GradientTape() as tape:
            scores = model(features[..., tf.newaxis])
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    run.checkpoint(model=model, optimizer=optimizer)  # goes on from what was saved, and saves from now on
    for _ in run.epochs():
        for batch in run.train:  # one epoch of dicts of eager tensors
            loss = step(batch["features"], batch["labels"])
        accuracy = tf.keras.metrics.SparseCategoricalAccuracy()
        for batch in run.validation:
            accuracy.update_state(batch["labels"], model(batch["features"][..., tf.newaxis]))
        run.report(loss=loss, val_accuracy=accuracy.result())
