"""Keras callbacks that the tuner adds to each execution of a trial."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.evaluation.results import scalars, usable
from keras_nas_plugin.training.hooks import TunerHooks
from keras_nas_plugin.training.layer_state import has_weights
from keras_nas_plugin.training.weights import load_weights, save_state, save_weights


class TrialCallback(keras.callbacks.Callback):
    """Records what Keras logs per epoch and calls the tuner's epoch hooks.

    Args:
        hooks: The tuner.
        trial: The trial that is trained.
        on_epoch: Called with each epoch (from 0) and its metrics.
    """

    def __init__(
        self,
        hooks: TunerHooks,
        trial: Trial,
        on_epoch: Callable[[int, Mapping[str, float]], None],
    ) -> None:
        super().__init__()
        self.hooks = hooks
        self.trial = trial
        #: Metrics per epoch.
        self.curve: list[dict[str, float]] = []
        self._on_epoch = on_epoch

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Call the tuner's hook."""
        self.hooks.on_epoch_begin(self.trial, self.model, epoch, logs=logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the metrics, then call the tuner's hook."""
        metrics = scalars(logs)
        self.curve.append(metrics)
        self._on_epoch(epoch, metrics)
        self.hooks.on_epoch_end(self.trial, self.model, epoch, logs=logs)


class BatchTrialCallback(TrialCallback):
    """`TrialCallback` for tuners that override the batch hooks.

    A separate class, because Keras waits for each batch's metrics as soon as any callback has a
    batch hook.
    """

    def on_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Call the tuner's hook."""
        self.hooks.on_batch_begin(self.trial, self.model, batch, logs)

    def on_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Call the tuner's hook."""
        self.hooks.on_batch_end(self.trial, self.model, batch, logs)


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the best epoch over all executions and saves them once.

    Without a value of the objective (a hypermodel that computes it after `fit`, or an objective
    about costs alone), the last epoch counts.

    Args:
        objective: The part of the objective that training reports (see `trained_part`), or None
            if it reports none.
        path: The checkpoint to write, ending in ``.weights.h5``.
        previous: Best value and checkpoint of the training that this one continues, or None.
    """

    def __init__(
        self,
        objective: keras_tuner.Objective | None,
        path: str | Path,
        previous: tuple[float, Path] | None = None,
    ) -> None:
        super().__init__()
        self.objective = objective
        self.path = Path(path)
        self._best: float | None = previous[0] if previous else None
        self._previous_checkpoint = previous[1] if previous else None
        self._weights: list[np.ndarray] | None = None
        self._saved = False

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Copy the weights if the objective improved."""
        metrics = scalars(logs)
        if self.objective is None:
            if usable(metrics, None):
                self._weights = self.model.get_weights()
        elif not self.objective.has_value(metrics):
            self._weights = self.model.get_weights()
        elif usable(metrics, self.objective):
            value = float(self.objective.get_value(metrics))
            if self._best is None or self.objective.better_than(value, self._best):
                self._best, self._weights = value, self.model.get_weights()

    def save(self, model: keras.Model) -> None:
        """Write the best weights if they are from the execution that just ended.

        Args:
            model: The trained model; the best weights are loaded into it.
        """
        if self._weights is not None:
            model.set_weights(self._weights)
        elif self._saved or not has_weights(model):
            return
        elif self._previous_checkpoint is not None:
            load_weights(model, self._previous_checkpoint)
        save_weights(model, self.path)
        self._weights, self._saved = None, True


class LastEpoch(keras.callbacks.Callback):
    """Saves everything that further training depends on, after the last epoch.

    It does not wait for the end of training, where `EarlyStopping` restores the best weights, and
    Keras replaces them by their moving average if the optimizer has one. It comes after the user's
    own callbacks, which may change the learning rate or stop training.

    Args:
        path: The file to write, ending in ``.weights.h5``.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Save, unless another epoch is certain to follow."""
        epochs = (self.params or {}).get("epochs")
        if epochs is not None and epoch + 1 < epochs and not self.model.stop_training:
            return
        try:
            save_state(self.model, self.path)
        except OSError as error:
            # A full disk is not an error of the model: the trial runs again on resume.
            raise StateError(
                "`directory` must have space for the state of a trial that may be trained "
                f"further; writing {str(self.path)!r} failed: {error.strerror or error}"
            ) from error


class Deadline(keras.callbacks.Callback):
    """Ends training at a point in time, after the batch that is running then.

    Args:
        deadline: The time, in seconds of `time.monotonic`.
    """

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline
        #: Whether training still ran at the deadline and was stopped.
        self.fired = False
        self._timer: threading.Timer | None = None

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Start a timer, since a batch hook would slow down each batch."""
        seconds = max(self.deadline - time.monotonic(), 0.0)
        self._timer = threading.Timer(seconds, self._stop, (self.model,))
        self._timer.daemon = True
        self._timer.start()

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop(self, model: keras.Model) -> None:
        self.fired = True
        model.stop_training = True
