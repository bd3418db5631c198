"""The architecture of each trial is stored beside its checkpoint and in its MLflow run."""

import json
from pathlib import Path
from xml.etree import ElementTree

import keras
import keras_tuner
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import MLflowTracker, NASTuner, RandomOracle, track
from keras_nas_plugin.space import Layer, LayerChoice, Sequential, SpaceHyperModel
from keras_nas_plugin.space.language.architecture import Architecture
from keras_nas_plugin.training.architectures import (
    model_summary,
    save_architecture,
    save_model_description,
)
from keras_nas_plugin.training.bookkeeping import Bookkeeping
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
    hashes = set()
    for trial_id in tuner.oracle.trials:
        folder = tmp_path / "search" / f"trial_{trial_id}"
        text = (folder / "architecture.json").read_text("utf-8")
        architecture = Architecture.from_json(text)
        hashes.add(architecture.hash())
        assert (folder / "architecture.svg").read_text("utf-8").rstrip().endswith("</svg>")
        run_id = tracker.run_id(trial_id)
        names = {item.path for item in client.list_artifacts(run_id)}
        assert {"architecture.json", "architecture.svg", "model_summary.txt"} <= names
        path = client.download_artifacts(run_id, "architecture.json", str(tmp_path))
        assert json.loads(Path(path).read_text("utf-8"))["hash"] == architecture.hash()
    assert len(hashes) == 2


def test_a_function_writes_no_architecture_and_an_error_is_logged(tmp_path, caplog):
    bookkeeping = Bookkeeping()
    save_architecture(lambda hp: None, {}, tmp_path / "a", bookkeeping)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").write_text("a file in place of a folder")
    model = hypermodel()
    for _ in range(2):
        save_architecture(model, model.spec.fill({}), tmp_path / "b", bookkeeping)
    assert caplog.text.count("the architecture of a trial was not written") == 1


def residual(hp):
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(3, "relu", name="hidden")(inputs)
    joined = keras.layers.Add()([inputs, hidden])
    model = keras.Model(inputs, keras.layers.Dense(hp.Fixed("units", 1))(joined))
    model.compile("sgd", "mse", run_eagerly=True)
    return model


class Failing(keras_tuner.HyperModel):
    def build(self, hp):
        return residual(hp)

    def fit(self, hp, model, *args, **kwargs):
        raise ValueError("no training today")


@pytest.mark.parametrize("tuner_of", ["nas_tuner", "tracked", "failing"])
def test_a_trial_of_an_ordinary_function_shows_its_layers_in_mlflow(tmp_path, tuner_of):
    x = np.ones((4, 3), "float32")
    uri = forkserver.new_store(tmp_path)
    place = {"directory": tmp_path, "project_name": "search"}
    objective = keras_tuner.Objective("loss", "min")
    if tuner_of == "tracked":
        tuner = keras_tuner.RandomSearch(residual, objective, max_trials=1, **place)
        track(tuner, tracking_uri=uri)
        tuner.search(x, x[:, :1], epochs=1, verbose=0)
    else:
        build = Failing() if tuner_of == "failing" else residual
        tracker = MLflowTracker("keras-nas", tracking_uri=uri)
        tuner = NASTuner(build, RandomOracle(objective, max_trials=1), tracker=tracker, **place)
        try:
            tuner.search(x, x[:, :1], epochs=1, verbose=0)
        except RuntimeError:
            assert tuner_of == "failing"
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("keras-nas")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`nas.kind` = 'trial'")
    assert run.info.status == ("FAILED" if tuner_of == "failing" else "FINISHED")
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"model_summary.txt", "architecture.svg"} <= names
    path = client.download_artifacts(run.info.run_id, "model_summary.txt", str(tmp_path))
    summary = Path(path).read_text("utf-8")
    assert "hidden" in summary and "16 parameters: 16 trainable, 0 not trainable" in summary


def test_the_summary_lists_layers_of_nested_and_subclassed_models():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.layers.Dense(3, name="first")
            self.inner = keras.Sequential([keras.layers.Dense(1, name="last")], name="inner")

        def call(self, x):
            return self.inner(self.first(x))

    model = Subclassed()
    model(np.ones((2, 4), "float32"))
    lines = [line.split() for line in model_summary(model).splitlines()]
    assert ["first", "Dense", "?", "15"] in lines
    (inner,) = [line for line in model_summary(model).splitlines() if "last" in line]
    assert inner.startswith("  last") and inner.endswith(" 4")


def test_a_diagram_has_a_box_for_each_call_and_is_drawn_without_matplotlib(tmp_path, caplog):
    model = residual(keras_tuner.HyperParameters())
    save_model_description(model, tmp_path / "graph", Bookkeeping())
    root = ElementTree.parse(tmp_path / "graph" / "architecture.svg").getroot()
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert texts[::2] == ["input", "Dense", "Add", "Dense"]
    assert texts[1] == "(None, 3)"
    lines = [element for element in root.iter() if element.tag.endswith("polyline")]
    assert len(lines) == 4  # the shortcut, and three in a row
    subclassed = type("Subclassed", (keras.Model,), {"call": lambda self, x: x})()
    subclassed(np.ones((1, 2)))
    save_model_description(subclassed, tmp_path / "other", Bookkeeping())
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["model_summary.txt"]
    assert not caplog.messages
