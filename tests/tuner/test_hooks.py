"""Hooks that subclasses override, and metrics that are not numbers."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import NASTuner, RandomOracle
from keras_nas_plugin.errors import NASError
from keras_nas_plugin.tracking.records import FINISHED, load_records

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = np.eye(3, dtype="float32")[np.arange(64) % 3]
FIT = {"epochs": 2, "validation_split": 0.25, "verbose": 0}


def build_model(hp):
    model = keras.Sequential([keras.Input((4,))])
    model.add(keras.layers.Dense(hp.Choice("units", [2, 4, 8]), activation="relu"))
    model.add(keras.layers.Dense(3, activation="softmax"))
    metrics = ["accuracy", keras.metrics.F1Score(name="f1_score")]
    model.compile("adam", "categorical_crossentropy", metrics=metrics)
    return model


class Own(NASTuner):
    """Overrides the hook that AutoKeras overrides."""

    def _build_and_fit_model(self, trial, *args, **kwargs):
        return self._try_build(trial.hyperparameters).fit(*args, **kwargs)


def make(cls, folder, **options):
    oracle = RandomOracle("val_accuracy", max_trials=2, seed=0)
    return cls(build_model, oracle=oracle, directory=folder, project_name="search", **options)


def test_an_overridden_hook_keeps_checkpoints_and_costs(tmp_path):
    tuner = make(Own, tmp_path)
    tuner.search(X, Y, **FIT)
    records = list(load_records(tuner.project_dir))
    assert [record.status for record in records] == [FINISHED] * 2
    assert all(record.costs["parameters"] > 0 for record in records)
    best = tuner.get_best_models()[0]
    found = best.evaluate(X[48:], Y[48:], verbose=0, return_dict=True)["accuracy"]
    assert found == pytest.approx(max(record.score for record in records))


def test_an_overridden_hook_keeps_the_budget(tmp_path):
    tuner = make(Own, tmp_path, budget=2.0)
    tuner.search(X, Y, **{**FIT, "epochs": 100_000})
    assert tuner.stopped_by == "budget"
    assert list(load_records(tuner.project_dir)) == []


def test_a_metric_per_class_counts_as_its_mean(tmp_path):
    tuner = make(NASTuner, tmp_path)
    tuner.search(X, Y, **FIT)
    for record in load_records(tuner.project_dir):
        assert record.status == FINISHED, record.error
        assert 0.0 <= record.metrics["val_f1_score"] <= 1.0


def test_a_vector_may_be_the_objective(tmp_path):
    objective = keras_tuner.Objective("val_f1_score", "max")
    oracle = RandomOracle(objective, max_trials=2, seed=0)
    tuner = NASTuner(build_model, oracle=oracle, directory=tmp_path, project_name="f1")
    tuner.search(X, Y, **FIT)
    assert len(tuner.get_best_models(2)) == 2


def test_a_tracker_of_another_type_is_refused(tmp_path):
    with pytest.raises(NASError, match="`tracker` needs a Tracker.*received str"):
        make(NASTuner, tmp_path, tracker="experiment")


def test_an_explicit_direction_is_taken(tmp_path):
    objective = keras_tuner.Objective("val_cosine_similarity", "min")
    oracle = RandomOracle(objective, max_trials=2, seed=0)
    NASTuner(build_model, oracle=oracle, directory=tmp_path, project_name="cosine")
