"""Weights of a model from a model of another architecture."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from keras_nas_plugin.inheritance.transfer import transfer_weights

IMAGES = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(1)


def network(widths=(4, 6), kernel=3, head=8, classes=3, extra=0, *, residual=False, flat=False):
    """Convolutions with batch normalisation, then a dense head."""
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for number, width in enumerate(widths):
        x = layers.Conv2D(width, kernel, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        if number == 0:
            for _ in range(extra):
                if residual:
                    y = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
                    x = layers.Add()([x, layers.Conv2D(width, 3, padding="same")(y)])
                else:
                    x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x) if flat else layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(head, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes)(x))


def trained(model):
    """With other statistics and scales than those of a new model."""
    rng = np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def predicted(model):
    return model.predict(IMAGES, verbose=0)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"widths": (8, 6)},
        {"widths": (7, 11), "head": 13},
        {"kernel": 5},
        {"extra": 2},
        {"extra": 2, "residual": True},
        {"widths": (6, 9), "kernel": 5, "head": 9},
    ],
    ids=str,
)
def test_a_larger_model_computes_the_same_function(changes, flat):
    parent = trained(network(flat=flat))
    child = network(flat=flat, **changes)
    transfer = transfer_weights(child, parent)
    assert transfer.fresh == () or changes.get("residual")
    np.testing.assert_allclose(predicted(child), predicted(parent), rtol=1e-4, atol=1e-5)


def test_copies_of_a_channel_do_not_stay_equal():
    parent, child = trained(network()), network(widths=(8, 6))
    transfer_weights(child, parent)
    kernel = child.layers[5].get_weights()[0]  # reads each of four channels twice
    assert kernel.shape == (3, 3, 8, 6)
    assert not np.allclose(kernel[:, :, :4], kernel[:, :, 4:])


def test_a_smaller_model_has_a_part_of_the_weights():
    parent, child = trained(network(widths=(8, 6), kernel=5)), network(widths=(4, 6))
    transfer_weights(child, parent)
    expected = parent.layers[1].get_weights()[0][1:4, 1:4, :, :4]
    np.testing.assert_array_equal(child.layers[1].get_weights()[0], expected)


def test_a_layer_in_place_of_another_is_fresh():
    def model(kind):
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
        x = kind(4, 3, padding="same", activation="relu")(x)
        return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))

    parent, child = model(layers.Conv2D), model(layers.SeparableConv2D)
    before = child.layers[2].get_weights()
    transfer = transfer_weights(child, parent)
    assert [layer.name for layer in transfer.fresh] == [child.layers[2].name]
    assert [layer.name for layer in transfer.inherited] == [
        child.layers[1].name,
        child.layers[4].name,
    ]
    np.testing.assert_array_equal(child.layers[2].get_weights()[0], before[0])


def test_layers_with_names_match_by_name():
    def model(*names):
        inputs = keras.Input((4,))
        x = inputs
        for name in names:
            x = layers.Dense(4, name=name)(x)
        return keras.Model(inputs, x)

    parent, child = model("first", "second"), model("second", "third", "first")
    transfer = transfer_weights(child, parent)
    assert {layer.name for layer in transfer.inherited} == {"first", "second"}
    for name in ("first", "second"):
        expected = parent.get_layer(name).get_weights()[0]
        np.testing.assert_array_equal(child.get_layer(name).get_weights()[0], expected)


def test_layers_of_a_space_match_by_their_path():
    from keras_nas_plugin.space import Layer, LayerChoice, Repeat, Sequential, SpaceHyperModel

    first = LayerChoice({"small": Layer("Dense", units=4), "none": Layer("Dropout", rate=0.1)})
    part = Sequential(first, Repeat(Layer("Dense", units=4), 1, 3), Layer("Dense", units=4))
    hypermodel = SpaceHyperModel(part, inputs=(4,), compile={"optimizer": "sgd", "loss": "mse"})

    def model(**values):
        space = keras_tuner.HyperParameters()
        hypermodel.build(space)
        hp = space.copy()
        names = [name for name in hp.values if name in values]
        assert len(names) == len(values), list(hp.values)
        hp.values = {**hp.values, **values}
        return hypermodel.build(hp)

    space = keras_tuner.HyperParameters()
    hypermodel.build(space)
    choice, repeats = list(space.values)
    parent, child = model(**{choice: "small", repeats: 1}), model(**{choice: "none", repeats: 3})
    last = [m.layers[-1].get_weights()[0] for m in (parent, child)]
    assert not np.array_equal(*last)
    transfer = transfer_weights(child, parent)
    assert len(transfer.inherited) == 2  # by order, the first of the parent would be among them
    np.testing.assert_array_equal(child.layers[-1].get_weights()[0], last[0])
    np.testing.assert_array_equal(
        child.layers[2].get_weights()[0], parent.layers[2].get_weights()[0]
    )


class Subclassed(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.first, self.second = layers.Dense(units), layers.Dense(2)
        self.recurrent = layers.GRU(3)

    def call(self, x):
        return self.second(self.first(x)) + self.recurrent(x[:, None])[:, :2]


def test_equal_weights_of_models_without_a_graph_are_taken_over():
    x = np.ones((2, 4), "float32")
    parent, child = Subclassed(5), Subclassed(5)
    before, _ = parent(x), child(x)
    transfer = transfer_weights(child, parent)
    np.testing.assert_allclose(child(x), before, rtol=1e-6)
    assert transfer.fresh == ()


def test_other_layers_take_over_weights_of_equal_shape():
    def model(units, state):
        inputs = keras.Input((5, 4))
        x = layers.MultiHeadAttention(2, 2)(inputs, inputs)
        x = layers.LayerNormalization()(layers.Add()([x, inputs]))
        x = layers.Bidirectional(layers.LSTM(state))(x)
        return keras.Model(inputs, layers.Dense(units)(x))

    parent = model(3, 2)
    same, other = model(3, 2), model(3, 4)
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    assert transfer_weights(same, parent).fresh == ()
    np.testing.assert_allclose(same(x), parent(x), atol=1e-6)
    fresh = [type(layer).__name__ for layer in transfer_weights(other, parent).fresh]
    assert fresh == ["Bidirectional"]
