from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_digits

from keras_nas_plugin.registry import register_model
from tests import stores

DIGITS = [f"digit {number}" for number in range(10)]


@dataclasses.dataclass(frozen=True)
class Champion:
    """A trained classifier of digits in a registry, and held-out rows."""

    uri: str
    run_id: str
    model: keras.Model
    x: np.ndarray
    y: np.ndarray
    data: Path
    training: Path

    @property
    def client(self):
        return MlflowClient(self.uri)

    @property
    def predicted(self):
        return self.model.predict(self.x, verbose=0)


@pytest.fixture(scope="session")
def champion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("champion")
    shutil.copy(stores.empty_database(), folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("digits", (folder / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    rows, labels = load_digits(return_X_y=True)
    x = (rows / 16).reshape((-1, 8, 8, 1)).astype("float32")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    hidden = keras.layers.Conv2D(8, 3)(inputs)
    hidden = keras.layers.BatchNormalization(momentum=0.8)(hidden)
    hidden = keras.layers.Activation("gelu")(hidden)
    hidden = keras.layers.Flatten()(hidden)
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(hidden))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x[:1200], labels[:1200], epochs=4, verbose=0)
    register_model(
        model,
        name="digits",
        run_id=run,
        tracking_uri=uri,
        sample=x[:2],
        input_example=True,
        class_names=DIGITS,
        alias="champion",
    )
    held_out, training = folder / "held_out.npz", folder / "training.npz"
    np.savez(held_out, x=x[1200:1400], y=labels[1200:1400])
    np.savez(training, x=x[:200], y=labels[:200])
    return Champion(uri, run, model, x[1200:1400], labels[1200:1400], held_out, training)
