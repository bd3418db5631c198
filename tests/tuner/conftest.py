from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_nas_plugin import NASTuner, RandomOracle, Tracker
from keras_nas_plugin.records.trial import FINISHED, load_records


class Witness(Tracker):
    """Records every event that a tracker is notified of."""

    def __init__(self):
        self.events = []

    def search_started(self, search, records):
        self.search = search
        self.events.append(("search_started", len(list(records))))

    def trial_started(self, trial_id, values):
        self.events.append(("trial_started", trial_id, dict(values)))

    def epoch_ended(self, trial_id, epoch, logs):
        self.events.append(("epoch_ended", trial_id, epoch, dict(logs)))

    def trial_ended(self, record):
        self.events.append(("trial_ended", record))

    def search_ended(self, status):
        self.events.append(("search_ended", status))

    def events_of(self, kind):
        return [event[1:] for event in self.events if event[0] == kind]

    @property
    def records(self):
        return [record for (record,) in self.events_of("trial_ended")]


def dense(hp, **options):
    """A model that is built and trained in a few milliseconds."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(hp.Int("units", 2, 64), activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    options = {"optimizer": "sgd", "metrics": ["accuracy"], "run_eagerly": True} | options
    model.compile(loss="sparse_categorical_crossentropy", **options)
    return model


@pytest.fixture
def build():
    return dense


@pytest.fixture
def witness():
    return Witness()


def arrays():
    rng = np.random.default_rng(7)
    x = rng.random((48, 4), dtype="float32")
    y = (x[:, 0] > 0.5).astype("int32")
    return {"x": x[:32], "y": y[:32], "validation_data": (x[32:], y[32:])}


@pytest.fixture(scope="session")
def data():
    return arrays()


@pytest.fixture(scope="session")
def batched_data():
    """The same as data sets: Keras traces functions for each `fit` of arrays, not for these."""
    import tensorflow as tf

    data = arrays()

    def batches(*rows):
        return tf.data.Dataset.from_tensor_slices(rows).batch(32)

    return {
        "x": batches(data["x"], data["y"]),
        "validation_data": batches(*data["validation_data"]),
    }


@pytest.fixture
def tune(tmp_path, data, witness):
    """Runs a search, and returns its tuner; `fit` holds arguments of `search`."""

    def run(hypermodel=dense, oracle=None, *, cls=NASTuner, fit=None, search=True, **options):
        oracle = oracle or RandomOracle("val_loss", max_trials=2, seed=0)
        options = {"directory": tmp_path, "project_name": "p", "tracker": witness} | options
        tuner = cls(hypermodel, oracle=oracle, **options)
        if search:
            tuner.search(**{**data, "verbose": 0, **(fit or {})})
        return tuner

    return run


@pytest.fixture
def finished(tmp_path):
    """Records of the trials that finished."""

    def read(folder=None):
        records = load_records(folder or tmp_path / "p")
        return [record for record in records if record.status == FINISHED]

    return read
