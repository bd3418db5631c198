"""Small networks shared by several tests."""

import keras
import numpy as np

from keras_nas_plugin.proxies import table
from keras_nas_plugin.proxies.context import Context
from keras_nas_plugin.proxies.inputs import prepared

L = keras.layers


def two_layers(activation="relu", units=(3, 4, 2)):
    """Dense, activation, dense; float64, without biases."""
    features, hidden, outputs = units
    return keras.Sequential(
        [
            keras.Input((features,), dtype="float64"),
            L.Dense(hidden, activation=activation, use_bias=False, dtype="float64"),
            L.Dense(outputs, use_bias=False, dtype="float64"),
        ]
    )


def residual(channels=4, blocks=3, dtype="float32", norm=True):
    """Convolution, then blocks of norm, ReLU, convolution with a shortcut; softmax."""
    inputs = keras.Input((6, 6, 2), dtype=dtype)
    x = L.Conv2D(channels, 3, padding="same", use_bias=False, dtype=dtype)(inputs)
    for _ in range(blocks):
        y = L.BatchNormalization(dtype=dtype)(x) if norm else x
        y = L.ReLU(dtype=dtype)(y)
        y = L.Conv2D(channels, 3, padding="same", use_bias=False, dtype=dtype)(y)
        x = L.Add(dtype=dtype)([x, y])
    x = L.GlobalAveragePooling2D(dtype=dtype)(x)
    return keras.Model(inputs, L.Dense(3, activation="softmax", dtype=dtype)(x))


def images(count=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6, 6, 2)).astype("float32"), rng.integers(0, 3, count)


def context_of(model, x, y=None, proxies=(), **options):
    x, y = prepared(model, x, y)
    return Context(model, x, y, proxies={name: table.get(name) for name in proxies}, **options)


def values(model):
    return [array(variable) for variable in model.variables]


def array(variable):
    return keras.ops.convert_to_numpy(keras.ops.copy(variable.value))


@keras.saving.register_keras_serializable(package="tests.proxies")
class Block(keras.Layer):
    """A layer with layers and a weight of its own, and arithmetic in `call`."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.dense = L.Dense(units, activation="relu")
        self.norm = L.BatchNormalization()

    def build(self, shape):
        self.mixing = self.add_weight(
            shape=(self.units, self.units), initializer="random_normal", name="mixing"
        )
        self.dense.build(shape)
        self.norm.build((*shape[:-1], self.units))
        super().build(shape)

    def call(self, inputs):
        hidden = self.norm(self.dense(inputs))
        return hidden + keras.ops.matmul(hidden, self.mixing)
