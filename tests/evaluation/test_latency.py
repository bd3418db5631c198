import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import layers

from keras_nas_plugin import measure_latency
from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.latency import inference


class Watched(layers.Layer):
    """Records the shapes that it is called with; in a compiled function, once per trace."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x, training=None):
        self.seen.append((tuple(x.shape), training))
        return x


def ticks(*durations):
    """A clock with these seconds between each pair of readings."""
    readings = [reading for duration in durations for reading in (0.0, duration)]
    return iter(readings).__next__


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((3,)), Watched(), layers.Dense(2)])


def test_percentiles_of_the_timed_runs_are_in_milliseconds(model):
    durations = [number / 1e3 for number in range(1, 22)]
    latency = measure_latency(model, runs=21, warm_up=3, clock=ticks(*durations))
    assert latency.p50_ms == pytest.approx(11.0)
    assert latency.p95_ms == pytest.approx(20.0)
    assert (latency.batch_size, latency.runs) == (1, 21)


def test_inference_is_compiled_once_in_inference_mode(model):
    seen = model.layers[0].seen
    seen.clear()
    latency = measure_latency(model, batch_size=5, runs=4)
    # One trace, and no further call in Python.
    assert seen == [((5, 3), False)]
    assert 0 < latency.p50_ms <= latency.p95_ms


def test_random_inputs_match_the_structure_of_the_model():
    inputs = {name: keras.Input((size,), name=name) for name, size in (("b", 2), ("a", 3))}
    joined = layers.Concatenate()([inputs["a"], inputs["b"]])
    assert inference(keras.Model(inputs, joined), 2)().shape == (2, 5)
    pair = [keras.Input((2,), dtype="int32"), keras.Input((3,))]
    output = [layers.Embedding(4, 1)(pair[0]), pair[1]]
    results = inference(keras.Model(pair, output), 4)()
    assert [result.shape for result in results] == [(4, 2, 1), (4, 3)]


def test_a_subclassed_model_is_measured_at_the_shape_it_was_built_with():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    with pytest.raises(CostError, match="must know the shape of its input"):
        measure_latency(model)
    model(np.zeros((1, 3), "float32"))
    assert inference(model, 6)().shape == (6, 2)


@pytest.mark.parametrize("name", ["batch_size", "runs", "warm_up"])
def test_counts_below_one_are_rejected(model, name):
    with pytest.raises(CostError, match=f"`{name}` must be at least 1; got 0"):
        measure_latency(model, **{name: 0})
