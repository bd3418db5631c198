"""The recipe of the stored search: a small network on random data; one activation is broken."""

import keras
import numpy as np

OBJECTIVE = "val_accuracy"


def build_model(hp):
    activation = hp.Choice("activation", ["relu", "broken", "tanh"])
    if activation == "broken":
        raise ValueError("this activation always fails")
    model = keras.Sequential([keras.Input((6,))])
    for layer in range(hp.Int("layers", 1, 3)):
        units = hp.Choice("units", [2, 4, 8, 16, 32])
        model.add(keras.layers.Dense(units, activation=activation, name=f"dense_{layer}"))
    if hp.Boolean("normalised"):
        model.add(keras.layers.LayerNormalization(name="norm"))
    model.add(keras.layers.Dense(3, activation="softmax", name="classes"))
    rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.SGD(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def load_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 6)).astype("float32")
    y = np.argmax(x[:, :3] + 0.3 * x[:, 3:], axis=1).astype("int32")
    return (x[:48], y[:48]), (x[48:72], y[48:72]), (x[72:], y[72:])
