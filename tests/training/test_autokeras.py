"""The search of AutoKeras is tracked with its own tuner."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest

import keras_nas_plugin
from keras_nas_plugin import MLflowTracker, RegularizedEvolutionOracle, track
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import load_records
from tests.integration import forkserver

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "drop-in.md").read_text()
BLOCKS = re.findall(r"^```py\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

autokeras = pytest.importorskip("autokeras", reason="needs AutoKeras: pip install autokeras")


class Page:
    """Runs the code of docs/drop-in.md on few rows, with fewer trials and epochs.

    Its blocks are the workaround for Keras 3.13, a tracked search, the registration of its model,
    and a search by an oracle of this package.
    """

    def __init__(self, rows, trials):
        x = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
        public = {name: getattr(keras_nas_plugin, name) for name in keras_nas_plugin.__all__}
        self.names = {**public, "x": x, "y": (x[:, 0] > 0).astype("int32")}
        self.trials = trials
        self.run(0)

    def run(self, block):
        code = BLOCKS[block].replace("max_trials=20", f"max_trials={self.trials}")
        exec(code.replace("epochs=10", f"epochs={self.trials}"), self.names)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """The address of an empty store; the workaround of the page is undone after the test."""
    from autokeras.utils import data_utils

    monkeypatch.setattr(data_utils, "dataset_shape", data_utils.dataset_shape)
    monkeypatch.chdir(tmp_path)
    uri = forkserver.new_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_each_trial_is_a_run_and_the_final_training_is_not(store):
    page = Page(rows=80, trials=2)
    page.run(1)
    x, y, automodel, tracker = (page.names[n] for n in ("x", "y", "classifier", "tracker"))
    client = mlflow.MlflowClient(store)

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
    again = autokeras.StructuredDataClassifier(max_trials=2)
    track(again, MLflowTracker("auto")).fit(x, y, epochs=2, verbose=0)
    assert {run.info.run_id for run in runs("trial")} == before and len(runs("search")) == 1

    # The exported model is registered as any other model is.
    page.run(2)
    model, best = automodel.export_model(), page.names["best"]
    version = client.get_model_version_by_alias("auto", "challenger")
    assert version.run_id == tracker.run_id(best)
    loaded = mlflow.tensorflow.load_model("models:/auto@challenger")
    assert isinstance(loaded, keras.Model)
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5
    )


def test_autokeras_searches_with_an_oracle_of_this_package():
    page = Page(rows=40, trials=1)
    page.names["autokeras"] = autokeras
    page.run(3)
    automodel = page.names["classifier"]
    (trial,) = automodel.tuner.oracle.get_best_trials(2)
    assert isinstance(automodel.tuner.oracle, RegularizedEvolutionOracle)
    (record,) = load_records(automodel.tuner.project_dir)
    assert trial.status == "COMPLETED" and record.score == trial.score
    assert automodel.export_model().count_params() > 0
