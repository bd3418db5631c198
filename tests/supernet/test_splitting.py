"""The decision by which a supernet is split."""

import numpy as np
import pytest

from keras_nas_plugin.space import (
    Identity,
    Layer,
    LayerChoice,
    Repeat,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
)
from keras_nas_plugin.supernet import FairSampler, SandwichSampler, Supernet
from keras_nas_plugin.supernet.splitting import split_decision

OPERATIONS = {
    name: Layer("Dense", units=2, activation=name) for name in ("relu", "tanh", "sigmoid")
}


def choice(count, name=None):
    options = {**dict(list(OPERATIONS.items())[: count - 1]), "skip": Identity()}
    return LayerChoice(options, name=name)


def width(count):
    return Layer("Dense", units=ValueChoice(list(range(1, count + 1))))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # The most options, and the first of several.
        ([choice(2, "a"), choice(4, "b"), choice(4, "c")], "b"),
        # Operations before widths, though there are more widths.
        ([choice(2, "a"), width(6)], "a"),
        ([width(3), width(2)], "1/units"),
        # At most eight.
        ([width(9), width(2)], "2/units"),
        ([width(9)], None),
        # The inner decision of a repetition is not made by each architecture.
        ([Repeat(choice(3, "inner"), 0, 1, name="depth"), width(2)], "depth/count"),
    ],
)
def test_the_decision_with_the_most_operations_that_all_architectures_make(parts, expected):
    layers = [Layer("Dense", units=2), *parts, Layer("Dense", units=1)]
    hypermodel = SpaceHyperModel(Sequential(*layers), inputs=(2,), compile={"loss": "mse"})
    supernet = Supernet(hypermodel)
    assert split_decision(supernet) == expected


def test_samplers_within_a_part_draw_as_many_paths():
    layers = [choice(4, "a"), choice(2, "b"), width(3), Layer("Dense", units=1)]
    supernet = Supernet(SpaceHyperModel(Sequential(*layers), inputs=(2,), compile={"loss": "mse"}))
    part = supernet.spec.fixed_at({"a": "tanh"})
    for sampler in (FairSampler(supernet.spec), SandwichSampler(supernet.spec, random=3)):
        within = sampler.within(part)
        assert within.paths == sampler.paths
        paths = within.step(np.random.default_rng(0))
        assert len(paths) == sampler.paths
        assert {values["a"] for values in paths} == {"tanh"}
