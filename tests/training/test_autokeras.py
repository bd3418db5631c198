"""The search of AutoKeras is tracked with its own tuner."""

from __future__ import annotations

import keras
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import MLflowTracker, RegularizedEvolutionOracle, Tracker, track
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.registry import register_model
from tests.integration import forkserver

autokeras = pytest.importorskip("autokeras", reason="needs AutoKeras: pip install autokeras")


@pytest.fixture(autouse=True)
def plain_shapes(monkeypatch):
    """AutoKeras 3.0 passes NumPy integers to `Dense`, which Keras 3.13 and later reject.

    docs/drop-in.md shows this workaround.
    """
    import tree
    from autokeras.utils import data_utils

    def shapes(data):
        return tree.map_structure(lambda array: np.array(array.shape, dtype=object), data)

    monkeypatch.setattr(data_utils, "dataset_shape", shapes)


def test_each_trial_is_a_run_and_the_final_training_is_not(tmp_path):
    uri = forkserver.new_store(tmp_path)
    x = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    tracker = MLflowTracker("auto", tracking_uri=uri)

    def classifier():
        return autokeras.StructuredDataClassifier(max_trials=2, directory=tmp_path, seed=1)

    automodel = track(classifier(), tracker)
    automodel.fit(x, y, epochs=2, verbose=0)
    client = mlflow.MlflowClient(uri)

    def runs(kind):
        experiment = client.get_experiment_by_name("auto").experiment_id
        return client.search_runs([experiment], f"tags.`nas.kind` = '{kind}'")

    trials = automodel.tuner.oracle.trials
    assert sorted(run.data.tags["nas.trial_id"] for run in runs("trial")) == sorted(trials)
    for run in runs("trial"):
        assert run.info.status == "FINISHED"
        assert "structured_data_block_1/normalize" in run.data.params
        trial = trials[run.data.tags["nas.trial_id"]]
        assert run.data.metrics["objective/val_accuracy"] == pytest.approx(trial.score)
        assert run.data.metrics["cost/parameters"] > 0
        assert run.data.metrics["cost/train_seconds"] > 0
    (parent,) = runs("search")
    assert parent.info.status == "FINISHED"
    folder = automodel.tuner.project_dir
    assert SearchInfo.load(folder).space and len(list(load_records(folder))) == 2

    # A finished search is not run again.
    before = {run.info.run_id for run in runs("trial")}
    track(classifier(), MLflowTracker("auto", tracking_uri=uri)).fit(x, y, epochs=2, verbose=0)
    assert {run.info.run_id for run in runs("trial")} == before and len(runs("search")) == 1

    # The exported model is registered as any other model is.
    model = automodel.export_model()
    best = automodel.tuner.oracle.get_best_trials(1)[0].trial_id
    registered = register_model(
        model, name="auto", run_id=tracker.run_id(best), tracking_uri=uri, sample=x[:2]
    )
    assert client.get_model_version("auto", registered.version).run_id == tracker.run_id(best)
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.tensorflow.load_model("models:/auto@challenger")
    finally:
        mlflow.set_tracking_uri(None)
    assert isinstance(loaded, keras.Model)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5
    )


def test_autokeras_searches_with_an_oracle_of_this_package(tmp_path):
    """The tuner of docs/drop-in.md."""
    from autokeras.engine.tuner import AutoTuner

    class EvolutionTuner(AutoTuner):
        def __init__(self, hypermodel, objective="val_loss", max_trials=100, seed=None, **options):
            oracle = RegularizedEvolutionOracle(objective, max_trials, seed=seed)
            super().__init__(oracle, hypermodel, **options)

    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    automodel = autokeras.StructuredDataClassifier(
        max_trials=1, directory=tmp_path, seed=1, tuner=EvolutionTuner
    )
    track(automodel, Tracker()).fit(x, y, epochs=1, verbose=0)
    (trial,) = automodel.tuner.oracle.get_best_trials(2)
    assert isinstance(automodel.tuner.oracle, RegularizedEvolutionOracle)
    (record,) = load_records(automodel.tuner.project_dir)
    assert trial.status == "COMPLETED" and record.score == trial.score
    assert automodel.export_model().count_params() > 0
