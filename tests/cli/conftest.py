from __future__ import annotations

import textwrap

import pytest

from tests.integration import forkserver

TARGET = "tests.integration.forkserver:command_line"

RECIPE = """
import pathlib
import keras
import keras_tuner
import numpy as np

OBJECTIVE = "val_loss"

def build_model(hp):
    units = hp.Int("units", 2, 64)
    layers = [keras.layers.Dense(units), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    loss = "sparse_categorical_crossentropy"
    model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
    return model

def load_data():
    x = np.random.default_rng(0).random((24, 4), dtype="float32")
    y = (x[:, 0] > 0.5).astype("int32")
    return (x[:16], y[:16]), (x[16:], y[16:])
"""

# Keras traces several functions per `fit` of arrays, which takes longer than training.
DATASETS = """
def load_data(arrays=load_data):
    import tensorflow as tf
    return tuple(tf.data.Dataset.from_tensor_slices(rows).batch(16) for rows in arrays())
"""

# Trains forever while a file `endless` exists and another trial has finished.
ENDLESS = (
    RECIPE
    + DATASETS
    + """
class Training(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        pathlib.Path("training").touch()

class Endless(keras_tuner.HyperModel):
    def build(self, hp):
        return build_model(hp)

    def fit(self, hp, model, *args, callbacks, epochs, **options):
        if pathlib.Path("endless").exists() and list(pathlib.Path().glob("*/*/*/record.json")):
            epochs = 1_000_000_000
            callbacks = [*callbacks, Training()]
        return model.fit(*args, callbacks=callbacks, epochs=epochs, **options)
"""
)


@pytest.fixture(scope="session")
def server():
    """A fork server: its processes start with TensorFlow and MLflow imported."""
    return forkserver.fork_server()


@pytest.fixture(scope="session")
def new_store():
    """Puts an empty MLflow database into a folder."""
    return forkserver.new_store


@pytest.fixture
def write(tmp_path):
    """Writes a user's file into the test's folder."""

    def file(text=RECIPE + DATASETS, name="recipe.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return file


@pytest.fixture
def nas(server, tmp_path):
    """Runs `keras-nas` in the test's folder: words, and options of the fork server."""

    def run(*words, wait=True, **options):
        words = [str(word) for part in words for word in str(part).split()]
        start = server.run if wait else server.start
        return start(TARGET, **{"cwd": tmp_path, "words": words} | options)

    return run
