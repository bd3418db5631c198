"""The architecture of each trial: beside its checkpoint, and in its MLflow run."""

import json
from pathlib import Path

import mlflow
import numpy as np

from keras_nas_plugin import MLflowTracker, NASTuner, RandomOracle
from keras_nas_plugin.space import Layer, LayerChoice, Sequential, SpaceHyperModel
from keras_nas_plugin.space.architecture import Architecture
from keras_nas_plugin.training.architectures import save_architecture
from tests.integration import forkserver


def hypermodel():
    choice = LayerChoice(
        {"relu": Layer("Dense", units=4, activation="relu"), "none": Layer("Flatten")}
    )
    return SpaceHyperModel(
        Sequential(choice, Layer("Dense", units=1)),
        inputs=(3,),
        compile={"optimizer": "sgd", "loss": "mse"},
    )


def test_a_trial_has_its_architecture_on_disk_and_in_mlflow(tmp_path):
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    uri = forkserver.new_store(tmp_path)
    tracker = MLflowTracker("architectures", tracking_uri=uri)
    tuner = NASTuner(
        hypermodel(),
        oracle=RandomOracle("loss", max_trials=2, seed=0),
        directory=tmp_path,
        project_name="search",
        tracker=tracker,
    )
    tuner.search(x, y, epochs=1, verbose=0)
    client = mlflow.MlflowClient(uri)
    seen = set()
    for trial_id in tuner.oracle.trials:
        folder = tmp_path / "search" / f"trial_{trial_id}"
        text = (folder / "architecture.json").read_text("utf-8")
        architecture = Architecture.from_json(text)
        seen.add(architecture.hash())
        assert (folder / "architecture.svg").read_text("utf-8").rstrip().endswith("</svg>")
        run_id = tracker.run_id(trial_id)
        names = {item.path for item in client.list_artifacts(run_id)}
        assert {"architecture.json", "architecture.svg"} <= names
        path = client.download_artifacts(run_id, "architecture.json", str(tmp_path))
        assert json.loads(Path(path).read_text("utf-8"))["hash"] == architecture.hash()
    assert len(seen) == 2


def test_a_function_describes_nothing_and_a_fault_fails_nothing(tmp_path, caplog):
    save_architecture(lambda hp: None, {}, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").write_text("a file, where a folder is wanted")
    model = hypermodel()
    save_architecture(model, model.spec.fill({}), tmp_path / "b")
    assert "was not written" in caplog.text
