"""Every proxy against NumPy, in float64 on a small network."""

import keras
import numpy as np
import pytest

from keras_nas_plugin.proxies import score, table
from tests.proxies import networks

L = keras.layers
EXACT = 1e-10


@pytest.fixture(scope="module")
def case():
    """Dense 3 -> 4 (ReLU) -> 2 with mean squared error, data, and both kernels."""
    model = networks.two_layers()
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    model.set_weights([first, second])
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    return model, x, y, first, second


def loss_by_hand(x, y, first, second):
    return np.mean((np.maximum(x @ first, 0) @ second - y) ** 2)


def gradients_by_hand(x, y, first, second):
    """Of the loss: hidden layer, output, both kernels."""
    hidden = x @ first
    active = np.maximum(hidden, 0)
    output = active @ second
    d_output = 2 * (output - y) / output.size
    d_hidden = (d_output @ second.T) * (hidden > 0)
    return hidden, output, d_hidden, d_output, x.T @ d_hidden, active.T @ d_output


def proxy_value(name, model, x, y, **options):
    return score(model, x, y, (name,), loss="mse", **options)[name]


def test_gradients_by_hand_agree_with_finite_differences(case):
    """The tests below rely on these gradients."""
    _, x, y, first, second = case
    *_, d_first, d_second = gradients_by_hand(x, y, first, second)
    step = 1e-6
    for i in np.ndindex(first.shape):
        change = np.zeros_like(first)
        change[i] = step
        up = loss_by_hand(x, y, first + change, second)
        down = loss_by_hand(x, y, first - change, second)
        assert (up - down) / (2 * step) == pytest.approx(d_first[i], abs=1e-8)
    for i in np.ndindex(second.shape):
        change = np.zeros_like(second)
        change[i] = step
        up = loss_by_hand(x, y, first, second + change)
        down = loss_by_hand(x, y, first, second - change)
        assert (up - down) / (2 * step) == pytest.approx(d_second[i], abs=1e-8)


def test_grad_norm_is_the_sum_of_gradient_norms(case):
    model, x, y, *weights = case
    *_, d_first, d_second = gradients_by_hand(x, y, *weights)
    expected = np.linalg.norm(d_first) + np.linalg.norm(d_second)
    assert proxy_value("grad_norm", model, x, y) == pytest.approx(expected, rel=EXACT)


def test_snip_is_the_sum_of_weight_times_gradient(case):
    model, x, y, first, second = case
    *_, d_first, d_second = gradients_by_hand(x, y, first, second)
    expected = np.abs(first * d_first).sum() + np.abs(second * d_second).sum()
    assert proxy_value("snip", model, x, y) == pytest.approx(expected, rel=EXACT)


def test_grasp_is_the_change_of_the_gradient_along_itself(case):
    """H g by a central difference of the gradients by hand."""
    model, x, y, first, second = case
    *_, d_first, d_second = gradients_by_hand(x, y, first, second)
    step = 1e-6
    up = gradients_by_hand(x, y, first + step * d_first, second + step * d_second)[-2:]
    down = gradients_by_hand(x, y, first - step * d_first, second - step * d_second)[-2:]
    product = [(a - b) / (2 * step) for a, b in zip(up, down, strict=True)]
    expected = -(first * product[0]).sum() - (second * product[1]).sum()
    assert proxy_value("grasp", model, x, y) == pytest.approx(expected, rel=1e-6)


def test_fisher_uses_outputs_before_the_activation(case):
    model, x, y, *weights = case
    hidden, output, d_hidden, d_output, *_ = gradients_by_hand(x, y, *weights)
    expected = sum(((a * d) ** 2).mean(axis=0).sum() / 2 for a, d in
                   ((hidden, d_hidden), (output, d_output)))  # fmt: skip
    assert proxy_value("fisher", model, x, y) == pytest.approx(expected, rel=EXACT)


def test_fisher_sums_positions_before_squaring():
    model = keras.Sequential(
        [keras.Input((4, 1), dtype="float64"), L.Conv1D(2, 1, use_bias=False, dtype="float64")]
    )
    kernel = np.array([[[0.5, -2.0]]])
    model.set_weights([kernel])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 4, 1)), rng.standard_normal((3, 4, 2))
    output = x * kernel[0]
    effect = (output * 2 * (output - y) / output.size).sum(axis=1)
    expected = (effect**2).mean(axis=0).sum() / 2
    assert proxy_value("fisher", model, x, y) == pytest.approx(expected, rel=EXACT)


def test_jacob_cov_agrees_with_numpy(case):
    model, x, y, first, second = case
    jacobian = ((x @ first > 0) * second.sum(axis=1)) @ first.T
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(jacobian))
    shifted = np.clip(eigenvalues, 0, None) + 1e-5
    expected = -np.sum(np.log(shifted) + 1 / shifted)
    # Eigenvalues near zero, of which 1 / (0 + 1e-5) is taken, are exact to about 1e-15.
    assert proxy_value("jacob_cov", model, x, y) == pytest.approx(expected, rel=1e-8)


def test_naswot_is_the_log_determinant_of_the_agreement_kernel(case):
    model, x, y, first, _ = case
    codes = (x @ first > 0).astype(int)
    agreement = (codes[:, None, :] == codes[None, :, :]).sum(axis=2)
    sign, expected = np.linalg.slogdet(agreement.astype(float))
    measured = proxy_value("naswot", model, x, y)
    if sign > 0:
        assert measured == pytest.approx(expected, rel=EXACT)
    else:
        assert measured == -np.inf


