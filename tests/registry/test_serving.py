"""A promoted model serves: over HTTP, as a pyfunc and as a Keras model."""

from __future__ import annotations

import json
import shutil
import urllib.request

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from keras_nas_plugin import Constraint, promote
from keras_nas_plugin.registry import register_model
from tests.servers import model_server


class Scaled(keras.layers.Layer):
    """A layer of the user's own, which the server cannot import."""

    def __init__(self, factor=3.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return self.factor * x

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@pytest.fixture(scope="module")
def champion(tmp_path_factory, empty_store):
    """A champion in a registry: the store's URI, rows, and what the Keras model predicts."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("models", (folder / "artifacts").as_uri())
    keras.utils.set_random_seed(0)
    layers = [Scaled(0.5), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    predicted = model.predict(x, verbose=0)
    run = client.create_run(experiment).info.run_id
    register_model(model, name="served", run_id=run, tracking_uri=uri, sample=x[:2])
    verdict = promote(
        "served",
        x=x,
        y=predicted.argmax(axis=-1),
        tracking_uri=uri,
        thresholds=[Constraint("accuracy", min=1.0)],
        smoke_test=False,  # the server below is one
    )
    assert verdict.promoted
    return folder, uri, x, predicted


def test_a_server_predicts_what_the_keras_model_predicts(champion):
    folder, uri, x, predicted = champion
    with model_server(folder, "models:/served@champion", uri).running() as server:
        request = urllib.request.Request(
            f"{server.uri}/invocations",
            json.dumps({"inputs": x[:8].tolist()}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
    np.testing.assert_allclose(answer["predictions"], predicted[:8], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flavour", ["pyfunc", "tensorflow"])
def test_the_champion_loads_by_its_alias(champion, flavour):
    _, uri, x, predicted = champion
    mlflow.set_tracking_uri(uri)
    try:
        model = getattr(mlflow, flavour).load_model("models:/served@champion")
    finally:
        mlflow.set_tracking_uri(None)
    np.testing.assert_allclose(model.predict(x), predicted, rtol=1e-5, atol=1e-6)
