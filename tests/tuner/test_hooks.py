"""Hooks that subclasses override, and metrics that are not numbers."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import Constraint, NASTuner, RandomOracle
from keras_nas_plugin.errors import NASError
from keras_nas_plugin.records.trial import FINISHED, load_records
from tests.tuner.conftest import dense

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


class TunerWithHook(NASTuner):
    """Overrides the hook that AutoKeras overrides."""

    def _build_and_fit_model(self, trial, *args, **kwargs):
        return self._try_build(trial.hyperparameters).fit(*args, **kwargs)


def make(cls, folder, **options):
    oracle = RandomOracle("val_accuracy", max_trials=2, seed=0)
    return cls(build_model, oracle=oracle, directory=folder, project_name="search", **options)


def test_checkpoints_and_costs_are_saved_with_an_overridden_hook(tmp_path):
    tuner = make(TunerWithHook, tmp_path)
    tuner.search(X, Y, **FIT)
    records = list(load_records(tuner.project_dir))
    assert [record.status for record in records] == [FINISHED] * 2
    assert all(record.costs["parameters"] > 0 for record in records)
    best = tuner.get_best_models()[0]
    accuracy = best.evaluate(X[48:], Y[48:], verbose=0, return_dict=True)["accuracy"]
    assert accuracy == pytest.approx(max(record.score for record in records))


def test_the_budget_applies_with_an_overridden_hook(tmp_path):
    tuner = make(TunerWithHook, tmp_path, budget=2.0)
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


def test_a_tracker_of_another_type_is_an_error(tmp_path):
    with pytest.raises(NASError, match="`tracker` must be a Tracker.*got str"):
        make(NASTuner, tmp_path, tracker="experiment")


def test_an_explicit_direction_is_accepted(tmp_path):
    objective = keras_tuner.Objective("val_cosine_similarity", "min")
    oracle = RandomOracle(objective, max_trials=2, seed=0)
    NASTuner(build_model, oracle=oracle, directory=tmp_path, project_name="cosine")


def test_a_model_that_is_loaded_while_another_trains_is_not_saved_as_that_one(tune):
    class Distilling(NASTuner):
        def _build_and_fit_model(self, trial, *args, **kwargs):
            model = self._try_build(trial.hyperparameters)
            for teacher in self.get_best_models():
                assert teacher is not model
            return self.hypermodel.fit(trial.hyperparameters, model, *args, **kwargs)

    tuner = tune(cls=Distilling)
    for trial in tuner.oracle.trials.values():
        units = tuner.load_model(trial).get_weights()[0].shape[1]
        assert trial.status == "COMPLETED" and units == trial.hyperparameters.get("units")


def test_the_end_of_the_search_knows_why_it_stopped(tune):
    reasons = []

    class Watching(NASTuner):
        def on_search_end(self):
            reasons.append(self.stopped_by)

    tune(cls=Watching, budget=0.0)
    assert reasons == ["budget"]


def test_arguments_reach_a_hypermodel_with_its_own_fit_unchanged(tune, data):
    calls = []

    class OwnFit(keras_tuner.HyperModel):
        def build(self, hp):
            return dense(hp)

        def fit(self, hp, model, images, labels, x, rate, batch, note, *, y=None, callbacks=()):
            calls.append((x, rate, batch, note, y, len(callbacks)))
            return model.fit(images, labels, epochs=1, verbose=0, callbacks=callbacks)

    oracle = RandomOracle("loss", max_trials=1, seed=0)
    tuner = tune(OwnFit(), oracle, search=False)
    tuner.search(data["x"], data["y"], 7, 0.5, 9, "note", y=3)
    assert tuner.oracle.get_best_trials()[0].status == "COMPLETED"
    ((*given, callbacks),) = calls
    assert given == [7, 0.5, 9, "note", 3] and callbacks >= 1


def test_only_the_process_that_proposes_screens_candidates(tune, monkeypatch):
    limit = Constraint("params", max=1_000)
    screens = []
    for tuner_id in ("chief", "worker-0"):
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "9")
        monkeypatch.setenv("KERASTUNER_TUNER_ID", tuner_id)
        oracle = RandomOracle("val_loss", max_trials=1, seed=0, constraints=[limit])
        tune(oracle=oracle, search=False)
        screens.append(oracle.screen)
    assert screens[0] is not None and screens[1] is None
