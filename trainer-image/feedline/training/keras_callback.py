"""What Keras' `fit` calls: it keeps a run's limits, reports the logs, and marks the ends of steps."""

from collections.abc import Mapping

import keras

from feedline.training.loop import Loop


class RunCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps a run's limits in `fit`, reports the logs of every epoch, and marks the ends of steps."""

    def __init__(self, run: Loop) -> None:
        super().__init__()
        self._run = run
        self._in_epoch = 0

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Several steps in one call hide when each batch is taken."""
        if self.model.steps_per_execution > 1:
            self._run.hide_time()
        self._tell_learning_rate()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Start counting the batches of an epoch."""
        self._in_epoch = 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """End a step, and the training when a limit is reached."""
        del batch, logs
        train = self._run.train
        train.timeline.mark()
        if self._run.engine == "Classic":
            # The generator is taken from ahead of need, so batches count where they were trained on.
            train.count_from_outside(self._in_epoch)
        self._in_epoch += 1
        self._run.check_stop()
        if self._run.limit_reached(train):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Report what Keras logged."""
        self._tell_learning_rate()
        self._run.report(**(logs or {}))

    def _tell_learning_rate(self) -> None:
        """Tell the metrics what the optimizer's rate is now, whatever schedule or callback sets it."""
        rate = getattr(self.model.optimizer, "learning_rate", None)
        if rate is not None:
            self._run.metrics.learning_rate = float(keras.ops.convert_to_numpy(rate))
