"""KerasTuner's own tuners, tracked without being replaced."""

from __future__ import annotations

import keras
import keras_tuner
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import NASTuner, RandomOracle, track
from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.tracking.records import SearchInfo, load_records
from tests.integration import forkserver


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    return {"x": x[:32], "y": y[:32], "validation_data": (x[32:], y[32:])}


def build(hp):
    units = hp.Choice("units", [2, 3, 5, 8, 13])
    if units == hp.Fixed("broken", 0):
        raise ValueError("no such number of units")
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def uri(tmp_path):
    return forkserver.new_store(tmp_path)


@pytest.fixture
def runs(uri):
    """Runs of a kind, by trial."""

    def read(kind="trial"):
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name("keras-nas")
        found = client.search_runs([experiment.experiment_id], f"tags.`nas.kind` = '{kind}'")
        return {run.data.tags.get("nas.trial_id"): run for run in found}

    return read


def random_search(folder, hypermodel=build, **options):
    return keras_tuner.RandomSearch(
        hypermodel,
        **{"objective": "val_loss", "max_trials": 3, "seed": 1, **options},
        directory=folder,
        project_name="stock",
    )


def test_a_stock_search_is_logged_as_one_of_ours(tmp_path, data, uri, runs):
    tuner = random_search(tmp_path, executions_per_trial=2)
    assert track(tuner, tracking_uri=uri, tags={"team": "vision"}) is tuner
    tuner.search(**data, epochs=2, verbose=0)
    found = runs()
    assert found.keys() == tuner.oracle.trials.keys() and len(found) == 3
    for trial_id, run in found.items():
        trial = tuner.oracle.trials[trial_id]
        assert run.info.status == "FINISHED" and run.data.tags["team"] == "vision"
        assert run.data.params["units"] == str(trial.hyperparameters.get("units"))
        assert run.data.metrics["objective/val_loss"] == pytest.approx(trial.score)
        assert run.data.metrics["cost/parameters"] == 7 * int(run.data.params["units"]) + 2
        assert {
            "val_accuracy",
            "execution_2/loss",
            "cost/train_seconds",
        } <= run.data.metrics.keys()
    (parent,) = runs("search").values()
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_objective"] == min(
        t.score for t in tuner.oracle.trials.values()
    )
    assert (
        "**RandomSearchOracle** looks for the lowest `val_loss`"
        in parent.data.tags["mlflow.note.content"]
    )
    assert len(list(load_records(tuner.project_dir))) == 3
    assert SearchInfo.load(tuner.project_dir).objective == "val_loss"
    names = {item.path for item in mlflow.MlflowClient(uri).list_artifacts(parent.info.run_id)}
    assert "report.html" in names
    # What stock tools do with the tuner works as before.
    assert tuner.get_best_models()[0].count_params() > 0


def test_a_search_that_goes_on_keeps_its_runs(tmp_path, data, uri, runs):
    first = track(random_search(tmp_path, max_trials=2), tracking_uri=uri)
    first.search(**data, verbose=0)
    before = {trial_id: run.info.run_id for trial_id, run in runs().items()}
    second = track(random_search(tmp_path, max_trials=4), tracking_uri=uri)
    second.search(**data, verbose=0)
    after = {trial_id: run.info.run_id for trial_id, run in runs().items()}
    assert len(after) == 4 and before.items() <= after.items()
    assert len(runs("search")) == 1


def test_failures_are_runs_too(tmp_path, data, uri, runs):
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


def test_hyperband_is_tracked_with_its_rungs(tmp_path, data, uri, runs):
    tuner = keras_tuner.Hyperband(
        build, "val_loss", max_epochs=2, factor=2, seed=0, directory=tmp_path, project_name="stock"
    )
    track(tuner, tracking_uri=uri).search(**data, verbose=0)
    found = runs()
    assert found.keys() == tuner.oracle.trials.keys()
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert len({run.data.params["tuner/epochs"] for run in found.values()}) > 1


def test_a_tuner_with_a_training_of_its_own(tmp_path, uri, runs):
    class Own(keras_tuner.Tuner):
        def run_trial(self, trial, returns):
            loss = float(trial.hyperparameters.Float("x", 0.0, 1.0))
            if returns:
                return {"loss": loss}
            self.oracle.update_trial(trial.trial_id, {"loss": loss})
            return None

    for returns in (True, False):
        oracle = keras_tuner.oracles.RandomSearchOracle(
            keras_tuner.Objective("loss", "min"), max_trials=2, seed=0
        )
        tuner = Own(
            oracle=oracle, directory=tmp_path, project_name=f"own{returns}", overwrite=True
        )
        track(tuner, tracking_uri=uri).search(returns)
    scores = [run.data.metrics["objective/loss"] for run in runs().values()]
    assert {run.info.status for run in runs().values()} == {"FINISHED"} and len(scores) == 2
    assert len(runs("search")) == 1  # by no trial: both searches


class Automatic(keras_tuner.Tuner):
    """Shaped as AutoKeras' tuner: its search has arguments of its own, learns the space when it
    has the data, trains without `HyperModel.fit`, and trains the winner once more at the end.
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
        history = final.fit(*data["validation_data"], epochs=1, verbose=0)
        self.finished = True
        return history


class Model:
    """Shaped as `autokeras.AutoModel`: holds a tuner and searches in `fit`."""

    def __init__(self, tuner):
        self.tuner = tuner

    def fit(self, **data):
        return self.tuner.search(fit_on_val_data=True, verbose=0, **data)


def test_a_tuner_shaped_as_that_of_autokeras(tmp_path, data, uri, runs):
    oracle = keras_tuner.oracles.RandomSearchOracle("val_loss", max_trials=3, seed=1)
    own = Automatic(oracle=oracle, hypermodel=build, directory=tmp_path, project_name="auto")
    model = track(Model(own), tracking_uri=uri)
    assert isinstance(model, Model)
    assert set(model.fit(**data, epochs=2).history) == {"accuracy", "loss"}
    found = runs()
    assert found.keys() == own.oracle.trials.keys() and len(found) == 3  # not the last training
    for run in found.values():
        assert run.info.status == "FINISHED"
        assert run.data.metrics["cost/parameters"] == 7 * int(run.data.params["units"]) + 2
        assert run.data.metrics["cost/train_seconds"] > 0
    assert [part["name"] for part in SearchInfo.load(own.project_dir).space] == ["units", "broken"]
    # Nothing more is searched, and nothing more is logged.
    model.fit(**data, epochs=2)
    assert {t: run.info.run_id for t, run in runs().items()} == {
        t: run.info.run_id for t, run in found.items()
    }
    assert runs("search")[None].info.status == "FINISHED"


def test_what_cannot_be_tracked_says_so(tmp_path, uri):
    with pytest.raises(TrackingError, match="`tuner` needs a KerasTuner tuner; received int"):
        track(3)
    with pytest.raises(TrackingError, match="received Model"):
        track(Model(3))
    tuner = track(random_search(tmp_path), tracking_uri=uri)
    with pytest.raises(TrackingError, match="not tracked yet"):
        track(tuner)
    own = NASTuner(build, oracle=RandomOracle("val_loss", 1), directory=tmp_path, project_name="o")
    with pytest.raises(TrackingError, match="not tracked yet"):
        track(own)
