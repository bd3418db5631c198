"""A promoted model serves: over HTTP, as a pyfunc and as a Keras model."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from keras_nas_plugin import Constraint, promote
from keras_nas_plugin.registry import register_model

SECONDS = 240  # until a server that does not start fails the test


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


@contextlib.contextmanager
def serving(folder, uri):
    """`mlflow models serve`, as production starts it; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("mlflow"), "models", "serve", "--port", str(port)]
    command += ["--model-uri", "models:/served@champion", "--env-manager", "local"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # `mlflow`, `uvicorn` and so on stand beside the interpreter.
    environment["PATH"] = os.pathsep.join([str(command[0].parent), environment["PATH"]])
    with open(folder / "server.log", "w+") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + SECONDS
            while not answers(f"{address}/ping"):
                log.seek(0)
                assert process.poll() is None and time.monotonic() < deadline, log.read()
                time.sleep(0.2)
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status == 200
    except (OSError, urllib.error.URLError):
        return False


def test_a_server_predicts_what_the_keras_model_predicts(champion):
    folder, uri, x, predicted = champion
    with serving(folder, uri) as address:
        request = urllib.request.Request(
            f"{address}/invocations",
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
