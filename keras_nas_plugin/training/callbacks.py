"""Keras callbacks that the tuner adds to each execution of a trial."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.evaluation.results import scalars, usable
from keras_nas_plugin.training.weights import load_weights, save_state, save_weights


class TrialCallback(keras.callbacks.Callback):
    """Records what Keras logs per epoch and calls the tuner's epoch hooks.

    Args:
        tuner: A `keras_tuner.Tuner`.
        trial: The trial that trains.
        on_epoch: Called with the epoch (from 0) and its metrics.
    """

    def __init__(
        self, tuner: Any, trial: Any, on_epoch: Callable[[int, Mapping[str, float]], None]
    ) -> None:
        super().__init__()
        self.tuner = tuner
        self.trial = trial
        self.curve: list[dict[str, float]] = []
        self._on_epoch = on_epoch

    def on_epoch_begin(self, epoch: int, logs: Mapping | None = None) -> None:
        """Pass on to the tuner."""
        self.tuner.on_epoch_begin(self.trial, self.model, epoch, logs=logs)

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        """Record, then pass on to the tuner."""
        numbers = scalars(logs)
        self.curve.append(numbers)
        self._on_epoch(epoch, numbers)
        self.tuner.on_epoch_end(self.trial, self.model, epoch, logs=logs)


class BatchTrialCallback(TrialCallback):
    """`TrialCallback` for tuners that override the batch hooks.

    Apart, because Keras waits for each batch's metrics as soon as any callback listens.
    """

    def on_batch_begin(self, batch: int, logs: Mapping | None = None) -> None:
        """Pass on to the tuner."""
        self.tuner.on_batch_begin(self.trial, self.model, batch, logs)

    def on_batch_end(self, batch: int, logs: Mapping | None = None) -> None:
        """Pass on to the tuner."""
        self.tuner.on_batch_end(self.trial, self.model, batch, logs)


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the best epoch over all executions and saves them once.

    Without a value of the objective (a hypermodel that computes it after `fit`, or an
    objective about costs alone), the last epoch counts.

    Args:
        objective: What training reports of a `keras_tuner.Objective`: see `trained_part`; None
            for nothing.
        path: The checkpoint to write, ending in ``.weights.h5``.
        earlier: Best value so far and its checkpoint, of a training that this one goes on
            with; or None.
    """

    def __init__(
        self, objective: Any, path: str | Path, earlier: tuple[float, Path] | None = None
    ) -> None:
        super().__init__()
        self.objective = objective
        self.path = Path(path)
        self._best, self._earlier = earlier or (None, None)
        self._weights: list[Any] | None = None
        self._saved_once = False

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        """Copy the weights when the objective improved."""
        logs = scalars(logs)
        if self.objective is None:
            if usable(logs, None):
                self._weights = self.model.get_weights()
        elif not self.objective.has_value(logs):
            self._weights = self.model.get_weights()
        elif usable(logs, self.objective):
            value = float(self.objective.get_value(logs))
            if self._best is None or self.objective.better_than(value, self._best):
                self._best, self._weights = value, self.model.get_weights()

    def save(self, model: keras.Model) -> None:
        """Write the best weights of the execution that just ended, if it holds them.

        Args:
            model: The model as `fit` left it. It has the best weights afterwards.
        """
        if self._weights is not None:
            model.set_weights(self._weights)
        elif self._saved_once or not model.built:
            return
        elif self._earlier is not None:
            load_weights(model, self._earlier)
        save_weights(model, self.path)
        self._weights, self._saved_once = None, True


class LastEpoch(keras.callbacks.Callback):
    """Saves all that training goes on with, after the last epoch.

    Not at the end of training: there `EarlyStopping` puts the best weights back, and Keras
    replaces them by their moving average where the optimizer keeps one. It comes after the
    user's own callbacks, which may change the learning rate or stop training.

    Args:
        path: The file to write, ending in ``.weights.h5``.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        """Save, unless another epoch is certain to come."""
        epochs = (self.params or {}).get("epochs")
        if epochs is not None and epoch + 1 < epochs and not self.model.stop_training:
            return
        try:
            save_state(self.model, self.path)
        except OSError as error:
            # A full disk is no fault of the model: the trial runs again on resume.
            raise StateError(
                f"`directory` needs room for the state of a trial that may be trained further; "
                f"writing {str(self.path)!r} gave: {error.strerror or error}"
            ) from error


class Deadline(keras.callbacks.Callback):
    """Ends the training when a moment has come, at the end of a batch.

    Args:
        moment: In seconds of `time.monotonic`.
    """

    def __init__(self, moment: float) -> None:
        super().__init__()
        self.moment = moment
        #: Whether training went on until then and was told to stop.
        self.fired = False
        self._timer: threading.Timer | None = None

    def on_train_begin(self, logs: Mapping | None = None) -> None:
        """Set a timer: listening to batches would slow each of them down."""
        seconds = max(self.moment - time.monotonic(), 0.0)
        self._timer = threading.Timer(seconds, self._stop, (self.model,))
        self._timer.daemon = True
        self._timer.start()

    def on_train_end(self, logs: Mapping | None = None) -> None:
        """Forget the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self, model: keras.Model) -> None:
        self.fired = True
        model.stop_training = True
