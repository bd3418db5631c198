import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from keras_nas_plugin.strategies.gaussian_process import (
    GaussianProcess,
    Hyperparameters,
    fit,
    negative_log_posterior,
)
from keras_nas_plugin.strategies.kernels import squared_distances

COLUMNS = np.array([0, 0, 1, 2])
KNOWN = Hyperparameters(np.array([0.5, 2.0, 0.1]), 0.03)


def data(count, seed=0):
    rng = np.random.default_rng(seed)
    points = rng.random((count, len(COLUMNS)))
    return points, np.sin(4.0 * points[:, 2]) + points[:, 0] + 0.1 * rng.normal(size=count)


def reference(points, scores, hyperparameters):
    lengths = 1.0 / np.sqrt(hyperparameters.weights[COLUMNS])
    kernel = Matern(lengths, "fixed", nu=2.5)
    model = GaussianProcessRegressor(kernel, alpha=hyperparameters.noise, optimizer=None)
    return model.fit(points, scores)


def test_the_posterior_against_scikit_learn():
    points, scores = data(25)
    others, _ = data(40, seed=1)
    mean, deviation = GaussianProcess(points, scores, COLUMNS, KNOWN).predict(others)
    expected = reference(points, scores, KNOWN).predict(others, return_std=True)
    np.testing.assert_allclose(mean, expected[0], atol=1e-5)
    np.testing.assert_allclose(deviation, expected[1], atol=1e-5)


def test_pending_points_leave_the_mean_and_shrink_the_deviation():
    points, scores = data(20)
    pending, others = data(4, seed=2)[0], data(40, seed=1)[0]
    alone = GaussianProcess(points, scores, COLUMNS, KNOWN).predict(others)
    mean, deviation = GaussianProcess(points, scores, COLUMNS, KNOWN, pending).predict(others)
    np.testing.assert_allclose(mean, alone[0], atol=1e-6)
    assert (deviation < alone[1]).all()
    # A deviation does not depend on scores: it is that of a search that has these as well.
    together = np.concatenate([points, pending])
    expected = reference(together, np.zeros(len(together)), KNOWN).predict(others, True)[1]
    np.testing.assert_allclose(deviation, expected, atol=1e-5)


def test_a_point_seen_twice_is_no_trouble():
    points, scores = data(6)
    model = GaussianProcess(
        np.concatenate([points] * 3),
        np.concatenate([scores] * 3),
        COLUMNS,
        Hyperparameters(KNOWN.weights, 1e-5),
        points,
    )
    mean, deviation = model.predict(points)
    np.testing.assert_allclose(mean, scores, atol=1e-2)
    assert (deviation < 0.01).all()


@given(st.integers(0, 2**32 - 1))
def test_the_gradient_against_finite_differences(seed):
    rng = np.random.default_rng(seed)
    points, scores = data(12, seed)
    parts = [points[:, at == COLUMNS] for at in range(3)]
    distances = np.stack([squared_distances(part, part).ravel() for part in parts])
    theta = np.concatenate([[-3.0], np.zeros(3), [-3.0]]) + rng.normal(size=5)
    _, gradient = negative_log_posterior(theta, distances, scores)
    numeric = optimize.approx_fprime(
        theta, lambda one: negative_log_posterior(one, distances, scores)[0], 1e-6
    )
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)


def test_the_value_differs_from_the_closed_form_by_a_constant():
    points, scores = data(15)
    parts = [points[:, at == COLUMNS] for at in range(3)]
    distances = np.stack([squared_distances(part, part).ravel() for part in parts])
    gaps = []
    for shared in (-4.0, -1.0, 1.0):
        theta = np.array([shared, 0.2, -0.1, 0.0, -3.0])
        known = Hyperparameters(np.exp(shared + theta[1:4]), np.exp(-3.0) + 1e-8)
        likelihood = reference(points, scores, known).log_marginal_likelihood_value_
        mean, deviation = -2.0 * (np.sqrt(2.0) + 0.5 * np.log(3.0)), 2.0 * np.sqrt(3.0)
        prior = -0.5 * ((shared - mean) / deviation) ** 2
        gaps.append(negative_log_posterior(theta, distances, scores)[0] + likelihood + prior)
    assert np.ptp(gaps) < 1e-4


def test_the_fit_finds_out_which_columns_matter_and_how_noisy_scores_are():
    """One column decides, one hardly does, two mean nothing; 120 points."""
    rng = np.random.default_rng(0)
    points = rng.random((120, 4))
    signal = np.sin(6.0 * points[:, 0]) + 0.2 * points[:, 1]
    signal = (signal - signal.mean()) / signal.std()
    columns = np.arange(4)
    clean = fit(points, columns, signal)
    noisy = fit(points, columns, signal + rng.normal(size=120))
    assert clean.weights[0] > 2.0 * clean.weights[2:].max()
    assert clean.noise < 0.02 < 0.3 < noisy.noise


def test_the_fit_is_a_function_of_its_arguments():
    points, scores = data(30)
    first, second = (fit(points, COLUMNS, scores) for _ in range(2))
    assert first.weights.tolist() == second.weights.tolist()
    assert first.noise == second.noise


@pytest.mark.parametrize("scores", [np.zeros(5), np.array([1.0]), np.array([1.0, -1.0])])
def test_few_or_equal_scores_can_be_fitted(scores):
    points = np.random.default_rng(0).random((len(scores), 4))
    found = fit(points, COLUMNS, scores)
    mean, deviation = GaussianProcess(points, scores, COLUMNS, found).predict(points)
    assert np.isfinite(mean).all() and (deviation > 0.0).all()
