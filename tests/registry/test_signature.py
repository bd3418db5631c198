"""Signatures of registered models."""

import keras

from keras_nas_plugin.registry.interface import interface_of


def test_a_signature_without_sample_rows_comes_from_the_declared_inputs():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    signature = interface_of(model, None).signature()
    assert signature.inputs.inputs[0].shape == (-1, 4)
    assert signature.outputs.inputs[0].shape == (-1, 3)
    a, b = keras.Input((2,), name="a"), keras.Input((5,), name="b")
    two_inputs = keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Concatenate()([a, b])))
    assert [spec.name for spec in interface_of(two_inputs, None).signature().inputs.inputs] == [
        "a",
        "b",
    ]
