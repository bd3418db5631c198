"""A supernet as another builder: all options in one model, averaged, with shared weights."""

import math

import keras
import numpy as np
import pytest

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import (
    Cell,
    Identity,
    InputChoice,
    Layer,
    LayerChoice,
    Optional,
    Repeat,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
    When,
    Zero,
    presets,
)
from keras_nas_plugin.space.language.architecture import GraphBuilder
from keras_nas_plugin.space.language.building import KerasBuilder


class AveragingBuilder(KerasBuilder):
    """Builds every option of a decision and averages their outputs; widths are the largest."""

    def __init__(self):
        super().__init__({})
        self.decisions = {}
        self.layers = []

    def choose(self, path, options, inputs):
        outputs = [build() for build in options.values()]
        self.decisions[path] = list(options)
        return keras.layers.Average()(outputs) if len(outputs) > 1 else outputs[0]

    def value(self, path, domain):
        self.decisions[path] = domain
        return domain.at(math.nextafter(1.0, 0.0))

    def layer(self, kind, arguments, path, inputs):
        self.layers.append(path)
        return super().layer(kind, arguments, path, inputs)


class CountingBuilder(GraphBuilder):
    """The same without layers, for large spaces."""

    def __init__(self):
        super().__init__({})
        self.decisions = set()

    def choose(self, path, options, inputs):
        self.decisions.add(path)
        return self.merge("average", [build() for build in options.values()], path)

    def value(self, path, domain):
        self.decisions.add(path)
        return domain.at(math.nextafter(1.0, 0.0))


def supernet(space, shape):
    """The model of all options, and its builder."""
    builder = AveragingBuilder()
    inputs = keras.Input(shape)
    model = keras.Model(inputs, builder.part(space, "", [inputs]))
    return model, builder


def dense(units=4):
    return Layer("Dense", units=units, activation="tanh")


CELL = Cell({"none": Zero(), "skip": Identity(), "dense": dense()}, nodes=2, on="inputs")
SPACE = Sequential(
    stem=dense(ValueChoice([2, 4], name="width")),
    operation=LayerChoice({"skip": Identity(), "dense": dense(), "elu": "ELU"}),
    body=Repeat(dense(), 1, 3),
    cell=CELL,
    nodes=Cell([dense()], nodes=3, on="nodes", inputs=InputChoice(1, 2)),
    extra=Optional(dense()),
    squeeze=When(ValueChoice([1, 2, 3], name="kind"), [2, 3], dense()),
    head=Layer("Dense", units=1),
)


def test_all_options_are_built_in_one_model_and_trained():
    model, builder = supernet(SPACE, (3,))
    decided = {d.name for d in SpaceHyperModel(SPACE, inputs=(3,), compile={}).spec.decisions}
    assert set(builder.decisions) == decided
    assert builder.decisions["operation"] == ["skip", "dense", "elu"]
    assert builder.decisions["body/count"] == [1, 2, 3]
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    before = [weight.numpy() for weight in model.trainable_weights]
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 1))
    assert np.isfinite(model.train_on_batch(x, y))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert (weight.numpy() != old).any(), f"{weight.path} is not trained"


def test_options_share_common_layers():
    _, builder = supernet(SPACE, (3,))
    built = [path for path in builder.layers if path.startswith("body/")]
    assert built == ["body/0", "body/1", "body/2"]
    # Two values of the choice select the same part.
    assert builder.layers.count("squeeze/then") == 1


def test_a_repeat_averages_the_outputs_after_each_repetition():
    model, _ = supernet(Repeat(Layer("Dense", units=2, use_bias=False), 0, 2), (2,))
    first, second = (layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    x = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    once = x @ first.kernel.numpy()
    twice = once @ second.kernel.numpy()
    np.testing.assert_allclose(model(x), (x + once + twice) / 3, rtol=1e-5)


def test_an_input_choice_averages_over_all_sets():
    builder = AveragingBuilder()
    inputs = [keras.Input((2,)) for _ in range(3)]
    chooser = InputChoice(1, 2, merge="maximum", candidates=3)
    model = keras.Model(inputs, builder.part(chooser, "", inputs))
    rows = [np.array([[1.0, 5.0]]), np.array([[4.0, 2.0]]), np.array([[3.0, 3.0]])]
    sets = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    expected = np.mean([np.max([rows[i] for i in indices], axis=0) for indices in sets], axis=0)
    np.testing.assert_allclose(model(rows), expected, rtol=1e-6)


@pytest.mark.parametrize("name", presets.__all__)
def test_every_preset_can_be_built_with_all_options(name):
    arguments = {
        "darts": {"cells": 3},
        "sequence_1d": {"classes": 3},
        "tabular": {"features": 3, "classes": 2, "categories": {1: 4}},
        "text_transformer": {"classes": 2},
        "unet": {"classes": 2},
    }
    hypermodel = getattr(presets, name)(**arguments.get(name, {}))
    builder = CountingBuilder()
    inputs = [builder.input(name) for name in hypermodel.inputs]
    builder.part(hypermodel.space, "", inputs)
    assert builder.decisions == hypermodel.spec.names


def test_a_builder_without_values_raises_an_error():
    with pytest.raises(SearchSpaceError, match="`values` must have a value for 'act'"):
        GraphBuilder({}).part(Sequential(act=LayerChoice(["ReLU", "ELU"])), "", [0])
