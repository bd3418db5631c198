"""Weights redrawn in place."""

import keras
import numpy as np
import pytest
from scipy import stats

from keras_nas_plugin.proxies.state import redraw
from tests.proxies import networks
from tests.proxies.networks import L


def drawn(model, seed):
    redraw(model, np.random.default_rng(seed))
    return networks.values(model)


def test_redrawn_weights_are_determined_by_the_seed():
    model = networks.residual()
    first, other_seed, repeated = drawn(model, 0), drawn(model, 1), drawn(model, 0)
    for values, other_values, repeated_values, variable in zip(
        first, other_seed, repeated, model.variables, strict=True
    ):
        np.testing.assert_array_equal(values, repeated_values)
        assert np.array_equal(values, other_values) == (len(variable.shape) < 2)


def test_kernels_of_one_shape_differ_even_when_their_initializers_have_a_seed():
    layers = [L.Dense(4, kernel_initializer=keras.initializers.HeNormal(seed=3)) for _ in "ab"]
    model = keras.Sequential([keras.Input((4,)), *layers])
    first, second = (networks.array(layer.kernel) for layer in layers)
    np.testing.assert_array_equal(first, second)  # as their initializers have equal seeds
    redraw(model, np.random.default_rng(0))
    first, second = (networks.array(layer.kernel) for layer in layers)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Dense(64, kernel_initializer=keras.initializers.RandomNormal(stddev=3.0)), (64,)),
        (L.DepthwiseConv2D(5, depth_multiplier=8, depthwise_initializer="he_normal"), (9, 9, 32)),
        (L.SeparableConv2D(64, 5, pointwise_initializer="he_normal"), (9, 9, 32)),
        (L.Embedding(200, 16), (5,)),
        (networks.Block(64), (64,)),
    ],
)
def test_redrawn_weights_follow_the_distribution_of_their_initializer(layer, shape):
    """A Kolmogorov-Smirnov test finds no difference for any kernel."""
    model = keras.Sequential([keras.Input(shape), layer])
    before = [kernel for kernel in networks.values(model) if kernel.ndim > 1]
    after = [kernel for kernel in drawn(model, 0) if kernel.ndim > 1]
    assert len(before) >= 1
    for initial, redrawn in zip(before, after, strict=True):
        assert not np.array_equal(initial, redrawn)
        assert stats.ks_2samp(initial.ravel(), redrawn.ravel()).pvalue > 0.001


def test_orthogonal_weights_stay_orthogonal():
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, kernel_initializer="orthogonal")])
    kernel = drawn(model, 0)[0]
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(4), atol=1e-5)


def test_vectors_and_frozen_weights_are_not_redrawn():
    model = networks.residual()
    model.layers[1].trainable = False
    frozen = networks.array(model.layers[1].kernel)
    for variable in model.variables:
        if len(variable.shape) == 1:
            variable.assign(np.full(variable.shape, 7.0))
    drawn(model, 0)
    np.testing.assert_array_equal(frozen, networks.array(model.layers[1].kernel))
    assert all((networks.array(v) == 7).all() for v in model.variables if len(v.shape) == 1)
