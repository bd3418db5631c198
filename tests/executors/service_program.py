"""A search with KerasTuner's chief and workers, whose trials wait for a file."""

from __future__ import annotations

import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin import MLflowTracker, NASTuner, RandomOracle
from keras_nas_plugin.errors import NASError


class WaitForFile(keras.callbacks.Callback):
    """Signals that training has begun, and continues once a file exists."""

    def __init__(self, folder: str, tuner_id: str) -> None:
        super().__init__()
        self._folder, self._tuner_id = Path(folder), tuner_id

    def on_epoch_begin(self, epoch, logs=None):
        (self._folder / f"{self._tuner_id}.trains").touch()
        while not (self._folder / "go").exists():
            time.sleep(0.05)


def build_model(hp):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(hp.Int("units", 2, 20)), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse", run_eagerly=True)
    return model


class Batches(keras_tuner.HyperModel):
    """A model whose batch size is declared when it is trained.

    Args:
        batches: The batch sizes.
    """

    def __init__(self, batches: list[int]) -> None:
        super().__init__()
        self._batches = batches

    def build(self, hp):
        return build_model(hp)

    def fit(self, hp, model, *args, **options):
        batch = hp.Choice("batch", self._batches)
        assert batch in self._batches
        return model.fit(*args, batch_size=batch, **options)


def main(
    folder: str, store: str | None = None, batches: list[int] | None = None, trials: int = 4
) -> int:
    """Run this process's part of the search; its report is in the standard output."""
    x = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
    oracle = RandomOracle(keras_tuner.Objective("loss", "min"), max_trials=trials, seed=0)
    tuner = NASTuner(
        build_model if batches is None else Batches(batches),
        oracle,
        directory=folder,
        project_name="search",
        deterministic=True,
        tracker=MLflowTracker("service", tracking_uri=store) if store else None,
    )
    waits = WaitForFile(folder, tuner.tuner_id)
    try:
        tuner.search(x, x[:, 0], callbacks=[waits], verbose=0)
    except NASError as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    best = tuner.oracle.get_best_trials(trials)
    print("best", *(trial.trial_id for trial in best), len(tuner.get_best_models(1)))
    if store:
        registered = tuner.register_best("service", input_example=False)
        print("version", registered.version, tuner.tracker.view_url)
    return 0
