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
    """Remembers the shapes it is called on; in a compiled function, once per trace."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x, training=None):
        self.seen.append((tuple(x.shape), training))
        return x


def ticks(*durations):
    """A clock between whose pairs of readings these seconds pass."""
    readings = [reading for one in durations for reading in (0.0, one)]
    return iter(readings).__next__


@pytest.fixture
def model():
    return keras.Sequential([keras.Input((3,)), Watched(), layers.Dense(2)])


def test_percentiles_are_of_the_timed_runs_in_milliseconds(model):
    durations = [number / 1e3 for number in range(1, 22)]
    found = measure_latency(model, runs=21, warm_up=3, clock=ticks(*durations))
    assert found.p50_ms == pytest.approx(11.0)
    assert found.p95_ms == pytest.approx(20.0)
    assert (found.batch_size, found.runs) == (1, 21)


def test_inference_is_compiled_once_and_does_not_train(model):
    seen = model.layers[0].seen
    seen.clear()
    found = measure_latency(model, batch_size=5, runs=4)
    # One trace, and no call of Python's after it.
    assert seen == [((5, 3), False)]
    assert 0 < found.p50_ms <= found.p95_ms


def test_inputs_of_any_structure_are_made():
    several = {name: keras.Input((size,), name=name) for name, size in (("b", 2), ("a", 3))}
    joined = layers.Concatenate()([several["a"], several["b"]])
    assert inference(keras.Model(several, joined), 2)().shape == (2, 5)
    pair = [keras.Input((2,), dtype="int32"), keras.Input((3,))]
    output = [layers.Embedding(4, 1)(pair[0]), pair[1]]
    assert [one.shape for one in inference(keras.Model(pair, output), 4)()] == [(4, 2, 1), (4, 3)]


def test_a_subclassed_model_is_run_on_what_it_was_built_on():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    with pytest.raises(CostError, match="know the shape of its input"):
        measure_latency(model)
    model(np.zeros((1, 3), "float32"))
    assert inference(model, 6)().shape == (6, 2)


@pytest.mark.parametrize("name", ["batch_size", "runs", "warm_up"])
def test_numbers_below_one_are_refused(model, name):
    with pytest.raises(CostError, match=f"`{name}` needs at least 1; received 0"):
        measure_latency(model, **{name: 0})
