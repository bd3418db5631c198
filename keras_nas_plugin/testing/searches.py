"""Contracts about whole searches: real training of tiny Keras models on a few digits."""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.records.trial import FAILED, FINISHED, TrialRecord
from keras_nas_plugin.testing.driving import MakeOracle, check_values
from keras_nas_plugin.tuner import NASTuner

_ROWS = 48
_TRIALS = 5


def digits() -> dict[str, Any]:
    """Arguments of `search`: a few handwritten digits, one epoch, no output."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype("float32")
    # Keras traces several functions per `fit` of arrays, which takes longer than training.
    halves = keras.utils.split_dataset((images[: 2 * _ROWS], labels[: 2 * _ROWS]), _ROWS)
    training, held_out = (rows.batch(_ROWS) for rows in halves)
    return {"x": training, "validation_data": held_out, "epochs": 1, "verbose": 0}


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    """A perceptron with conditional hyperparameters; two of its configurations crash."""
    kind = hp.Choice("kind", ["linear", "hidden"])
    layers: list[keras.layers.Layer] = [keras.Input((64,))]
    with hp.conditional_scope("kind", ["hidden"]):
        if kind == "hidden":
            layers.append(keras.layers.Dense(hp.Int("units", 2, 8), activation="relu"))
            with hp.conditional_scope("units", [2, 3]):
                hp.Boolean("narrow")
    with hp.conditional_scope("kind", ["linear"]):
        if hp.Choice("scale", [0.1, 0.5, 1.0, 2.0]) == 2.0:
            raise ValueError("this configuration cannot be built")
    rate = hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
    model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
    # Tracing a graph would take longer than the single training step.
    model.compile(
        keras.optimizers.SGD(rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        run_eagerly=True,
    )
    return model


def stock_tuner_searches(make_oracle: MakeOracle, folder: Path) -> None:
    """KerasTuner's own `Tuner` searches with the oracle, and resumes in a new process."""
    with _without_imports_in_collections():
        _searches(keras_tuner.Tuner, make_oracle, folder)


@contextlib.contextmanager
def _without_imports_in_collections() -> Iterator[None]:
    """Exclude what was imported from the garbage collections of KerasTuner's trials.

    `gc.unfreeze` unfreezes everything, so a program that froze objects itself is left alone.
    """
    frozen = gc.get_freeze_count() == 0
    if frozen:
        gc.freeze()
    try:
        yield
    finally:
        if frozen:
            gc.unfreeze()


def nas_tuner_searches(make_oracle: MakeOracle, folder: Path) -> None:
    """`NASTuner` searches with the oracle, resumes, and leaves a record of each trial."""
    tuner = _searches(NASTuner, make_oracle, folder)
    for trial_id, trial in tuner.oracle.trials.items():
        record = TrialRecord.load(tuner.get_trial_dir(trial_id))
        assert record is not None, f"trial {trial_id} left no record"
        status = FINISHED if trial.status == TrialStatus.COMPLETED else FAILED
        assert record.status == status, f"the record says {record.status}, the trial {status}"
        assert record.score == trial.score, f"the record says {record.score}, not {trial.score}"
        assert record.values == trial.hyperparameters.values, "the record has other values"


def _searches(tuner_class: Any, make_oracle: MakeOracle, folder: Path) -> Any:
    def open_tuner(max_trials: int) -> Any:
        oracle = make_oracle(
            objective="val_accuracy",
            max_trials=max_trials,
            seed=0,
            max_consecutive_failed_trials=0,
        )
        return tuner_class(
            oracle=oracle,
            hypermodel=build_model,
            directory=str(folder.parent),
            project_name=folder.name,
        )

    open_tuner(_TRIALS).search(**digits())
    tuner = open_tuner(_TRIALS + 2)
    scores = {key: trial.score for key, trial in tuner.oracle.trials.items()}
    assert len(scores) == _TRIALS, f"a new tuner must know {_TRIALS} trials; got {len(scores)}"
    tuner.search(**digits())
    for trial_id, score in scores.items():
        assert tuner.oracle.trials[trial_id].score == score, f"trial {trial_id} ran again"
    _check_trials(tuner.oracle, _TRIALS + 2)
    model = tuner.get_best_models()[0]
    predicted = model(np.zeros((2, 64), "float32"))
    assert predicted.shape == (2, 10), "the best model does not predict"
    return tuner


def _check_trials(oracle: keras_tuner.Oracle, count: int) -> None:
    assert len(oracle.trials) == count, f"there must be {count} trials; got {len(oracle.trials)}"
    for trial in oracle.trials.values():
        check_values(trial.hyperparameters)
        crashes = trial.hyperparameters.values.get("scale") == 2.0
        status = TrialStatus.FAILED if crashes else TrialStatus.COMPLETED
        assert trial.status == status, (
            f"trial {trial.trial_id} must be {status}; got {trial.status}"
        )
        assert crashes or math.isfinite(trial.score), f"trial {trial.trial_id}: {trial.score}"
    completed = [t for t in oracle.trials.values() if t.status == TrialStatus.COMPLETED]
    best = oracle.get_best_trials(count)
    assert len(best) == len(completed), "a failed trial is among the best, or a good one is not"
    assert best[0].score == max(trial.score for trial in completed)
