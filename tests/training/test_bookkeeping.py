"""No error in what is only recorded about a trial makes the trial, or the search, fail."""

import json

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from keras_nas_plugin import (
    Constraint,
    NASTuner,
    RandomOracle,
    RegularizedEvolutionOracle,
    Tracker,
    track,
)
from keras_nas_plugin.evaluation import costs
from keras_nas_plugin.evaluation.datasets import describe_data
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.training import runtime

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("float32")


class Unserialisable(keras.Model):
    """A subclassed model whose build configuration is not JSON."""

    def __init__(self, units):
        super().__init__()
        self.hidden, self.head = keras.layers.Dense(units), keras.layers.Dense(1, "sigmoid")

    def call(self, x):
        return self.head(self.hidden(x))

    def get_build_config(self):
        return {"input_shape": {1, 2}}


class Hyper(keras_tuner.HyperModel):
    def build(self, hp):
        model = Unserialisable(hp.Int("units", 1, 8))
        model.compile("sgd", "binary_crossentropy", metrics=["accuracy"], run_eagerly=True)
        return model

    def architecture(self, values):
        raise RuntimeError("no picture")


class Broken(Tracker):
    def __getattribute__(self, name):
        if name.endswith(("_started", "_ended")):
            raise ValueError(f"{name} is out of order")
        return super().__getattribute__(name)


def build(hp):
    hidden = keras.layers.Dense(hp.Int("units", 1, 8))
    model = keras.Sequential([keras.Input((3,)), hidden, keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def unhashable(*args, **kwargs):
    raise TypeError("unhashable type: 'slice'")


def statuses(tuner):
    return [trial.status for trial in tuner.oracle.trials.values()]


#: One warning each, in a search where everything that can be recorded raises an error.
KINDS = (
    "the first rows cannot be read",
    "the training data have no digest",
    "device and versions are not recorded",
    "the architecture of a trial was not written",
    "`flops` is left out: TypeError: unhashable type: 'slice'",
    "`parameters` is left out",
    "`peak_memory_bytes` is left out",
    "`latency_ms` is left out",
    "the input shapes of a model are not recorded",
    "Broken failed on `trial_started`",
    "Broken failed on `epoch_ended`",
    "Broken failed on `trial_ended`",
    "Broken failed on `search_ended`",
)


def break_costs(monkeypatch):
    for name in ("count_parameters", "count_flops", "peak_activation_memory", "measure_latency"):
        monkeypatch.setattr(costs, name, unhashable)


def test_whatever_bookkeeping_raises_is_one_warning_per_kind_and_search(
    tmp_path, monkeypatch, caplog
):
    break_costs(monkeypatch)
    monkeypatch.setattr(runtime, "gpu_names", unhashable)
    monkeypatch.setattr(runtime, "prepare_devices", lambda: [])
    monkeypatch.setattr("keras_nas_plugin.training.fit_arguments.sample_rows", unhashable)
    monkeypatch.setattr("keras_nas_plugin.evaluation.datasets._profile", unhashable)
    oracle = RegularizedEvolutionOracle("val_loss", max_trials=3, seed=0)
    tuner = NASTuner(
        Hyper(), oracle, listeners=[Broken()], measure=["latency"], directory=tmp_path
    )
    tuner.search(X, Y, validation_data=(X, Y), epochs=2, verbose=0)
    assert statuses(tuner) == ["COMPLETED"] * 3
    assert {kind: caplog.text.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 1)
    (record, *_) = load_records(tuner.project_dir)
    assert set(record.costs) == {"train_seconds"}
    caplog.clear()
    oracle.max_trials = 5
    tuner.search(X, Y, validation_data=(X, Y), epochs=2, verbose=0)  # another search
    assert statuses(tuner) == ["COMPLETED"] * 5
    assert {kind: caplog.text.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 1)


def test_a_cost_that_a_constraint_uses_fails_its_trials_and_not_the_search(
    tmp_path, monkeypatch, caplog
):
    break_costs(monkeypatch)

    constraints = [Constraint("flops", max=100)]
    oracle = RandomOracle(
        "val_loss", max_trials=2, constraints=constraints, max_consecutive_failed_trials=5
    )
    tuner = NASTuner(build, oracle, directory=tmp_path)
    tuner.search(X, Y, validation_data=(X, Y), epochs=1, verbose=0)
    assert [record.error for record in load_records(tuner.project_dir)] == [
        "TypeError: unhashable type: 'slice'"
    ] * 2
    assert caplog.text.count("Constraints on costs are checked after training: they cannot") == 1


def test_a_tracked_tuner_of_keras_tuner_is_protected_as_well(tmp_path, monkeypatch, caplog):
    break_costs(monkeypatch)
    monkeypatch.setattr("keras_nas_plugin.evaluation.datasets._profile", unhashable)
    tuner = track(
        keras_tuner.RandomSearch(build, "val_loss", 2, directory=tmp_path), tracker=Broken()
    )
    tuner.search(X, Y, validation_data=(X, Y), epochs=1, verbose=0)
    assert statuses(tuner) == ["COMPLETED"] * 2
    for kind in ("`flops` is left out", "the training data have no digest"):
        assert caplog.text.count(kind) == 1


class OnTensors(keras_tuner.HyperModel):
    def build(self, hp):
        model = keras.Sequential(
            [keras.Input((None, 1)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
        )
        model.compile(hp.Choice("optimizer", ["sgd", "adam"]), "mse", run_eagerly=True)
        return model

    def fit(self, hp, model, x, validation_data, **kwargs):
        def dense(rows, labels):
            return rows.to_tensor()[..., None], labels

        return model.fit(x.map(dense), validation_data=validation_data.map(dense), **kwargs)


def test_ragged_data_sets_can_be_searched_on(tmp_path):
    rows = tf.ragged.constant([[1.0], [2.0, 3.0], [4.0, 5.0, 6.0], [7.0]])
    data = tf.data.Dataset.from_tensor_slices((rows, tf.constant([1.0, 2.0, 3.0, 4.0]))).batch(2)
    tuner = NASTuner(OnTensors(), RandomOracle("val_loss", max_trials=1), directory=tmp_path)
    tuner.search(data, validation_data=data, epochs=1, verbose=0)
    assert statuses(tuner) == ["COMPLETED"]
    described = SearchInfo.load(tuner.project_dir).datasets
    assert "RaggedTensorSpec" in json.dumps([dataset.profile for dataset in described])


class Unreadable:
    shape, dtype = (4, 2), "float32"

    def __array__(self, dtype=None, copy=None):
        raise ValueError("the file was removed")


def test_data_that_cannot_be_read_have_the_digest_of_their_type():
    with pytest.raises(ValueError, match="the file was removed"):
        describe_data("rows", "training", Unreadable())
    errors = []
    described = [
        describe_data("rows", "training", data, lambda kind, error: errors.append(str(error)))
        for data in (Unreadable(), Unreadable())
    ]
    assert described[0] == described[1] and described[0]["profile"] == {"type": "Unreadable"}
    assert errors == ["the file was removed"] * 2
