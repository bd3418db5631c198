"""A registered model says what it takes and gives."""

import keras

from keras_nas_plugin.registry.signature import infer


def test_a_signature_without_sample_rows_comes_from_the_declared_inputs():
    one = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    signature = infer(one, None)
    assert signature.inputs.inputs[0].shape == (-1, 4)
    assert signature.outputs.inputs[0].shape == (-1, 3)
    a, b = keras.Input((2,), name="a"), keras.Input((5,), name="b")
    two = keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Concatenate()([a, b])))
    assert [spec.name for spec in infer(two, None).inputs.inputs] == ["a", "b"]
