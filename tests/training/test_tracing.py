"""Creating variables before `fit` saves one trace and does not change results."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.tracing import create_variables

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = RNG.integers(0, 3, 64)


class Counting(keras.layers.Layer):
    """Counts how often a training step through it is traced."""

    def __init__(self):
        super().__init__()
        self.traces = 0

    def call(self, inputs, training=False):
        self.traces += bool(training) and not tf.executing_eagerly()
        return inputs


def make(metrics=("accuracy",), **options):
    keras.utils.set_random_seed(1)
    counting = Counting()
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3, activation="softmax")(counting(inputs))
    model = keras.Model(inputs, outputs)
    options = {"loss": "sparse_categorical_crossentropy", "metrics": list(metrics)} | options
    model.compile("adam", **options)
    counting.traces = 0
    return model, counting


def test_the_train_step_is_traced_once_instead_of_twice():
    plain, plain_counter = make()
    plain.fit(X, Y, verbose=0)
    prepared, prepared_counter = make()
    assert create_variables(prepared, FitArguments.bind((X, Y), {}))
    prepared.fit(X, Y, verbose=0)
    assert (prepared_counter.traces, plain_counter.traces) == (1, 2)


@pytest.mark.parametrize("metrics", [("accuracy",), (), ("accuracy", keras.metrics.AUC)])
def test_histories_are_identical_with_and_without_created_variables(metrics):
    one_hot = np.eye(3, dtype="float32")[Y]

    def train(prepare):
        built = [metric(name="auc") if isinstance(metric, type) else metric for metric in metrics]
        model, _ = make(built, loss="categorical_crossentropy")
        if prepare:
            assert create_variables(model, FitArguments.bind((), {"x": X, "y": one_hot}))
        fit = {"epochs": 3, "validation_split": 0.25, "shuffle": False, "verbose": 0}
        return model.fit(X, one_hot, **fit).history

    assert train(prepare=True) == train(prepare=False)


def test_variables_are_created_for_tf_data_and_regression():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    data = tf.data.Dataset.from_tensor_slices((X, X[:, :1])).batch(16)
    assert create_variables(model, FitArguments.bind((data,), {}))
    assert "mae" in model.fit(data, verbose=0).history


def unbuilt():
    model = keras.Sequential([keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def eager():
    return make(run_eagerly=True)[0]


def own_step():
    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    inputs = keras.Input((4,))
    model = Own(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def two_outputs():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)])
    model.compile("adam", ["mse", "mse"], metrics=[["mae"], ["mae"]])
    return model


def distributed():
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        return make()[0]


@pytest.mark.parametrize("build", [unbuilt, eager, own_step, two_outputs, distributed])
def test_unsupported_models_are_left_unchanged_and_train(build):
    model = build()
    assert not create_variables(model, FitArguments.bind((X, Y), {}))
    targets = [X[:, :1], X[:, :1]] if build is two_outputs else Y
    assert np.isfinite(model.fit(X, targets, verbose=0).history["loss"]).all()
