"""A stock tuner, tracked, in a process that kills itself at a given point."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import tensorflow as tf

from keras_nas_plugin import track

TUNERS = {
    "hyperband": (
        keras_tuner.Hyperband,
        {"max_epochs": 4, "factor": 2, "hyperband_iterations": 1},
    ),
    "bayesian": (keras_tuner.BayesianOptimization, {"max_trials": 5, "num_initial_points": 2}),
    "random": (keras_tuner.RandomSearch, {"max_trials": 4}),
}


def build(hp: Any) -> keras.Model:
    """A network of two layers."""
    layers = [keras.layers.Dense(hp.Int("units", 2, 64)), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


class Killing(keras.callbacks.Callback):
    """Kills the process at the end of an epoch, counted over all trials."""

    count = 0

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at = at

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        Killing.count += 1
        if Killing.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def search(*, kind: str, store: str, epoch: int | None = None, ended: int | None = None) -> None:
    """Search in the working directory.

    Args:
        kind: Key of the tuner in `TUNERS`.
        store: MLflow's database.
        epoch: The process is killed at the end of this one.
        ended: The process is killed when this many trials are logged, before KerasTuner knows
            that the last of them has ended.
    """
    tuner_class, options = TUNERS[kind]
    tuner = tuner_class(build, "val_loss", directory=".", project_name="stock", seed=3, **options)
    track(tuner, experiment="killed", tracking_uri=store)
    end_trial, count = tuner.oracle.end_trial, 0

    def end(trial: Any) -> None:
        nonlocal count
        count += 1
        if count == ended:
            os.kill(os.getpid(), signal.SIGKILL)
        end_trial(trial)

    tuner.oracle.end_trial = end
    x = np.random.default_rng(0).random((24, 4), dtype="float32")
    y = (x[:, 0] > 0.5).astype("int32")
    # Keras traces several functions per `fit` of arrays, which takes longer than training.
    training, validation = (
        tf.data.Dataset.from_tensor_slices((x[rows], y[rows])).batch(16)
        for rows in (slice(16), slice(16, None))
    )
    data = {"x": training, "validation_data": validation}
    tuner.search(**data, epochs=2, callbacks=[Killing(epoch)], verbose=0)
    trials = {
        trial_id: [trial.score, trial.hyperparameters.values.get("tuner/epochs", 0)]
        for trial_id, trial in tuner.oracle.trials.items()
    }
    Path("trials.json").write_text(json.dumps(trials))
