"""A model of one's own in Keras: a small convolutional network for the digits, trained by `fit`."""

import keras

import feedline


def train(run: feedline.Run) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.Adam(run.parameters["learningRate"])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        run.dataset,
        epochs=run.max_epochs,
        steps_per_epoch=run.steps_per_epoch,
        validation_data=run.validation_dataset,
        callbacks=run.callbacks,  # keep the limits, report the logs, save and restore
        verbose=0,
    )
