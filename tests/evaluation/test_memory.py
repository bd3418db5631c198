import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
from keras import layers

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation.memory import peak_activation_memory


def test_the_peak_of_a_chain_is_its_largest_pair_of_consecutive_tensors():
    model = keras.Sequential(
        [keras.Input((10,)), layers.Dense(30), layers.Dense(20), layers.Dense(40), layers.Dense(1)]
    )
    # 20 and 40 values of four bytes; the 30 before them were freed.
    assert peak_activation_memory(model) == 60 * 4
    assert peak_activation_memory(model, batch_size=8) == 8 * 60 * 4


def test_a_tensor_is_kept_until_its_last_use():
    inputs = keras.Input((10,))
    wide = layers.Dense(50)(inputs)
    narrow = layers.Dense(5)(layers.Dense(7)(wide))
    model = keras.Model(inputs, layers.Concatenate()([wide, narrow]))
    # `wide` is kept until it is concatenated: 50 + 5, and the 55 of the output.
    assert peak_activation_memory(model) == 110 * 4


def test_shared_tensors_count_once_and_outputs_are_kept():
    inputs = keras.Input((10,))
    first = layers.Dense(20)(inputs)
    model = keras.Model(inputs, [first, layers.Dense(30)(first), layers.Dense(40)(first)])
    assert peak_activation_memory(model) == 90 * 4
    # The second use of the same tensor takes no further memory.
    twice = keras.Model(inputs, layers.Add()([first, first]))
    assert peak_activation_memory(twice) == 40 * 4


def test_a_nested_model_is_expanded():
    inner = keras.Sequential([keras.Input((10,)), layers.Dense(100), layers.Dense(3)])
    inputs = keras.Input((10,))
    model = keras.Model(inputs, layers.Dense(4)(inner(inputs)))
    assert peak_activation_memory(model) == 110 * 4
    assert peak_activation_memory(keras.Model(inputs, inner(inputs))) == 110 * 4


def test_half_precision_halves_the_memory():
    layer = layers.Dense(30, dtype="mixed_float16")
    inputs = keras.Input((10,), dtype="float16")
    assert peak_activation_memory(keras.Model(inputs, layer(inputs))) == 40 * 2


def test_a_model_without_a_static_graph_is_rejected():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(CostError, match="functional, or a Sequential"):
        peak_activation_memory(Own())
    anywhere = keras.Sequential([keras.Input((None, 3)), layers.Dense(2)])
    with pytest.raises(CostError, match="all dimensions except the batch must be known"):
        peak_activation_memory(anywhere)
