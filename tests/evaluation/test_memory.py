import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
from keras import layers

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.memory import peak_activation_memory


def test_a_chain_needs_its_two_largest_neighbours():
    model = keras.Sequential(
        [keras.Input((10,)), layers.Dense(30), layers.Dense(20), layers.Dense(40), layers.Dense(1)]
    )
    # 20 and 40 values of four bytes; the 30 before them are gone.
    assert peak_activation_memory(model) == 60 * 4
    assert peak_activation_memory(model, batch_size=8) == 8 * 60 * 4


def test_what_a_later_call_takes_stays():
    inputs = keras.Input((10,))
    wide = layers.Dense(50)(inputs)
    narrow = layers.Dense(5)(layers.Dense(7)(wide))
    model = keras.Model(inputs, layers.Concatenate()([wide, narrow]))
    # `wide` lives until it is joined: 50 + 5 and the 55 that come out.
    assert peak_activation_memory(model) == 110 * 4


def test_branches_count_once_and_outputs_stay_to_the_end():
    inputs = keras.Input((10,))
    first = layers.Dense(20)(inputs)
    model = keras.Model(inputs, [first, layers.Dense(30)(first), layers.Dense(40)(first)])
    assert peak_activation_memory(model) == 90 * 4
    # The second use of the same tensor takes nothing more.
    twice = keras.Model(inputs, layers.Add()([first, first]))
    assert peak_activation_memory(twice) == 40 * 4


def test_a_nested_model_is_taken_apart():
    inner = keras.Sequential([keras.Input((10,)), layers.Dense(100), layers.Dense(3)])
    inputs = keras.Input((10,))
    model = keras.Model(inputs, layers.Dense(4)(inner(inputs)))
    assert peak_activation_memory(model) == 110 * 4
    assert peak_activation_memory(keras.Model(inputs, inner(inputs))) == 110 * 4


def test_half_precision_takes_half():
    layer = layers.Dense(30, dtype="mixed_float16")
    inputs = keras.Input((10,), dtype="float16")
    assert peak_activation_memory(keras.Model(inputs, layer(inputs))) == 40 * 2


def test_a_model_without_a_graph_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(CostError, match="functional, or a Sequential"):
        peak_activation_memory(Own())
    anywhere = keras.Sequential([keras.Input((None, 3)), layers.Dense(2)])
    with pytest.raises(CostError, match="known shapes"):
        peak_activation_memory(anywhere)
