"""Searches whose trials start from the weights of others."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin import (
    Inheritance,
    LocalExecutor,
    MLflowTracker,
    NASTuner,
    RegularizedEvolutionOracle,
    Retraining,
    SuccessiveHalvingOracle,
)
from keras_nas_plugin.errors import ArgumentError, RetrainingError
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FINISHED, load_records
from keras_nas_plugin.retraining.retrain import epochs_of_best
from keras_nas_plugin.training import inherited_weights
from keras_nas_plugin.training.fit_arguments import FitArguments

RNG = np.random.default_rng(0)
X = RNG.normal(size=(256, 6)).astype("float32")
Y = (X[:, :3].sum(axis=1) > X[:, 3:].sum(axis=1)).astype("int64")
FIT = {"epochs": 3, "batch_size": 32, "verbose": 0, "validation_data": (X[:64], Y[:64])}
# Few steps.
QUICK = {**FIT, "batch_size": 128}


def quick(hp):
    """No graph is traced: few steps are faster without it."""
    x = inputs = keras.Input((6,))
    for number in range(hp.Int("depth", 1, 3)):
        x = keras.layers.Dense(hp.Choice(f"units{number}", [4, 8, 12]))(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, metrics=["accuracy"], run_eagerly=True)
    return model


def evolution(trials=6):
    return RegularizedEvolutionOracle("val_loss", trials, population_size=2, seed=3)


def search(folder, oracle, inherit="parent", hypermodel=quick, fit=QUICK, **options):
    tuner = NASTuner(
        hypermodel, oracle=oracle, inherit=inherit, directory=folder, project_name="s", **options
    )
    tuner.search(X, Y, **fit)
    return tuner


def records_of(tuner):
    return {record.trial_id: record for record in load_records(tuner.project_dir)}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inherit")
    tracker = MLflowTracker("inherit", tracking_uri=f"sqlite:///{folder}/mlflow.db")
    options = {"deterministic": True, "tracker": tracker}
    return search(folder, evolution(), Inheritance(epochs=2), **options)


def test_children_start_from_the_weights_of_their_parents(searched):
    records = records_of(searched)
    children = [record for record in records.values() if record.parents]
    assert children
    for record in records.values():
        if record.parents:
            parent = records[record.parents[0]]
            assert record.inherited_from == parent.trial_id
            assert record.inherited_epochs == parent.lineage_epochs
            assert len(record.curves[0]) == 2
        else:
            assert (record.inherited_from, record.inherited_epochs) == (None, 0)
            assert len(record.curves[0]) == 3
        assert record.costs["lineage_epochs"] == record.lineage_epochs


def test_lineage_epochs_and_settings_are_logged(searched):
    import mlflow

    client = mlflow.MlflowClient(searched.tracker.tracking_uri)
    experiment = client.get_experiment_by_name("inherit")
    runs = client.search_runs([experiment.experiment_id])
    epochs = {
        run.data.tags["nas.trial_id"]: run.data.metrics["cost/lineage_epochs"]
        for run in runs
        if run.data.tags["nas.kind"] == "trial"
    }
    assert epochs == {key: record.lineage_epochs for key, record in records_of(searched).items()}
    (parent,) = [run for run in runs if run.data.tags["nas.kind"] == "search"]
    assert parent.data.params["inherit"] == "parent"
    assert parent.data.params["inherit_epochs"] == "2"


def test_the_first_epoch_of_a_child_is_better_than_that_of_its_parent(searched):
    records = records_of(searched)
    gains = [
        records[record.inherited_from].curves[0][0]["loss"] - record.curves[0][0]["loss"]
        for record in records.values()
        if record.inherited_from
    ]
    assert np.mean(gains) > 0


def test_workers_make_the_same_search(searched, tmp_path, forked_workers):
    options = {"executor": LocalExecutor(workers=1), "deterministic": True}
    tuner = search(tmp_path, evolution(), Inheritance(epochs=2), **options)
    summary = {
        key: (record.values, record.score, record.inherited_from)
        for key, record in records_of(tuner).items()
    }
    assert summary == {
        key: (record.values, record.score, record.inherited_from)
        for key, record in records_of(searched).items()
    }


def test_a_resumed_search_inherits_from_earlier_trials(searched, tmp_path):
    options = {"deterministic": True}
    search(tmp_path, evolution(3), Inheritance(epochs=2), **options)
    tuner = search(tmp_path, evolution(6), Inheritance(epochs=2), **options)
    children = [record for record in records_of(tuner).values() if record.inherited_from]
    assert any(int(record.trial_id) >= 3 for record in children)


def test_the_winner_is_trained_from_scratch_before_it_is_registered(searched, caplog):
    trial = next(r for r in records_of(searched).values() if r.inherited_from)
    version = searched.register_best("inherited", trial_id=trial.trial_id)
    assert f"Trial {trial.trial_id} started from the weights of another trial" in caplog.text
    import mlflow

    mlflow.set_tracking_uri(searched.tracker.tracking_uri)
    model = mlflow.tensorflow.load_model(f"models:/inherited/{version.version}")
    kept = Retraining.load(searched.project_dir).kept
    retrained = searched.load_retrained(searched.oracle.get_trial(trial.trial_id), kept)
    np.testing.assert_allclose(
        model.predict(X[:8], verbose=0), retrained.predict(X[:8], verbose=0), atol=1e-6
    )
    card = mlflow.MlflowClient().get_model_version("inherited", version.version).description
    assert "retrain" in card


def test_another_process_must_retrain_before_it_registers(searched):
    other = NASTuner(
        quick,
        oracle=evolution(),
        tracker=searched.tracker,
        directory=searched.directory,
        project_name="s",
    )
    retrained = Retraining.load(searched.project_dir).trial_id
    trials = [r.trial_id for r in records_of(searched).values() if r.inherited_from]
    with pytest.raises(RetrainingError, match="must be trained from scratch"):
        other.register_best("inherited", trial_id=next(t for t in trials if t != retrained))


def test_promoted_trials_continue_the_lineage_of_their_configuration(tmp_path):
    oracle = SuccessiveHalvingOracle(source=evolution(8), factor=2)
    tuner = search(tmp_path, oracle)
    records = records_of(tuner)
    assert all(record.status == FINISHED for record in records.values())
    promoted = [record for record in records.values() if record.first_epoch]
    assert promoted
    for record in promoted:
        parent = records[record.values["tuner/trial_id"]]
        assert record.inherited_epochs == parent.inherited_epochs


class Breaks(keras_tuner.HyperModel):
    """Cannot build a model again that was trained before."""

    def __init__(self):
        super().__init__()
        self.built = set()

    def build(self, hp):
        key = tuple(sorted(hp.values.items()))
        model = quick(hp)
        if key in self.built and len(self.built) > 3:
            raise RuntimeError("only once")
        self.built.add(key)
        return model


def test_a_parent_that_cannot_be_built_costs_no_trial(tmp_path, caplog):
    tuner = search(tmp_path, evolution(5), hypermodel=Breaks())
    records = records_of(tuner)
    assert [record.status for record in records.values()].count(FINISHED) >= 4
    assert "starts from random weights, because those of trial" in caplog.text


def test_weights_that_cannot_be_used_leave_the_model_as_it_was(searched, monkeypatch):
    records = records_of(searched)
    child = next(record for record in records.values() if record.inherited_from)
    trial = searched.oracle.get_trial(child.trial_id)
    source = inherited_weights.source_of(searched, child.trial_id)
    model = quick(trial.hyperparameters.copy())
    before = model.get_weights()

    def full_disk(*_):
        raise OSError("full")

    monkeypatch.setattr(inherited_weights, "recalibrate", full_disk)
    with pytest.raises(OSError, match="full"):
        fit = FitArguments.bind((X, Y), QUICK, searched.hypermodel)
        inherited_weights.inherit(searched, model, trial, source, fit)
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_trial_that_inherited_is_retrained_for_the_epochs_of_the_search(searched):
    search_info = SearchInfo.load(searched.project_dir)
    for record in records_of(searched).values():
        if record.inherited_from:
            assert epochs_of_best(record, search_info) == FIT["epochs"]


@pytest.mark.parametrize("inherit", ["grandparent", True, 3])
def test_other_arguments_are_refused(inherit, tmp_path):
    with pytest.raises(ArgumentError, match="`inherit` must be 'parent'"):
        NASTuner(quick, oracle=evolution(), inherit=inherit, directory=tmp_path)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, True])
def test_epochs_must_be_positive(epochs):
    with pytest.raises(ArgumentError, match="`epochs` must be a positive integer"):
        Inheritance(epochs=epochs)
