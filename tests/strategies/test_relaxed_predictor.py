import numpy as np
import pytest

from keras_nas_plugin.strategies import relaxed_predictor
from keras_nas_plugin.strategies.relaxed_predictor import Network


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    features, targets = rng.random((7, 4)), rng.normal(size=(7, 2))
    targets[2:5, 0] = np.nan
    return relaxed_predictor.initial_network(4, 2, rng), features, targets


def test_predictions_and_slopes_agree_with_a_hand_computation():
    network = Network(
        np.array([[1.0], [2.0]]), np.array([0.5]), np.array([[3.0, 0.0]]), np.array([0.25, 1.0])
    )
    hidden = np.tanh(0.1 + 2.0 * 0.2 + 0.5)
    predicted = relaxed_predictor.predict(network, np.array([[0.1, 0.2]]))
    np.testing.assert_allclose(predicted, [[3.0 * hidden + 0.25, 1.0]])
    slope = relaxed_predictor.input_gradient(network, np.array([[0.1, 0.2]]))
    np.testing.assert_allclose(slope, [[3.0 * (1 - hidden**2), 6.0 * (1 - hidden**2)]])


def test_the_loss_is_a_mean_over_known_targets(problem):
    network, features, targets = problem
    errors = relaxed_predictor.predict(network, features) - targets
    expected = np.nanmean(errors[:, 0] ** 2) + np.mean(errors[:, 1] ** 2)
    assert relaxed_predictor.loss_and_gradient(network, features, targets)[0] == pytest.approx(
        expected
    )
    nothing = np.full_like(targets, np.nan)
    loss, gradients = relaxed_predictor.loss_and_gradient(network, features, nothing)
    assert loss == 0.0 and not any(gradient.any() for gradient in gradients)


def test_gradients_agree_with_finite_differences(problem):
    network, features, targets = problem
    _, gradients = relaxed_predictor.loss_and_gradient(network, features, targets)
    step = 1e-6
    for at, gradient in enumerate(gradients):
        for index in list(np.ndindex(gradient.shape))[::5]:
            losses = []
            for sign in (1.0, -1.0):
                parts = [part.copy() for part in network.parts()]
                parts[at][index] += sign * step
                losses.append(
                    relaxed_predictor.loss_and_gradient(Network(*parts), features, targets)[0]
                )
            slope = (losses[0] - losses[1]) / (2.0 * step)
            assert gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_the_slope_of_the_first_output_agrees_with_finite_differences(problem):
    network, features, _ = problem
    slopes, step = relaxed_predictor.input_gradient(network, features), 1e-6
    for row, column in np.ndindex(features.shape):
        outputs = []
        for sign in (1.0, -1.0):
            moved = features.copy()
            moved[row, column] += sign * step
            outputs.append(relaxed_predictor.predict(network, moved)[row, 0])
        assert slopes[row, column] == pytest.approx(
            (outputs[0] - outputs[1]) / (2 * step), rel=1e-6
        )


def test_fit_learns_a_linear_rule_and_is_reproducible():
    rng = np.random.default_rng(1)
    features = rng.integers(0, 2, size=(60, 6)).astype(float)
    targets = (features @ [1.0, -1.0, 0.5, 0.0, 0.0, 0.0])[:, None]
    targets = (targets - targets.mean()) / targets.std()
    fits = [
        relaxed_predictor.fit(features[:40], targets[:40], np.random.default_rng(3))
        for _ in range(2)
    ]
    for first, second in zip(fits[0].parts(), fits[1].parts(), strict=True):
        np.testing.assert_array_equal(first, second)
    errors = relaxed_predictor.predict(fits[0], features[40:]) - targets[40:]
    # The targets have unit variance and no noise, so that the error must be much smaller.
    assert np.mean(errors**2) < 0.1