def test_naswot_sums_over_activation_layers_and_arguments():
    rng = np.random.default_rng(5)
    inputs = keras.Input((3,), dtype="float64")
    x = L.Dense(16, use_bias=False, activation="gelu", dtype="float64")(inputs)
    x = L.LeakyReLU(dtype="float64")(L.Dense(16, use_bias=False, dtype="float64")(x))
    model = keras.Model(inputs, L.Dense(1, activation="sigmoid", dtype="float64")(x))
    data = rng.standard_normal((4, 3))
    first, second = (networks.array(weight) for weight in model.weights[:2])
    hidden = data @ first
    after = keras.ops.convert_to_numpy(keras.activations.gelu(hidden)) @ second
    kernel = np.zeros((4, 4))
    for before in (hidden, after):
        on = before > 0
        kernel += (on[:, None] == on[None]).sum(axis=2)
    sign, expected = np.linalg.slogdet(kernel)
    assert sign > 0
    assert score(model, data, None, ("naswot",))["naswot"] == pytest.approx(expected, rel=EXACT)


def test_zico_agrees_with_numpy(case):
    model, x, y, *weights = case
    halves = [gradients_by_hand(x[i : i + 3], y[i : i + 3], *weights)[-2:] for i in (0, 3)]
    expected = 0.0
    for parts in zip(*halves, strict=True):
        spread = np.std(parts, axis=0)
        varies = spread > 0
        expected += np.log(np.sum(np.mean(np.abs(parts), axis=0)[varies] / spread[varies]))
    assert proxy_value("zico", model, x, y) == pytest.approx(expected, rel=1e-8)


def test_synflow_is_the_log_of_the_flow_over_all_paths(case):
    model, x, y, first, second = case
    first, second = np.abs(first), np.abs(second)
    # Every path has one weight of each kernel, so that each kernel carries the total flow.
    flow = np.ones(3) @ first @ second @ np.ones(2)
    assert proxy_value("synflow", model, x, y) == pytest.approx(np.log(2 * flow), rel=EXACT)


def test_params_counts_trainable_weights(case):
    model, x, y, *_ = case
    assert proxy_value("params", model, x, y) == 3 * 4 + 4 * 2


def test_meco_is_the_smallest_eigenvalue_of_channel_correlations():
    model = keras.Sequential(
        [keras.Input((5, 2), dtype="float64"), L.Conv1D(3, 1, use_bias=False, dtype="float64")]
    )
    x = np.random.default_rng(1).standard_normal((2, 5, 2))
    channels = (x[0] @ networks.array(model.weights[0])[0]).T
    expected = np.linalg.eigvalsh(np.corrcoef(channels))[0]
    # Three mixtures of two channels: rank two, so the smallest eigenvalue is zero.
    assert expected == pytest.approx(0, abs=1e-12)
    assert score(model, x, None, ("meco",))["meco"] == pytest.approx(0, abs=1e-12)
    model = keras.Sequential(
        [keras.Input((5, 2), dtype="float64"), L.Conv1D(2, 1, use_bias=False, dtype="float64")]
    )
    channels = (x[0] @ networks.array(model.weights[0])[0]).T
    expected = np.linalg.eigvalsh(np.corrcoef(channels))[0]
    assert score(model, x, None, ("meco",))["meco"] == pytest.approx(expected, rel=1e-9)


def test_zen_agrees_with_numpy():
    """Convolution 1x1, batch norm, ReLU, pooling, dense; with the noise that the proxy draws."""
    model = keras.Sequential(
        [
            keras.Input((4, 2), dtype="float64"),
            L.Conv1D(3, 1, use_bias=False, dtype="float64"),
            L.BatchNormalization(epsilon=1e-3, dtype="float64"),
            L.ReLU(dtype="float64"),
            L.GlobalAveragePooling1D(dtype="float64"),
            L.Dense(2, dtype="float64"),
        ]
    )
    x = np.zeros((5, 4, 2))
    context = networks.context_of(model, x)
    rng = context.rng(1)
    start = rng.standard_normal((5, 4, 2))
    moved = start + 0.01 * rng.standard_normal((5, 4, 2))
    kernel = rng.standard_normal((1, 2, 3))[0]

    def features(data):
        mixed = data @ kernel
        variance = mixed.var(axis=(0, 1))
        mean = mixed.mean(axis=(0, 1))
        return np.maximum((mixed - mean) / np.sqrt(variance + 1e-3), 0), variance

    (before, variance), (after, _) = features(start), features(moved)
    expected = np.log(np.abs(before - after).sum(axis=(1, 2)).mean())
    expected += np.log(np.sqrt(variance.mean()))
    assert table.get("zen").compute(context) == pytest.approx(expected, rel=1e-9)


def test_jacob_cov_ignores_a_final_softmax(case):
    """The sum of a softmax is constant, so that its gradient would vanish."""
    model, x, y, first, second = case
    separate = keras.Sequential([*networks.two_layers().layers, L.Softmax(dtype="float64")])
    separate.build((None, 3))
    separate.set_weights([first, second])
    fused = networks.two_layers()
    fused.layers[-1].activation = keras.activations.softmax
    fused.set_weights([first, second])
    expected = proxy_value("jacob_cov", model, x, y)
    for network in (separate, fused):
        assert proxy_value("jacob_cov", network, x, y) == pytest.approx(expected, rel=1e-8)
