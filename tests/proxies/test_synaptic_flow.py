"""The log-domain flow: exact, without overflow, and independent of batch norm."""

import keras
import numpy as np
import pytest

from keras_nas_plugin.proxies import ProxyError, score
from tests.proxies import networks
from tests.proxies.networks import L


def synflow(model, x):
    return score(model, x, None, ("synflow",))["synflow"]


def test_a_network_of_300_wide_layers_does_not_overflow():
    """float64 ends at e^709; all weights are 0.5, so the flow is known."""
    width, depth = 256, 300
    layers = [L.Dense(width, activation="relu", use_bias=False) for _ in range(depth)]
    model = keras.Sequential([keras.Input((width,)), *layers])
    for layer in layers:
        layer.kernel.assign(np.full((width, width), -0.5))
    # R = width * (width / 2) ** depth, all of which passes every kernel.
    expected = np.log(depth) + np.log(width) + depth * np.log(width / 2)
    assert expected > 1400
    assert synflow(model, np.ones((1, width))) == pytest.approx(expected, rel=1e-6)


def test_shortcuts_do_not_overflow():
    """Each block contributes a factor of (1 + w)."""
    inputs = keras.Input((1,))
    x = inputs
    gains = np.random.default_rng(0).uniform(0.1, 1e3, 200)
    for gain in gains:
        dense = L.Dense(1, use_bias=False)
        y = dense(x)
        dense.kernel.assign([[gain]])
        x = L.Add()([x, y])
    flow = np.log1p(gains).sum()
    assert flow > 709
    # The share g / (1 + g) of the flow passes a kernel.
    expected = flow + np.log(np.sum(gains / (1 + gains)))
    assert synflow(keras.Model(inputs, x), np.ones((1, 1))) == pytest.approx(expected, rel=1e-5)


def by_hand(model, x):
    """The flow of a linear copy in float64 without rescaling, by differentiation."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        kernels = [
            tf.constant(np.abs(networks.array(variable)))
            for variable in model.trainable_variables
            if len(variable.shape) >= 2
        ]
        tape.watch(kernels)
        remaining = iter(kernels)
        h = tf.nn.conv2d(tf.ones_like(x[:1]), next(remaining), 1, "SAME")
        for _ in range(3):
            h = h + tf.nn.conv2d(h, next(remaining), 1, "SAME")
        out = tf.reduce_sum(tf.matmul(tf.reduce_mean(h, axis=(1, 2)), next(remaining)))
    gradients = tape.gradient(out, kernels)
    return np.log(
        sum(float(tf.reduce_sum(w * g)) for w, g in zip(kernels, gradients, strict=True))
    )


def test_synflow_agrees_with_the_gradient_of_a_linear_copy():
    model = networks.residual(dtype="float64")
    x = networks.images()[0].astype(float)
    assert synflow(model, x) == pytest.approx(by_hand(model, x), rel=1e-12)


def test_batch_norm_does_not_change_synflow():
    plain, normed = networks.residual(norm=False), networks.residual(norm=True)
    rng = np.random.default_rng(0)
    norms = [layer for layer in normed.layers if isinstance(layer, L.BatchNormalization)]
    for norm in norms:
        norm.set_weights([rng.uniform(0.5, 9.0, w.shape) for w in norm.get_weights()])
    sources = [layer for layer in normed.layers if layer.weights and layer not in norms]
    targets = [layer for layer in plain.layers if layer.weights]
    for target, source in zip(targets, sources, strict=True):
        target.set_weights(source.get_weights())
    x = networks.images()[0]
    assert synflow(normed, x) == synflow(plain, x)


def test_synflow_ignores_the_data_and_the_signs_of_weights():
    model = networks.residual()
    expected = synflow(model, networks.images()[0])
    for weight in model.trainable_variables:
        weight.assign(-networks.array(weight))
    assert synflow(model, networks.images(4, seed=9)[0]) == expected


def test_gates_count_as_open_and_constant_factors_are_included():
    """Squeeze and excitation; a Rescaling of 0.25."""
    inputs = keras.Input((4,), dtype="float64")
    dense = L.Dense(3, use_bias=False, dtype="float64")
    x = dense(inputs)
    gate = L.Dense(3, activation="sigmoid", dtype="float64")(x)
    gated = L.Multiply(dtype="float64")([x, L.Activation("sigmoid", dtype="float64")(gate)])
    head = L.Dense(2, activation="sigmoid", use_bias=False, dtype="float64")
    model = keras.Model(inputs, head(L.Rescaling(0.25, dtype="float64")(gated)))
    first, second = (np.abs(networks.array(layer.kernel)) for layer in (dense, head))
    # The kernel of the gate does not contribute.
    expected = np.log(2 * 0.25 * np.ones(4) @ first @ second @ np.ones(2))
    assert synflow(model, np.ones((2, 4))) == pytest.approx(expected, rel=1e-12)


def test_nested_models_and_shared_layers_are_included():
    inner = keras.Sequential([keras.Input((5,)), networks.Block(5), L.Dense(5)])
    inputs = keras.Input((5,))
    model = keras.Model(inputs, L.Dense(1)(inner(inner(inputs))))
    block = inner.layers[0]
    layers = (block.dense, inner.layers[1], model.layers[-1])
    dense, second, head = (np.abs(networks.array(layer.kernel)) for layer in layers)
    kernels = [dense, np.abs(networks.array(block.mixing)), second, head]

    def flow(*scales):
        d, m, s, h = (kernel * scale for kernel, scale in zip(kernels, scales, strict=True))
        step = d @ (np.eye(5) + m) @ s
        return (np.ones(5) @ step @ step @ h).item()

    # The sum of w dR/dw is the derivative with respect to a factor of the kernel.
    h = 1e-5
    total = sum((flow(*(1 + h * row)) - flow(*(1 - h * row))) / (2 * h) for row in np.eye(4))
    assert synflow(model, np.ones((1, 5))) == pytest.approx(np.log(total), rel=1e-5)


def test_a_network_without_a_path_has_the_worst_score():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, L.Dense(2)(L.Rescaling(0.0)(L.Dense(3)(inputs))))
    assert synflow(model, np.ones((1, 3))) == -np.inf


def test_a_layer_that_is_not_linear_is_named():
    class Square(L.Layer):
        def call(self, x):
            return x * x

    inputs = keras.Input((3,))
    model = keras.Model(inputs, L.Dense(2)(Square(name="mine")(inputs)))
    with pytest.raises(ProxyError, match="^`synflow` requires .* linear .*; Square 'mine' is not"):
        synflow(model, np.ones((1, 3)))


def test_casts_and_constants_between_layers_keep_the_flow():
    """Mixed precision casts between layers; a constant is no output of a layer."""
    inputs = keras.Input((4,))
    plain = L.Dense(2, use_bias=False)
    first = L.Dense(3, use_bias=False)
    model = keras.Model(inputs, plain(first(inputs)))
    mixed = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(3, use_bias=False, dtype="mixed_float16"),
            L.Dense(2, use_bias=False),
        ]
    )
    mixed.set_weights(model.get_weights())
    x = np.ones((1, 4))
    # Half precision has 11 bits.
    assert synflow(mixed, x) == pytest.approx(synflow(model, x), abs=0.01)
    scaled = keras.Model(inputs, plain(keras.ops.multiply(first(inputs), np.float32(3.0))))
    assert synflow(scaled, x) == pytest.approx(synflow(model, x) + np.log(3), rel=1e-5)
