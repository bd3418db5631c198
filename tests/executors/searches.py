"""A search of a few tiny models, for the tests of workers."""

from __future__ import annotations

import os

import keras
import numpy as np

from keras_nas_plugin import NASTuner, RandomOracle, Tracker
from keras_nas_plugin.records.trial import FINISHED, load_records

X = np.random.default_rng(0).normal(size=(6000, 4)).astype("float32")  # large enough for a file
Y = (X.sum(axis=1) > 0).astype("int64")
FIT = {"epochs": 2, "batch_size": 3000, "verbose": 0, "validation_data": (X[:100], Y[:100])}


def build(hp):
    units = hp.Int("units", 2, 9)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return model


class Events(Tracker):
    """Records the starts, epochs and ends of trials, and the process in which it is told so."""

    def __init__(self):
        self.epochs, self.started, self.ended = [], [], []

    def trial_started(self, trial_id, values):
        self.started.append((trial_id, os.getpid()))

    def epoch_ended(self, trial_id, epoch, logs):
        self.epochs.append((trial_id, epoch, os.getpid()))

    def trial_ended(self, record):
        self.ended.append(record)


def tuner_of(folder, hypermodel=build, *, oracle=None, executor=None, trials=3, **options):
    oracle = oracle or RandomOracle("val_loss", max_trials=trials, seed=0)
    return NASTuner(hypermodel, oracle=oracle, directory=folder, executor=executor, **options)


def results(folder):
    records = load_records(folder)
    return {r.trial_id: (r.values["units"], r.score) for r in records if r.status == FINISHED}
