"""What Keras' `fit` calls: it keeps a run's limits, reports the logs, marks the ends of steps, saves and restores."""

import contextlib
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import keras

from feedline.training.loop import Loop
from feedline.training.output import KERAS_MODEL

_log = logging.getLogger("feedline")


class RunCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps a run's limits in `fit`, reports the logs of every epoch, and has the model saved and restored.

    Parameters
    ----------
    run
        Whose `fit` it is.
    dataset
        What `fit` takes its batches from; it forgets what it was asked for before the run goes on elsewhere.
    example
        A batch of zeros as `fit` takes it, by whose shapes a model is built.
    """

    def __init__(self, run: Loop, dataset: Any, example: Any) -> None:
        super().__init__()
        self._run, self._dataset, self._example = run, dataset, example
        self._before = 0  # steps of the epoch at hand that were trained before this `fit`
        self._is_in_epoch = False
        self._metrics: list[Any] = []  # sums of the epoch to which the run comes back

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Restore the model, where there is something; several steps in one call hide when each batch is taken."""
        if self.model.steps_per_execution > 1:
            self._run.hide_time()
        self._tell_learning_rate()
        self._register()

    def _register(self) -> None:
        run, model = self._run, self.model
        if run.saver.is_on:
            run.saver.replace(self._objects())  # `fit` once more, perhaps compiled anew
            return
        if run.saver.is_registered:
            return
        if not (model.built and model.optimizer is not None and model.optimizer.built):
            # Variables that a first step would make have to be there before they are restored.
            with _scope(model):
                model._symbolic_build(data_batch=self._example())  # noqa: SLF001 - Keras has no other way to build all
        if run.left_in.is_kept:
            run.at_end.append(self._leave)
        if not run.saver.register(self._objects()):
            return
        self._dataset.forget()
        # Where Keras' own BackupAndRestore says it.
        model._initial_epoch = run.epoch if run.is_epoch_due else self.params["epochs"]  # noqa: SLF001
        self._metrics = [keras.ops.copy(variable.value) for variable in model.metrics_variables]
        self._before = run.train.in_epoch

    def _objects(self) -> dict[str, Any]:
        """Return what is saved: the model, its optimizers, and the sums of the metrics of an epoch."""
        named = {
            name.strip("_"): part
            for name, part in vars(self.model).items()
            if isinstance(part, keras.optimizers.Optimizer) and part is not self.model.optimizer
        }
        if self.model.optimizer is not None:
            named["optimizer"] = self.model.optimizer
        if self.model.metrics_variables:
            named["metrics"] = list(self.model.metrics_variables)
        return {"model": self.model, **named}

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """End the epoch before, after whatever other callbacks have done at its end, and begin one."""
        self._leave_epoch()
        if self._before:
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
            # It is no fault that an epoch has fewer batches, whose others were trained on before.
            warnings.filterwarnings("ignore", "Your input ran out of data")
        self._run.enter_epoch()
        self._is_in_epoch = True

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """End a step, and the training when a limit is reached."""
        del logs
        train = self._run.train
        train.timeline.mark()
        done = self._before + batch + 1
        if self._run.engine == "Classic":
            # The generator is taken from ahead of need, so batches count where they were trained on.
            train.count_from_outside(done - 1)
        else:
            train.end_step(done)
        self._run.check_stop()
        if self._run.limit_reached(train):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """Report what Keras logged."""
        self._tell_learning_rate()
        self._run.report(**(logs or {}))
        self._before = 0

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:  # noqa: ARG002
        """End the last epoch."""
        self.model._initial_epoch = None  # noqa: SLF001 - another `fit` begins where it is told to
        self._leave_epoch()

    def _leave_epoch(self) -> None:
        if self._is_in_epoch:
            self._is_in_epoch = False
            self._run.leave_epoch()

    def _leave(self) -> None:
        """Leave the model as Keras opens it."""
        partial, target = self._run.output / ".model.partial.keras", self._run.output / KERAS_MODEL
        try:
            self.model.save(partial)
            partial.replace(target)
        except Exception as error:  # noqa: BLE001 - whatever a layer of the user's raises; the weights are saved besides
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            _log.warning("%s cannot be written (%s)", target, " ".join(str(error).split())[:300])

    def _tell_learning_rate(self) -> None:
        """Tell the metrics what the optimizer's rate is now, whatever schedule or callback sets it."""
        rate = getattr(self.model.optimizer, "learning_rate", None)
        if rate is not None:
            self._run.metrics.learning_rate = float(keras.ops.convert_to_numpy(rate))


def _scope(model: keras.Model) -> contextlib.AbstractContextManager[Any]:
    """Return where variables of a model are made: in its strategy, which the TensorFlow backend alone knows."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
