"""A small search that tests kill: as a single process, as a chief, or as a worker."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin import LocalExecutor, MLflowTracker, NASTuner, RandomOracle, RayExecutor
from keras_nas_plugin.executors.base import Executor

EXPERIMENT, PROJECT, DONE = "fuzz", "fuzzed", "done"


class Points(keras_tuner.HyperModel):
    """Trials of a few epochs; one of the four kinds fails."""

    def __init__(self, epochs: int, pace: float) -> None:
        super().__init__()
        self.epochs = epochs
        self.pace = pace

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        hp.Int("seed", 0, 9_999)
        hp.Choice("kind", ["a", "b", "c", "broken"])
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, *_: Any, **options: Any):
        numbers = np.random.default_rng(hp.get("seed"))
        logs: dict[str, float] = {}
        for epoch in range(self.epochs):
            time.sleep(self.pace)
            logs = {name: float(numbers.uniform()) for name in ("loss", "mae", "val_loss")}
            for callback in options["callbacks"]:
                callback.set_model(model)
                callback.on_epoch_end(epoch, logs)
            if hp.get("kind") == "broken" and epoch == 1:
                raise ValueError("a broken kind")
        return logs


def search(
    *,
    store: str,
    max_trials: int,
    seed: int,
    epochs: int = 4,
    pace: float = 0.0,
    workers: int = 0,
    address: str = "",
) -> None:
    """Search in the working directory; creates the file `DONE` when it completes.

    Args:
        store: Where MLflow keeps runs.
        max_trials: How many trials to run.
        seed: Seed of the proposals.
        epochs: Epochs per trial.
        pace: Seconds per epoch.
        workers: Number of workers; 0 for trials in this process.
        address: Of the Ray cluster that has the workers; "" for workers on this machine.
    """
    oracle = RandomOracle(
        keras_tuner.Objective("val_loss", "min"),
        max_trials,
        seed=seed,
        max_consecutive_failed_trials=max_trials,
    )
    tuner = NASTuner(
        Points(epochs, pace),
        oracle=oracle,
        tracker=MLflowTracker(EXPERIMENT, tracking_uri=store),
        executor=_executor(workers, address),
        directory="searches",
        project_name=PROJECT,
    )
    x = np.zeros((8, 4), "float32")
    tuner.search(x, x[:, :1], verbose=0)
    if os.environ.get("KERASTUNER_TUNER_ID", "chief") == "chief":
        Path(DONE).touch()


def _executor(workers: int, address: str) -> Executor | None:
    retries = 1_000  # a trial runs again as often as its worker is killed
    if address:
        return RayExecutor(workers=workers, address=address, max_retries_per_trial=retries)
    return LocalExecutor(workers, max_retries_per_trial=retries) if workers else None
