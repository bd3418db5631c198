"""A search over two virtual devices, which must be set up in a new process."""

from __future__ import annotations

import json

import keras
import numpy as np
import tensorflow as tf

from keras_nas_plugin import NASTuner, RandomOracle, Tracker


class Environment(Tracker):
    """Records the environment of the search."""

    def search_started(self, search, records):
        self.search_environment = {
            name: search.environment[name] for name in ("distribution", "devices")
        }


def search() -> None:
    """Search, and print the results as JSON."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    replicas = []

    def build(hp):
        replicas.append(tf.distribute.get_strategy().num_replicas_in_sync)
        layers = [keras.layers.Dense(hp.Int("units", 2, 64)), keras.layers.Dense(2, "softmax")]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    x = np.random.default_rng(0).random((32, 4), dtype="float32")
    y = (x[:, 0] > 0.5).astype("int32")
    environment = Environment()
    tuner = NASTuner(
        build,
        oracle=RandomOracle("val_loss", max_trials=2, seed=0),
        distribution_strategy="mirrored",
        listeners=[environment],
    )
    replicas.clear()  # exploring the space trains nothing
    tuner.search(x, y, validation_data=(x, y), epochs=1, batch_size=8, verbose=0)
    result = {
        **environment.search_environment,
        "statuses": [trial.status for trial in tuner.oracle.trials.values()],
        "replicas": list(replicas),
    }
    (model,) = tuner.get_best_models()
    best = tuner.oracle.get_best_trials(1)[0].score
    result["same"] = bool(abs(model.evaluate(x, y, verbose=0)[0] - best) < 1e-5)
    print(json.dumps(result))
