"""The paths that the samplers draw, and the steps that train them."""

import collections

import keras
import numpy as np
import pytest

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.space import Identity, Layer, LayerChoice, Sequential, SpaceHyperModel
from keras_nas_plugin.space.domains import Categorical, Integer
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec
from keras_nas_plugin.supernet import (
    FairSampler,
    SandwichSampler,
    Supernet,
    SupernetTrainer,
    UniformSampler,
)

SPEC = SearchSpec(
    (
        Decision("operation", Categorical(("conv", "pool", "skip"))),
        Decision("kernel", Categorical((1, 3), ordered=True)),
        Decision("depth", Integer(1, 3)),
        Decision("inner", Categorical(("a", "b", "c")), (Condition("depth", (2, 3)),)),
    )
)


def test_uniform_sampling_draws_one_valid_path():
    sampler, rng = UniformSampler(SPEC), np.random.default_rng(0)
    assert sampler.paths == 1
    for _ in range(20):
        (values,) = sampler.step(rng)
        SPEC.validate(values)


def test_fair_sampling_trains_every_option_equally_often():
    sampler, rng = FairSampler(SPEC), np.random.default_rng(0)
    assert sampler.paths == 3
    counts = collections.Counter()
    for step in range(1, 8):
        paths = sampler.step(rng)
        assert len(paths) == 3
        for values in paths:
            SPEC.validate(values)
            counts.update((name, values[name]) for name in ("operation", "kernel", "depth"))
        assert {counts["operation", option] for option in ("conv", "pool", "skip")} == {step}
        assert {counts["depth", option] for option in (1, 2, 3)} == {step}
        assert abs(counts["kernel", 1] - counts["kernel", 3]) <= 1


def test_the_state_of_fair_sampling_continues_its_permutations():
    first, rng = FairSampler(SPEC), np.random.default_rng(0)
    first.step(rng)
    second = FairSampler(SPEC)
    second.set_state(first.get_state())
    state = rng.bit_generator.state
    expected = first.step(rng)
    rng.bit_generator.state = state
    assert second.step(rng) == expected


def test_sandwich_sampling_has_both_ends():
    sampler, rng = SandwichSampler(SPEC, random=1), np.random.default_rng(0)
    operations = set()
    for _ in range(10):
        largest, smallest, middle = sampler.step(rng)
        assert (largest["kernel"], largest["depth"]) == (3, 3)
        assert (smallest["kernel"], smallest["depth"]) == (1, 1)
        for values in (largest, smallest, middle):
            SPEC.validate(values)
        operations.add(largest["operation"])
    assert operations == {"conv", "pool", "skip"}
    with pytest.raises(StrategyError, match="`random` must be at least 0; got -1"):
        SandwichSampler(SPEC, random=-1)


def test_the_weights_change_once_for_all_paths_of_a_step():
    """Plain gradient descent: the step is the mean of the gradients of the paths."""
    operations = {"dense": Layer("Dense", units=2, use_bias=False), "skip": Identity()}
    space = Sequential(LayerChoice(operations), Layer("Dense", units=1, use_bias=False))
    hypermodel = SpaceHyperModel(
        space, inputs=(2,), compile={"optimizer": keras.optimizers.SGD(0.1), "loss": "mse"}
    )
    keras.utils.set_random_seed(0)
    supernet = Supernet(hypermodel)
    trainer = SupernetTrainer(supernet, FairSampler(supernet.spec), np.random.default_rng(0))
    before = [variable.numpy() for variable in supernet.model.trainable_variables]
    inner, head = sorted(before, key=np.size, reverse=True)
    x, y = np.array([[1.0, 2.0]], "float32"), np.array([[3.0]], "float32")
    trainer.epoch([(x, y, None)])

    error_dense, error_skip = x @ inner @ head - y, x @ head - y
    gradients = {
        4: x.T @ (2 * error_dense @ head.T) / 2,
        2: ((x @ inner).T * 2 * error_dense + x.T * 2 * error_skip) / 2,
    }
    for old, variable in zip(before, supernet.model.trainable_variables, strict=True):
        expected = old - 0.1 * gradients[old.size]
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=1e-6)
