"""AutoKeras' own search, logged without being replaced."""

from __future__ import annotations

import keras
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import MLflowTracker, track
from keras_nas_plugin.registry import register_model
from keras_nas_plugin.tracking.records import SearchInfo, load_records
from tests.integration import forkserver

autokeras = pytest.importorskip("autokeras", reason="needs AutoKeras: pip install autokeras")


@pytest.fixture(autouse=True)
def plain_shapes(monkeypatch):
    """AutoKeras 3.0 gives numpy's integers to `Dense`, which Keras 3.13 and later refuses.

    docs/drop-in.md gives users these lines.
    """
    import tree
    from autokeras.utils import data_utils

    def shapes(data):
        return tree.map_structure(lambda array: np.array(array.shape, dtype=object), data)

    monkeypatch.setattr(data_utils, "dataset_shape", shapes)


def test_each_trial_is_a_run_and_the_last_training_is_none(tmp_path):
    uri = forkserver.new_store(tmp_path)
    x = np.random.default_rng(0).normal(size=(80, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    tracker = MLflowTracker("auto", tracking_uri=uri)

    def classifier():
        return autokeras.StructuredDataClassifier(max_trials=2, directory=tmp_path, seed=1)

    found = track(classifier(), tracker)
    found.fit(x, y, epochs=2, verbose=0)
    client = mlflow.MlflowClient(uri)

    def runs(kind):
        experiment = client.get_experiment_by_name("auto").experiment_id
        return client.search_runs([experiment], f"tags.`nas.kind` = '{kind}'")

    trials = found.tuner.oracle.trials
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
    folder = found.tuner.project_dir
    assert SearchInfo.load(folder).space and len(list(load_records(folder))) == 2

    # A search that has finished is not searched again.
    before = {run.info.run_id for run in runs("trial")}
    track(classifier(), MLflowTracker("auto", tracking_uri=uri)).fit(x, y, epochs=2, verbose=0)
    assert {run.info.run_id for run in runs("trial")} == before and len(runs("search")) == 1

    # What AutoKeras hands out is registered as any other model is.
    model = found.export_model()
    best = found.tuner.oracle.get_best_trials(1)[0].trial_id
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
