"""`track` logs the searches of KerasTuner's own tuners."""

from __future__ import annotations

import keras
import keras_tuner
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import NASTuner, RandomOracle, track
from keras_nas_plugin.errors import NASError, TrackingError
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import load_records
from tests.integration import forkserver


@pytest.fixture(scope="module")
def data():
    """Data sets: Keras traces functions for each `fit` of arrays, not for these."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")

    def batches(*rows):
        return tf.data.Dataset.from_tensor_slices(rows).batch(32)

    return {"x": batches(x[:32], y[:32]), "validation_data": batches(x[32:], y[32:])}


def build(hp, run_eagerly=True):
    units = hp.Choice("units", [2, 3, 5, 8, 13])
    if units == hp.Fixed("broken", 0):
        raise ValueError("no such number of units")
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    loss = "sparse_categorical_crossentropy"
    model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=run_eagerly)
    return model


def build_for_graphs(hp):
    return build(hp, run_eagerly=False)


@pytest.fixture
def uri(tmp_path):
    return forkserver.new_store(tmp_path)


@pytest.fixture
def runs(uri):
    """Reads the runs of a kind, by trial id."""

    def read(kind="trial"):
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name("keras-nas")
        logged = client.search_runs([experiment.experiment_id], f"tags.`nas.kind` = '{kind}'")
        by_trial = {run.data.tags.get("nas.trial_id"): run for run in logged}
        assert len(by_trial) == len(logged), "a trial or the search has several runs"
        return by_trial

    return read


def random_search(folder, hypermodel=build, **options):
    return keras_tuner.RandomSearch(
        hypermodel,
        **{"objective": "val_loss", "max_trials": 3, "seed": 1, **options},
        directory=folder,
        project_name="stock",
    )


def test_a_stock_search_is_logged_as_nas_tuner_logs(tmp_path, data, uri, runs):
    tuner = random_search(tmp_path, build_for_graphs, executions_per_trial=2)
    assert track(tuner, tracking_uri=uri, tags={"team": "vision"}) is tuner
    tuner.search(**data, epochs=2, verbose=0)
    logged = runs()
    assert logged.keys() == tuner.oracle.trials.keys() and len(logged) == 3
    for trial_id, run in logged.items():
        trial = tuner.oracle.trials[trial_id]
        assert run.info.status == "FINISHED" and run.data.tags["team"] == "vision"
        assert run.data.params["units"] == str(trial.hyperparameters.get("units"))
        assert run.data.metrics["objective/val_loss"] == pytest.approx(trial.score)
        assert run.data.metrics["cost/parameters"] == 7 * int(run.data.params["units"]) + 2
        assert {
            "by_epoch/val_accuracy",
            "execution_2/loss",
            "cost/train_seconds",
            "time/queue_seconds",
        } <= run.data.metrics.keys()
        assert run.data.tags["nas.worker"] == tuner.tuner_id
    (parent,) = runs("search").values()
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_objective"] == min(
        t.score for t in tuner.oracle.trials.values()
    )
    assert 0 < parent.data.metrics["utilization"] < 1
    assert (
        "**RandomSearchOracle** looks for the lowest `val_loss`"
        in parent.data.tags["mlflow.note.content"]
    )
    assert len(list(load_records(tuner.project_dir))) == 3
    assert SearchInfo.load(tuner.project_dir).objective == "val_loss"
    names = {item.path for item in mlflow.MlflowClient(uri).list_artifacts(parent.info.run_id)}
    assert "report.html" in names
    # The tuner's own methods work as before.
    assert tuner.get_best_models()[0].count_params() > 0


def test_a_resumed_search_keeps_its_runs(tmp_path, data, uri, runs):
    first = track(random_search(tmp_path, max_trials=2), tracking_uri=uri)
    first.search(**data, verbose=0)
    before = {trial_id: run.info.run_id for trial_id, run in runs().items()}
    second = track(random_search(tmp_path, max_trials=4), tracking_uri=uri)
    second.search(**data, verbose=0)
    after = {trial_id: run.info.run_id for trial_id, run in runs().items()}
    assert len(after) == 4 and before.items() <= after.items()
    assert len(runs("search")) == 1


def test_other_epochs_of_a_resumed_search_are_reported_or_refused(tmp_path, data, uri, caplog):
    def search(epochs, **options):
        tuner = random_search(tmp_path, max_trials=2)
        track(tuner, tracking_uri=uri, **options)
        tuner.search(**data, epochs=epochs, verbose=0)
        return tuner

    search(1)
    with pytest.raises(NASError, match=r"epochs \(1 -> 2\)"):
        search(2, on_change="error")
    search(2)
    assert "resumes with different epochs (1 -> 2)" in caplog.text
    with pytest.raises(NASError, match="`on_change` must be one of"):
        search(2, on_change="stop")


def test_failed_trials_are_logged_as_runs(tmp_path, data, uri, runs):
    def fragile(hp):
        hp.Fixed("broken", 5)
        return build(hp)

    tuner = random_search(tmp_path, fragile, max_trials=5, max_consecutive_failed_trials=0)
    tuner.oracle.max_consecutive_failed_trials = 5
    track(tuner, tracking_uri=uri).search(**data, verbose=0)
    statuses = {run.data.params["units"]: run.info.status for run in runs().values()}
    assert statuses == {
        "2": "FINISHED",
        "3": "FINISHED",
        "8": "FINISHED",
        "13": "FINISHED",
        "5": "FAILED",
    }
    (failed,) = [run for run in runs().values() if run.info.status == "FAILED"]
    assert failed.data.tags["nas.error"] == "ValueError: no such number of units"


def test_hyperband_is_tracked_with_its_rounds(tmp_path, data, uri, runs):
    tuner = keras_tuner.Hyperband(
        build, "val_loss", max_epochs=2, factor=2, seed=0, directory=tmp_path, project_name="stock"
    )
    track(tuner, tracking_uri=uri).search(**data, verbose=0)
    logged = runs()
    assert logged.keys() == tuner.oracle.trials.keys()
    assert {run.info.status for run in logged.values()} == {"FINISHED"}
    assert len({run.data.params["tuner/epochs"] for run in logged.values()}) > 1


@pytest.mark.parametrize("returns", [True, False])
def test_a_tuner_with_its_own_run_trial_is_tracked(tmp_path, uri, runs, returns):
    class Own(keras_tuner.Tuner):
        def run_trial(self, trial):
            loss = float(trial.hyperparameters.Float("x", 0.0, 1.0))
            if returns:
                return {"loss": loss}
            self.oracle.update_trial(trial.trial_id, {"loss": loss})
            return None

    oracle = keras_tuner.oracles.RandomSearchOracle(
        keras_tuner.Objective("loss", "min"), max_trials=2, seed=0
    )
    tuner = Own(oracle=oracle, directory=tmp_path, project_name="own", overwrite=True)
    track(tuner, tracking_uri=uri).search()
    trials = runs()
    assert sorted(trials) == sorted(oracle.trials)
    for trial_id, run in trials.items():
        assert run.info.status == "FINISHED"
        assert run.data.metrics["objective/loss"] == oracle.trials[trial_id].score
    assert len(runs("search")) == 1


class Automatic(keras_tuner.Tuner):
    """Has the structure of AutoKeras' tuner: its search has additional arguments, explores the
    space once it has the data, trains without `HyperModel.fit`, and trains the best model again.
    """

    finished = False

    def _populate_initial_space(self):
        pass

    def _build_and_fit_model(self, trial, *args, **kwargs):
        return self._try_build(trial.hyperparameters).fit(*args, **kwargs)

    def search(self, *, epochs, fit_on_val_data, callbacks=None, **data):
        if self.finished:
            return None
        hp = self.oracle.get_space()
        self._try_build(hp)
        self.oracle.update_space(hp)
        super().search(epochs=epochs, callbacks=callbacks or [], **data)
        assert fit_on_val_data
        final = self._try_build(self.get_best_hyperparameters()[0])
        history = final.fit(data["validation_data"], epochs=1, verbose=0)
        self.finished = True
        return history


class Model:
    """Has the structure of `autokeras.AutoModel`: holds a tuner and searches in `fit`."""

    def __init__(self, tuner):
        self.tuner = tuner

    def fit(self, **data):
        return self.tuner.search(fit_on_val_data=True, verbose=0, **data)


def test_a_tuner_with_the_structure_of_autokeras_is_tracked(tmp_path, data, uri, runs):
    oracle = keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=3, seed=1)
    own = Automatic(oracle=oracle, hypermodel=build, directory=tmp_path, project_name="auto")
    model = track(Model(own), tracking_uri=uri)
    assert isinstance(model, Model)
    assert set(model.fit(**data, epochs=2).history) == {"accuracy", "loss"}
    logged = runs()
    assert (
        logged.keys() == own.oracle.trials.keys() and len(logged) == 3
    )  # without the final training
    for run in logged.values():
        assert run.info.status == "FINISHED"
        assert run.data.metrics["cost/parameters"] == 7 * int(run.data.params["units"]) + 2
        assert run.data.metrics["cost/train_seconds"] > 0
    assert [part["name"] for part in SearchInfo.load(own.project_dir).space] == ["units", "broken"]
    # A second `fit` neither searches nor logs anything.
    model.fit(**data, epochs=2)
    assert {t: run.info.run_id for t, run in runs().items()} == {
        t: run.info.run_id for t, run in logged.items()
    }
    assert runs("search")[None].info.status == "FINISHED"


def test_objects_that_cannot_be_tracked_are_errors(tmp_path, uri):
    with pytest.raises(TrackingError, match="`tuner` must be a KerasTuner tuner; got int"):
        track(3)
    with pytest.raises(TrackingError, match="got Model"):
        track(Model(3))
    tuner = track(random_search(tmp_path), tracking_uri=uri)
    with pytest.raises(TrackingError, match="must not be tracked yet"):
        track(tuner)
    own = NASTuner(build, oracle=RandomOracle("val_loss", 1), directory=tmp_path, project_name="o")
    with pytest.raises(TrackingError, match="must not be tracked yet"):
        track(own)
